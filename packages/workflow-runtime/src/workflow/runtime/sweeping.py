"""One bounded pass over what is due."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from workflow.core.records import ClaimedRun

from .claiming import PARTS, part_counts, shares
from .contract import ClaimLimits, ExecutionStore
from .driving import Budget, Driver
from .registry import Registry
from .results import RunResult, SweepResult

__all__ = ["Sweep"]


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
        self._open = [part for part, left in self._left.items() if left]
        """What there may be more of, and may be asked for. The first one is asked first where there is room for few."""
        self._keep_events = keep_events
        self._results: dict[str, list[RunResult[Any]]] = {
            "recovered": [],
            "ready": [],
            "scheduled": [],
            "timers": [],
        }
        self._tasks: set[asyncio.Task[None]] = set()
        self._cut_short = False
        """A limit was reached where there may be more."""
        self._out_of_time = False

    async def run(self) -> SweepResult:
        """Raises only what the store raises when nothing can be claimed at all; what was claimed is driven first."""
        try:
            while await self._fill() or self._tasks:
                await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
                self._take_ended()
        except asyncio.CancelledError:
            for task in self._tasks:
                task.cancel()
            raise
        finally:
            if self._tasks:
                await asyncio.wait(self._tasks)
        self._take_ended()
        return self._result()

    def _take_ended(self) -> None:
        for task in [task for task in self._tasks if task.done()]:
            self._tasks.discard(task)
            task.result()  # what a run does wrong is in its result: what is raised here is to end the process

    async def _fill(self) -> bool:
        """Claim until there is no room, no time, or nothing more: whether anything is under way then."""
        while self._open and (free := self._concurrency - len(self._tasks)) > 0:
            if self._budget.spent or self._driver.winding_down:
                self._out_of_time = True
                break
            await self._claim(free)
        return bool(self._tasks)

    async def _claim(self, free: int) -> None:
        asked = shares(self._open, self._left, free)
        now = self._budget.clock.now()
        lease = self._driver.lease(self._owner, now)
        claimed = await self._store.claim_due(self._ids, lease, limits=ClaimLimits(**asked), now=now)
        for run in claimed:
            self._tasks.add(asyncio.create_task(self._drive(run), name=f"drive {run.run.run_id}"))
        self._note(claimed, asked)

    def _note(self, claimed: Sequence[ClaimedRun], asked: dict[str, int]) -> None:
        counts = part_counts(claimed)
        for part in [part for part in self._open if asked[part]]:
            self._left[part] -= counts[part]
            self._open.remove(part)
            if counts[part] == asked[part] and self._left[part]:
                self._open.append(part)  # there may be more of it
            self._cut_short |= not self._left[part]

    async def _drive(self, claimed: ClaimedRun) -> None:
        result = await self._driver.drive_safely(claimed, self._owner, self._budget, keep_events=self._keep_events)
        self._results[PARTS[claimed.claimed_from]].append(result)

    def _result(self) -> SweepResult:
        yielded = any(result.kind == "queued" for results in self._results.values() for result in results)
        return SweepResult(
            summary=SweepResult.summarize(dict(self._results)),
            recovered=tuple(self._results["recovered"]),
            ready=tuple(self._results["ready"]),
            scheduled=tuple(self._results["scheduled"]),
            timers=tuple(self._results["timers"]),
            deadline_reached=self._out_of_time or self._budget.spent,
            remaining_may_exist=yielded or self._out_of_time or self._cut_short,
        )
