"""What we want to reach, as ratios within one run of the benchmark."""

from __future__ import annotations

import statistics
from dataclasses import dataclass

from bench.results import Report
from bench.rows import figure

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


def goals(report: Report) -> list[Goal]:
    """Those for which everything was measured.

    Each ratio is taken within a round, where both figures are a minute apart at most, and then the median of the
    rounds: what else goes on in the machine changes from minute to minute.
    """
    sizes = report.sizes
    most, longest = str(sizes["at_once"][-1]), str(sizes["histories"][-1])
    throughput, resume, late, early = (
        ("at_once", most, "per_second"),
        ("resume_ms", longest),
        ("step_ms", "late"),
        ("step_ms", "early"),
    )
    found = [
        *(_one_at_a_time(report, steps) for steps in sizes["lengths"]),
        _goal(
            f"{most} at once: runs/s, beside the best Python peer",
            [
                _ratio(ours, max(filter(None, peers), default=None))
                for ours, *peers in _each(report, throughput, *PEERS)
            ],
            8,
        ),
        _goal(
            f"{most} at once: runs/s, beside the group-commit floor",
            [_ratio(*pair) for pair in _each(report, throughput, "floor-group")],
            0.4,
        ),
        _goal(
            "sleepers due: wakes/s, beside Absurd",
            [_ratio(*pair) for pair in _each(report, ("per_second",), "absurd")],
            5,
        ),
        _goal(
            f"resume after {longest} steps: Absurd's time, beside ours",
            [_ratio(absurd, ours) for ours, absurd in _each(report, resume, "absurd")],
            3,
        ),
        _goal(
            f"a step near the {longest}th, beside one near the 10th",
            [_ratio(*pair) for pair in zip(_own(report, late), _own(report, early), strict=True)],
            1.15,
            at_most=True,
        ),
        _goal("statements of a 5-step run", _own(report, ("single", "statements")), 6, at_most=True),
        _goal(
            f"the same, {sizes['counted_at_once']} at once",
            _own(report, ("at_once_counts", "statements")),
            1,
            at_most=True,
        ),
    ]
    return [goal for goal in found if goal is not None]


def _one_at_a_time(report: Report, steps: int) -> Goal | None:
    pairs = _each(report, ("single_ms", str(steps)), "floor-single")
    title = f"one at a time, {steps} step{'s' if steps > 1 else ''}: time, beside {steps + 1} bare commits"
    return _goal(title, [_ratio(*pair) for pair in pairs], 1.4, at_most=True)


def _each(report: Report, path: tuple[str, ...], *others: str) -> list[tuple[float | None, ...]]:
    """For each round, our figure and those of others."""
    rounds = [report.round(number) for number in range(report.sizes["rounds"])]
    return [tuple(figure(figures, key, path) for key in (OURS, *others)) for figures in rounds]


def _own(report: Report, path: tuple[str, ...]) -> list[float | None]:
    return [figures[0] for figures in _each(report, path)]


def _ratio(value: float | None, beside: float | None) -> float | None:
    return value / beside if value is not None and beside else None


def _goal(title: str, ratios: list[float | None], wanted: float, *, at_most: bool = False) -> Goal | None:
    known = [ratio for ratio in ratios if ratio is not None]
    return Goal(title, statistics.median(known), wanted, at_most) if known else None
