"""Queues: how many runs may be driven at once, how many may start in a while, and which go first.

A queue has no existence in the store: it is a name that runs carry, and its limits are those of the process that
claims. So limits change with a deploy, nothing has to be set up, and a slot can't leak: a slot is taken by being in
the state that is counted (`running`, or started and not ended), and by nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from workflow.core import DefinitionError
from workflow.core.arguments import Duration, identifier

from .spans import count, span

__all__ = ["Holds", "Queue", "RateLimit", "checked_queues"]

Holds = Literal["running", "started"]


@dataclass(frozen=True)
class RateLimit:
    """At most `limit` runs start in any span of `per` (seconds or a timedelta)."""

    limit: int
    per: Duration = 1.0

    def __post_init__(self) -> None:
        count(self.limit, "RateLimit.limit", least=1)
        if not span(self.per, "RateLimit.per"):
            raise DefinitionError("RateLimit.per must be longer than nothing.")

    @property
    def period(self) -> timedelta:
        return span(self.per, "RateLimit.per")


@dataclass(frozen=True)
class Queue:
    """A queue and its limits. Runs get into it by `start_run(..., queue=name)` or by their `Registration`.

    - `concurrency`: how many of its runs may hold a slot at once, over all processes.
    - `concurrency_per_key`: the same for the runs of each `key`; runs without a key are not limited by it.
    - `rate_limit`, `rate_limit_per_key`: how many runs may start (be driven for the first time) in a span of time.
    - `holds`: what holds a slot. `"running"`: a run that is being driven; one that sleeps or waits gives its slot back,
      and takes one again when it goes on. `"started"`: a run from its first drive to its end, waits included: for work
      that must not interleave.

    Of the runs that are due, those of higher priority go first, then the longest due. Every fourth claim goes by age
    alone, so that a flood of high priority can't starve the rest.
    """

    name: str
    concurrency: int | None = None
    concurrency_per_key: int | None = None
    rate_limit: RateLimit | None = None
    rate_limit_per_key: RateLimit | None = None
    holds: Holds = "running"

    def __post_init__(self) -> None:
        identifier(self.name, "queue name")
        for limit, what in ((self.concurrency, "concurrency"), (self.concurrency_per_key, "concurrency_per_key")):
            if limit is not None:
                count(limit, f"{what} of queue {self.name!r}", least=1)
        for rate in (self.rate_limit, self.rate_limit_per_key):
            if rate is not None and not isinstance(rate, RateLimit):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise DefinitionError(
                    f"A rate limit of queue {self.name!r}: write RateLimit(100, per=60), not {rate!r}."
                )
        if self.holds not in ("running", "started"):
            raise DefinitionError(f"holds of queue {self.name!r} must be 'running' or 'started', not {self.holds!r}.")

    @property
    def in_words(self) -> str:
        """The limits, for people."""
        what = "driven" if self.holds == "running" else "begun and not ended"
        rates = ((self.rate_limit, ""), (self.rate_limit_per_key, " of one key"))
        parts = [
            *([f"{self.concurrency} runs {what} at once"] if self.concurrency else []),
            *([f"{self.concurrency_per_key} of one key"] if self.concurrency_per_key else []),
            *(f"{rate.limit} starts{of} in {rate.period.total_seconds():g} s" for rate, of in rates if rate),
        ]
        return ", ".join(parts) or "any number"

    @property
    def limited(self) -> bool:
        limits = (self.concurrency, self.concurrency_per_key, self.rate_limit, self.rate_limit_per_key)
        return any(limit is not None for limit in limits)


def checked_queues(queues: Iterable[Queue]) -> Mapping[str, Queue]:
    """By name. Raises `DefinitionError` where two have one name."""
    found: dict[str, Queue] = {}
    for queue in queues:
        if not isinstance(queue, Queue):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise DefinitionError(f"queues is a list of queues such as Queue('mail', concurrency=10), not {queue!r}.")
        if queue.name in found:
            raise DefinitionError(f"There are two queues named {queue.name!r}: a queue has one set of limits.")
        found[queue.name] = queue
    return found
