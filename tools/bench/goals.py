"""What we want to reach, as ratios within one run of the benchmark."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bench.rows import Figures, figure

__all__ = ["Goal", "goals"]

OURS = "ours-postgres"
PEERS = ("dbos", "absurd")


@dataclass(frozen=True, slots=True)
class Goal:
    title: str
    ratio: float
    wanted: float
    at_most: bool

    @property
    def met(self) -> bool:
        return self.ratio <= self.wanted if self.at_most else self.ratio >= self.wanted

    @property
    def want(self) -> str:
        return f"{'at most' if self.at_most else 'at least'} {self.wanted:g}"


def goals(figures: Figures, sizes: dict[str, Any]) -> list[Goal]:
    """Those for which everything was measured."""
    most, longest = str(sizes["at_once"][-1]), str(sizes["histories"][-1])
    throughput, resume = ("at_once", most, "per_second"), ("resume_ms", longest)
    best_peer = max((figure(figures, peer, throughput) or 0.0 for peer in PEERS), default=0.0) or None
    found = [
        *(
            _goal(
                f"one at a time, {n} steps: time, beside {n + 1} bare commits",
                _figure(figures, ("single_ms", str(n))),
                figure(figures, "floor-single", ("single_ms", str(n))),
                1.4,
                at_most=True,
            )
            for n in sizes["lengths"]
        ),
        _goal(f"{most} at once: runs/s, beside the best Python peer", _figure(figures, throughput), best_peer, 8),
        _goal(
            f"{most} at once: runs/s, beside the group-commit floor",
            _figure(figures, throughput),
            figure(figures, "floor-group", throughput),
            0.4,
        ),
        _goal(
            "sleepers due: wakes/s, beside Absurd",
            _figure(figures, ("per_second",)),
            figure(figures, "absurd", ("per_second",)),
            5,
        ),
        _goal(
            f"resume after {longest} steps: Absurd's time, beside ours",
            figure(figures, "absurd", resume),
            _figure(figures, resume),
            3,
        ),
        _goal(
            f"a step near the {longest}th, beside one near the 10th",
            _figure(figures, ("step_ms", "late")),
            _figure(figures, ("step_ms", "early")),
            1.15,
            at_most=True,
        ),
        _goal("statements of a 5-step run", _figure(figures, ("single", "statements")), 1.0, 6, at_most=True),
        _goal("the same, many at once", _figure(figures, ("at_once_counts", "statements")), 1.0, 1, at_most=True),
    ]
    return [goal for goal in found if goal is not None]


def _figure(figures: Figures, path: tuple[str, ...]) -> float | None:
    return figure(figures, OURS, path)


def _goal(
    title: str, value: float | None, beside: float | None, wanted: float, *, at_most: bool = False
) -> Goal | None:
    return Goal(title, value / beside, wanted, at_most) if value is not None and beside else None
