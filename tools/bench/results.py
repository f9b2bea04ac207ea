"""What a benchmark has measured: its shape as JSON, and the medians of its rounds."""

from __future__ import annotations

import statistics
from typing import Any

from pydantic import BaseModel, ConfigDict

__all__ = ["Crowded", "Report", "medians"]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Crowded(_Strict):
    """Operations on a store with many runs, beside those on an empty one."""

    ended: int
    asleep: int
    due: int
    filled_in_s: float
    empty_ms: dict[str, float]
    full_ms: dict[str, float]
    plans: dict[str, list[str]]


class Report(_Strict):
    """Everything: written as JSON, and read again to draw the page anew."""

    format: int = 1
    when: str
    took_s: float
    machine: dict[str, str]
    versions: dict[str, str]
    sizes: dict[str, Any]
    rounds: dict[str, dict[str, list[dict[str, Any]]]]
    """By system and measure: the numbers of each round."""
    failures: list[str] = []
    scale: dict[str, float] = {}
    """Runs a second, by the number of worker processes."""
    crowded: Crowded | None = None

    def figures(self) -> dict[str, dict[str, Any]]:
        """By system, the medians of all its measures in one dictionary."""
        return {
            system: {name: value for rounds in measures.values() for name, value in medians(rounds).items()}
            for system, measures in self.rounds.items()
        }

    def round(self, number: int) -> dict[str, dict[str, Any]]:
        """By system, the figures of one round. What was measured once only is in the first."""
        return {
            system: {name: value for rounds in measures.values() for name, value in _at(rounds, number).items()}
            for system, measures in self.rounds.items()
        }


def _at(rounds: list[dict[str, Any]], number: int) -> dict[str, Any]:
    return rounds[number] if number < len(rounds) else {}


def medians(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    """Number by number, whatever the depth. What only some rounds have is the median of those."""
    names = list(dict.fromkeys(name for one in rounds for name in one))
    return {name: _median([one[name] for one in rounds if name in one]) for name in names}


def _median(values: list[Any]) -> Any:
    return medians(values) if isinstance(values[0], dict) else statistics.median(values)
