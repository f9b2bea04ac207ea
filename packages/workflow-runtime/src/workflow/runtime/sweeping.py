"""One bounded pass over what is due."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from zlib import crc32

from workflow.core.records import ENDED, ClaimedRun, NewRun

from .claiming import PARTS, Rota, Turn, part_counts
from .contract import ExecutionStore
from .driving import Budget, Driver
from .registry import Registry
from .results import RunResult, SweepResult
from .schedules.materializing import Materialized, Materializer
from .schedules.records import ScheduleKey

__all__ = ["Sweep"]

logger = logging.getLogger("workflow.runtime")


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
        materializer: Materializer,
        concurrency: int,
        max_scheduled_runs: int,
        max_recovered: int,
        max_ready: int,
        max_timers: int,
        keep_events: bool,
    ) -> None:
        self._store = store
        claims = _claims_before(budget.clock.now())
        self._rota = Rota.of(registry.ids, queues=registry.queues.values(), claims=claims)
        self._rota.reopen()
        self._driver = driver
        self._owner = owner
        self._budget = budget
        self._queues = registry.queues
        self._materializer = materializer
        self._max_scheduled_runs = max_scheduled_runs
        self._materialized = Materialized()
        self._scheduled = deque[NewRun]()
        """Runs that this sweep has started for schedules, and has still to claim."""
        self._concurrency = concurrency
        self._left = {"recovered": max_recovered, "ready": max_ready, "timers": max_timers}
        self._close_used_up()
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

    @property
    def next_tick_at(self) -> datetime | None:
        """When a tick is due next, as far as the sweep has seen."""
        return self._materialized.due_at

    async def run(self) -> SweepResult:
        """Raises only what the store raises when nothing can be claimed at all; what was claimed is driven first."""
        try:
            await self._materialize()
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

    async def _materialize(self) -> None:
        """Start the runs of ticks that are due. Those of queues with limits are left to the claims of their queues."""
        now = self._budget.clock.now()
        done = await self._materializer.look(now, self._max_scheduled_runs, lambda: self._no_time)
        if done.error is not None:
            logger.error("The sweep can't see to the schedules, and goes on: %r", done.error)
        self._materialized = done
        for new in done.started:
            queue = None if new.queue is None else self._queues.get(new.queue)
            if queue is None or not queue.limited:
                self._scheduled.append(new)

    @property
    def _no_time(self) -> bool:
        return self._budget.spent or self._driver.winding_down

    async def _fill(self) -> bool:
        """Claim until there is no room, no time, or nothing more: whether anything is under way then."""
        while (self._scheduled or not self._rota.dry) and (free := self._concurrency - len(self._tasks)) > 0:
            if self._no_time:
                self._out_of_time = True
                break
            if self._scheduled:
                await self._claim_scheduled(self._scheduled.popleft())
            elif (turn := self._rota.next(free, self._left)) is not None:
                await self._claim(turn)
        return bool(self._tasks)

    async def _claim_scheduled(self, new: NewRun) -> None:
        now = self._budget.clock.now()
        claimed = await self._store.claim_run(new.run_id, self._driver.lease(self._owner, now), now=now)
        if claimed is not None:  # otherwise somebody else was quicker
            drive = self._drive(claimed, "scheduled")
            self._tasks.add(asyncio.create_task(drive, name=f"drive {new.run_id}"))

    async def _claim(self, turn: Turn) -> None:
        now = self._budget.clock.now()
        lease = self._driver.lease(self._owner, now)
        claimed = await turn.claim(self._store, lease, now)
        for run in claimed:
            turn.group.begun()
            drive = self._drive(run, PARTS[run.claimed_from])
            task = asyncio.create_task(drive, name=f"drive {run.run.run_id}")
            self._tasks.add(task)
            task.add_done_callback(lambda _: self._made_room(turn))
        self._note(turn, claimed)

    def _note(self, turn: Turn, claimed: Sequence[ClaimedRun]) -> None:
        turn.note(claimed)
        for part, count in part_counts(claimed).items():
            self._left[part] -= count
            self._cut_short |= not self._left[part]  # there may be more of it
        self._close_used_up()

    def _close_used_up(self) -> None:
        """Ask for no part of which the sweep has had as many as it may."""
        for part in [part for part, left in self._left.items() if not left]:
            self._rota.close(part)

    def _made_room(self, turn: Turn) -> None:
        turn.group.ended()
        self._close_used_up()

    async def _drive(self, claimed: ClaimedRun, part: str) -> None:
        result = await self._driver.drive_safely(claimed, self._owner, self._budget, keep_events=self._keep_events)
        self._results[part].append(result)
        key = ScheduleKey(claimed.run.workflow_id, claimed.run.schedule_id or "")
        if result.kind in ENDED and key in self._materialized.waiting:
            self._cut_short = True  # a tick has waited for that

    def _result(self) -> SweepResult:
        yielded = any(result.kind == "queued" for results in self._results.values() for result in results)
        return SweepResult(
            summary=SweepResult.summarize(dict(self._results)),
            recovered=list(self._results["recovered"]),
            ready=list(self._results["ready"]),
            scheduled=list(self._results["scheduled"]),
            timers=list(self._results["timers"]),
            deadline_reached=self._out_of_time or self._budget.spent,
            remaining_may_exist=yielded or self._out_of_time or self._cut_short or self._materialized.remaining,
        )


def _claims_before(now: datetime) -> int:
    """Where a sweep takes up the turns of age and priority. A host may get one run of a queue with each sweep, in a
    process that remembers no other: with a fixed beginning, age would never have its turn."""
    return crc32(now.isoformat().encode())
