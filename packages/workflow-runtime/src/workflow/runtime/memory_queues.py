"""Which runs of a queue a claim may take: the rules of `ExecutionStore.claim_queue`, in plain Python."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from datetime import datetime
from typing import Any

from workflow.core.memory import StoredRun

from .contract import ClaimLimits
from .queues import Queue, RateLimit

__all__ = ["pick"]


def pick(
    queue: Queue,
    runs: Collection[StoredRun],
    wanted: Iterable[StoredRun],
    *,
    limits: ClaimLimits,
    now: datetime,
    by_age: bool,
) -> list[StoredRun]:
    """Those of `wanted` to claim, in order; `runs` are all of the queue, which hold its slots."""
    room = _Room(queue, runs, now)
    left = {"running": limits.recovered, "queued": limits.ready, "paused": limits.timers}
    picked: list[StoredRun] = []
    for run in sorted(_due(wanted, now), key=lambda run: _rank(run, by_age)):
        if left[run.status] and (run.status == "running" or room.take(run)):
            left[run.status] -= 1
            picked.append(run)
    return picked


def _due(runs: Iterable[StoredRun], now: datetime) -> Iterator[StoredRun]:
    return (run for run in runs if run.is_due(now))


def _rank(run: StoredRun, by_age: bool) -> tuple[Any, ...]:
    return (0 if by_age else -run.priority, run.due_at, run.run_id)


class _Room:
    """What the limits of a queue still allow."""

    def __init__(self, queue: Queue, runs: Iterable[StoredRun], now: datetime) -> None:
        self._queue = queue
        self._taken: Counter[str | None] = Counter()
        self._started: dict[RateLimit, Counter[str | None]] = {}
        for limit in (queue.rate_limit, queue.rate_limit_per_key):
            if limit is not None:
                self._started[limit] = Counter()
        for run in runs:
            self._taken[run.key] += self._holds(run)
            for limit, started in self._started.items():
                started[run.key] += run.started_at is not None and run.started_at > now - limit.period

    def _holds(self, run: StoredRun) -> bool:
        if self._queue.holds == "started":
            return run.started_at is not None and not run.ended
        return run.status == "running"

    def take(self, run: StoredRun) -> bool:
        """Whether there is room for it, which it takes then."""
        needs_slot = not self._holds(run)
        if (needs_slot and not self._has_slot(run)) or (run.started_at is None and not self._may_start(run)):
            return False
        self._taken[run.key] += needs_slot
        if run.started_at is None:
            for started in self._started.values():
                started[run.key] += 1
        return True

    def _has_slot(self, run: StoredRun) -> bool:
        queue, taken = self._queue, self._taken
        if queue.concurrency is not None and taken.total() >= queue.concurrency:
            return False
        return run.key is None or queue.concurrency_per_key is None or taken[run.key] < queue.concurrency_per_key

    def _may_start(self, run: StoredRun) -> bool:
        total, per_key = self._queue.rate_limit, self._queue.rate_limit_per_key
        if total is not None and self._started[total].total() >= total.limit:
            return False
        return run.key is None or per_key is None or self._started[per_key][run.key] < per_key.limit
