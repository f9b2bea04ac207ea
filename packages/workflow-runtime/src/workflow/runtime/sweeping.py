"""One bounded pass over what is due."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

from workflow.core import ErrorInfo
from workflow.core.records import ClaimedRun, RunStatus

from .contract import ClaimLimits, ExecutionStore
from .driving import Budget, Driver
from .registry import Registry
from .results import RunResult, SweepResult

__all__ = ["Sweep"]

logger = logging.getLogger("workflow.runtime")

_PARTS: dict[RunStatus, str] = {"running": "recovered", "queued": "ready", "paused": "timers"}


class Sweep:
    """Claims what is due in batches and drives it concurrently, until nothing is left, or a bound is reached.

    One bad run can't stop it: what goes wrong with a run is that run's result.
    """

    def __init__(
        self,
        store: ExecutionStore,
        registry: Registry,
        driver: Driver,
        owner: str,
        budget: Budget,
        *,
        concurrency: int,
        max_recovered: int,
        max_ready: int,
        max_timers: int,
        keep_events: bool,
    ) -> None:
        self._store = store
        self._ids = registry.ids
        self._driver = driver
        self._owner = owner
        self._budget = budget
        self._concurrency = concurrency
        self._left = {"recovered": max_recovered, "ready": max_ready, "timers": max_timers}
        self._keep_events = keep_events
        self._results: dict[str, list[RunResult[Any]]] = {
            "recovered": [],
            "ready": [],
            "scheduled": [],
            "timers": [],
        }
        self._tasks: set[asyncio.Task[None]] = set()
        self._exhausted = False
        self._out_of_time = False

    async def run(self) -> SweepResult:
        """Raises only what the store raises when nothing can be claimed at all; what was claimed is driven first."""
        try:
            while await self._claim() or self._tasks:
                if self._tasks:
                    await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            for task in self._tasks:
                task.cancel()
            raise
        finally:
            if self._tasks:
                await asyncio.wait(self._tasks)
        return self._result()

    async def _claim(self) -> bool:
        """Take the next batch, if there is room and time for one: whether it brought anything."""
        free = self._concurrency - len(self._tasks)
        if self._exhausted or free <= 0:
            return False
        if self._budget.spent:
            self._out_of_time = True
            return False
        limits = ClaimLimits(**{part: min(free, left) for part, left in self._left.items()})
        if not (limits.recovered or limits.ready or limits.timers):
            return False
        now = self._budget.clock.now()
        claimed = await self._store.claim_due(self._ids, self._driver.lease(self._owner, now), limits=limits, now=now)
        self._note(claimed, limits)
        for run in claimed:
            task = asyncio.create_task(self._drive(run), name=f"drive {run.run.run_id}")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return bool(claimed)

    def _note(self, claimed: Sequence[ClaimedRun], limits: ClaimLimits) -> None:
        counts = dict.fromkeys(self._left, 0)
        for run in claimed:
            counts[_PARTS[run.claimed_from]] += 1
        for part, count in counts.items():
            self._left[part] -= count
        # Fewer than asked for: there was no more of it.
        self._exhausted = all(count < getattr(limits, part) or not getattr(limits, part) for part, count in counts.items())

    async def _drive(self, claimed: ClaimedRun) -> None:
        try:
            result = await self._driver.drive(claimed, self._owner, self._budget, keep_events=self._keep_events)
        except Exception as error:
            logger.exception("Run %r could not be driven; it goes on when its lease has run out.", claimed.run.run_id)
            result = RunResult[Any](
                "running", claimed.run.run_id, claimed.run.workflow_id, error=ErrorInfo.of(error), exception=error
            )
        self._results[_PARTS[claimed.claimed_from]].append(result)

    def _result(self) -> SweepResult:
        yielded = any(result.kind == "queued" for results in self._results.values() for result in results)
        return SweepResult(
            summary=SweepResult.summarize(dict(self._results)),
            recovered=tuple(self._results["recovered"]),
            ready=tuple(self._results["ready"]),
            scheduled=tuple(self._results["scheduled"]),
            timers=tuple(self._results["timers"]),
            deadline_reached=self._out_of_time or self._budget.spent,
            remaining_may_exist=yielded or self._out_of_time or not self._exhausted,
        )


