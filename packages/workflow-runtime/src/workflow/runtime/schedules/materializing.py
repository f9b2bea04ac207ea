"""Having the plans of the registered schedules carried out by the store: one read, and a commit for whatever is due.

Any number of processes may do so at once. Of the commits on one revision of a row one succeeds; who has lost the race
reads again and plans again, and mostly finds that there is nothing left to do.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from workflow.core import StoreUnavailableError
from workflow.core.records import NewRun
from workflow.runtime.contract import ExecutionStore

from .planning import plan
from .records import ScheduleCommit, ScheduleKey, ScheduleRecord
from .schedule import Registered
from .state import State

__all__ = ["Materialized", "Materializer", "after_commit"]

logger = logging.getLogger("workflow.runtime")

_RACES = 3
"""How often a schedule whose race was lost is planned for again, before it is left to the winners."""


@dataclass(slots=True)
class Materialized:
    """What came of looking at the schedules once."""

    started: list[NewRun] = field(default_factory=list[NewRun])
    """The runs that this process has started, in order."""
    cancelled: list[str] = field(default_factory=list[str])
    """The runs that were asked to cancel."""
    remaining: bool = False
    """Ticks are left that are due."""
    due_at: datetime | None = None
    """When the next tick is due, as far as is known."""
    waiting: set[ScheduleKey] = field(default_factory=set[ScheduleKey])
    """Schedules with a tick that waits for a run to end."""
    error: Exception | None = None
    """What the store has raised; what was done before it is done."""


class Materializer:
    """Looks at the schedules of one process."""

    def __init__(
        self,
        store: ExecutionStore,
        schedules: Sequence[Registered],
        tell: Callable[[str], object] = lambda run_id: None,
    ) -> None:
        """`tell` is called with each run that was asked to cancel: this process may drive it."""
        self._store = store
        self._tell = tell
        self._schedules = {item.key: item for item in schedules}
        self._complaints: dict[ScheduleKey, str] = {}

    def __bool__(self) -> bool:
        return bool(self._schedules)

    async def look(self, now: datetime, max_runs: int, stop: Callable[[], bool] = lambda: False) -> Materialized:
        """Do what is due, starting at most `max_runs` runs, until `stop()`. Never raises: see `Materialized.error`.

        A schedule whose plan can't be made is left for the next time, with an error in the log; the others go on.
        """
        done = Materialized()
        if not self._schedules or not max_runs:
            return done
        try:
            records = {record.key: record for record in await self._store.read_schedules(list(self._schedules))}
            round_ = _Round(self._store, self._schedules, records, self._complaints, done, now, max_runs)
            await round_.run(stop)
        except Exception as error:
            done.error = error  # to call again at once would not help
        for run_id in done.cancelled:
            self._tell(run_id)
        return done


class _Round:
    """One commit for each schedule in turn, the longest due first, so that a long backlog holds nobody up."""

    def __init__(
        self,
        store: ExecutionStore,
        schedules: dict[ScheduleKey, Registered],
        records: dict[ScheduleKey, ScheduleRecord],
        complaints: dict[ScheduleKey, str],
        done: Materialized,
        now: datetime,
        max_runs: int,
    ) -> None:
        self._store = store
        self._schedules = schedules
        self._records = records
        self._complaints = complaints
        self._done = done
        self._now = now
        self._max_runs = max_runs
        self._races: Counter[ScheduleKey] = Counter()

    async def run(self, stop: Callable[[], bool]) -> None:
        open_ = sorted(self._schedules, key=self._due_at)
        while open_:
            for key in tuple(open_):
                if stop():
                    self._done.remaining = True
                    return
                if not await self._step(key):
                    open_.remove(key)
        self._sum_up()

    def _due_at(self, key: ScheduleKey) -> datetime:
        record = self._records.get(key)
        return self._now if record is None or record.due_at is None else record.due_at

    async def _step(self, key: ScheduleKey) -> bool:
        """One commit for this schedule: whether there may be another one."""
        commit = self._plan(key)
        if commit is None:
            return False
        if commit.starts and len(self._done.started) >= self._max_runs:
            self._done.remaining = True
            return False
        try:
            moved = await self._store.commit_schedule(commit)
        except (StoreUnavailableError, OSError):
            raise
        except Exception as error:
            self._complain(key, error)
            return False
        if not moved:
            return await self._lost(key)
        self._complaints.pop(key, None)
        self._done.started += commit.starts
        self._done.cancelled += commit.cancel
        self._records[key] = after_commit(self._records.get(key), commit)
        return True

    def _plan(self, key: ScheduleKey) -> ScheduleCommit | None:
        try:
            commit = plan(self._schedules[key], self._records.get(key), self._now)
        except Exception as error:
            self._complain(key, error)
            return None
        if commit is None:
            self._complaints.pop(key, None)
        return commit

    def _complain(self, key: ScheduleKey, error: Exception) -> None:
        """Once for each reason: a sweep comes every minute, and a worker looks every few seconds."""
        reason = f"{type(error).__name__}: {error}"
        level = logging.DEBUG if self._complaints.get(key) == reason else logging.ERROR
        self._complaints[key] = reason
        logger.log(
            level,
            "Schedule %r of workflow %r can't go on, and is tried again: %s",
            key.schedule_id,
            key.workflow_id,
            reason,
            exc_info=error,
        )

    async def _lost(self, key: ScheduleKey) -> bool:
        self._races[key] += 1
        if self._races[key] > _RACES:
            self._done.remaining = True
            return False
        for record in await self._store.read_schedules([key]):
            self._records[key] = record
        return True

    def _sum_up(self) -> None:
        mine = [record for record in self._records.values() if record.key not in self._complaints]
        ahead = [record.due_at for record in mine if record.due_at is not None and record.due_at > self._now]
        self._done.due_at = min(ahead, default=None)
        self._done.waiting = {record.key for record in mine if State.read(record.key, record.data).waiting is not None}


def after_commit(record: ScheduleRecord | None, commit: ScheduleCommit) -> ScheduleRecord:
    """The row as a commit that succeeded has left it, as far as this process knows."""
    active = () if record is None else tuple(id for id in record.active if id not in commit.terminate)
    started = tuple(new.run_id for new in commit.starts if new.run_id not in active)
    return ScheduleRecord(
        key=commit.key,
        revision=commit.expected_revision + 1,
        due_at=commit.due_at,
        paused=commit.paused,
        data=commit.data,
        created_at=commit.now if record is None else record.created_at,
        updated_at=commit.now,
        active=(*active, *started),
    )
