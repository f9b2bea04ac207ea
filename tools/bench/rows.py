"""The rows of the tables: which figure of which system, and how it is written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

__all__ = ["Row", "cell", "figure", "number", "rows"]

Figures = dict[str, dict[str, Any]]
NOTHING = "-"


@dataclass(frozen=True, slots=True)
class Row:
    """One measure. `path` leads to its figure among those of a system."""

    title: str
    path: tuple[str, ...]
    unit: str
    more_is_better: bool = False
    write: Callable[[float], str] | None = None


def number(value: float) -> str:
    """Three digits that count, and no exponent."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def figure(figures: Figures, system: str, path: tuple[str, ...]) -> float | None:
    """The figure, or None where it was not measured."""
    found: Any = figures.get(system, {})
    for part in path:
        found = found.get(part) if isinstance(found, dict) else None
    return float(found) if isinstance(found, (int, float)) else None


def cell(figures: Figures, system: str, row: Row) -> str:
    value = figure(figures, system, row.path)
    return NOTHING if value is None else (row.write or number)(value)


def rows(sizes: dict[str, Any]) -> list[Row]:
    """All rows, for what was measured."""
    lengths, at_once, histories = sizes["lengths"], sizes["at_once"], sizes["histories"]
    most = str(at_once[-1])
    return [
        *(Row(f"one at a time, {n} step{'s' if n > 1 else ''}", ("single_ms", str(n)), "ms") for n in lengths),
        *(Row(f"{n:,} at once", ("at_once", str(n), "per_second"), "runs/s", True) for n in at_once),
        Row(f"{sizes['sleepers']:,} sleepers due", ("per_second",), "wakes/s", True),
        *(Row(f"resume after {n:,} steps", ("resume_ms", str(n)), "ms") for n in histories),
        Row("a step near the 10th", ("step_ms", "early"), "ms"),
        Row(f"a step near the {histories[-1]:,}th", ("step_ms", "late"), "ms"),
        Row("statements a run, one at a time", ("single", "statements"), ""),
        Row(f"statements a run, {sizes['counted_at_once']} at once", ("at_once_counts", "statements"), ""),
        Row("transactions a run, one at a time", ("single", "transactions"), ""),
        Row(f"transactions a run, {sizes['counted_at_once']} at once", ("at_once_counts", "transactions"), ""),
        Row(f"client CPU a run, {int(most):,} at once", ("at_once", most, "cpu_ms"), "ms"),
        Row("peak memory of the process", ("memory_mb", "peak"), "MB"),
    ]
