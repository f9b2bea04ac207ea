"""Schedules and reopened runs of the `MemoryStore`. No method awaits anything, so each is atomic by itself."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from workflow.core.memory import InMemoryRunStore, StoredRun
from workflow.core.records import LogRecord, NewMail, RunRecord

from .contract import TICKS_KEPT, ExecutionStore
from .schedules.records import ScheduleCommit, ScheduleKey, ScheduleRecord, TickRecord

__all__ = ["MemorySchedules"]

_Place = tuple[int, int]


@dataclass(slots=True, eq=False)
class _Stored:
    key: ScheduleKey
    created_at: datetime
    updated_at: datetime
    due_at: datetime | None = None
    paused: bool = False
    data: str = ""
    revision: int = 0
    ticks: dict[_Place, TickRecord] = field(default_factory=dict[_Place, TickRecord])


class MemorySchedules(InMemoryRunStore, ExecutionStore):
    """What `MemoryStore` knows about schedules, and how it reopens runs."""

    def __init__(self) -> None:
        super().__init__()
        self._schedules: dict[ScheduleKey, _Stored] = {}
        self._runs_of: defaultdict[ScheduleKey, set[str]] = defaultdict(set)

    async def read_schedules(self, keys: Collection[ScheduleKey] | None = None) -> Sequence[ScheduleRecord]:
        found = self._schedules if keys is None else self._schedules.keys() & set(keys)
        return [self._record(self._schedules[key]) for key in sorted(found, key=_order)]

    async def commit_schedule(self, commit: ScheduleCommit) -> bool:
        schedule = self._schedules.get(commit.key)
        if (schedule.revision if schedule is not None else 0) != commit.expected_revision:
            return False
        if schedule is None:
            schedule = self._schedules[commit.key] = _Stored(commit.key, commit.now, commit.now)
        _move(schedule, commit)
        for new in commit.starts:
            await self.create_run(new, lease=None, now=commit.now)
        for run_id in commit.cancel:
            assert commit.cancel_mail is not None
            await self.deliver(run_id, commit.cancel_mail, lease=None, now=commit.now)
        for run_id in commit.terminate:
            self._terminate(run_id, commit)
        return True

    async def list_ticks(
        self, key: ScheduleKey, *, limit: int = 50, before: tuple[int, int] | None = None
    ) -> Sequence[tuple[tuple[int, int], TickRecord]]:
        schedule = self._schedules.get(key)
        ticks = {} if schedule is None else schedule.ticks
        places = [place for place in sorted(ticks, reverse=True) if before is None or place < before]
        return [(place, ticks[place]) for place in places[:limit]]

    async def reopen(
        self,
        run_id: str,
        *,
        expected_index: int,
        record: LogRecord,
        mail: Sequence[NewMail],
        expires_at: datetime | None,
        now: datetime,
    ) -> RunRecord | None:
        run = self._runs.get(run_id)
        if run is None or run.status not in ("errored", "cancelled") or len(run.log) != expected_index:
            return None
        run.log.append(record)
        run.inbox = {seq: item for seq, item in run.inbox.items() if item.kind != "cancel"}
        run.delivered = {item for item in run.delivered if item[0] != "cancel"}
        run.status, run.due_at, run.updated_at = "queued", now, now
        run.completed_at = run.error = None
        run.fence += run.fence > 0
        run.waits, run.recoveries, run.expires_at = (), 0, expires_at
        for item in mail:
            self._put(run, item, now)
        self._moved(run)
        return run.record()

    def _record(self, schedule: _Stored) -> ScheduleRecord:
        runs = [self._runs[run_id] for run_id in self._runs_of[schedule.key]]
        active = sorted((run.created_at, run.run_id) for run in runs if not run.ended)
        return ScheduleRecord(
            schedule.key,
            schedule.revision,
            schedule.due_at,
            schedule.paused,
            schedule.data,
            schedule.created_at,
            schedule.updated_at,
            tuple(run_id for _, run_id in active),
        )

    def _terminate(self, run_id: str, commit: ScheduleCommit) -> None:
        run = self._runs.get(run_id)
        if run is None or run.ended:
            return
        assert commit.termination is not None
        run.log.append(LogRecord(len(run.log), commit.termination))
        run.status, run.due_at, run.owner, run.waits = "cancelled", None, None, ()
        run.completed_at = run.updated_at = commit.now
        run.fence += run.fence > 0
        self._moved(run)

    def _added(self, run: StoredRun) -> None:
        super()._added(run)
        if run.schedule_id is not None:
            self._runs_of[ScheduleKey(run.workflow_id, run.schedule_id)].add(run.run_id)

    def _forget(self, run_id: str) -> None:
        run = self._runs[run_id]
        if run.schedule_id is not None:
            self._runs_of[ScheduleKey(run.workflow_id, run.schedule_id)].discard(run_id)
        super()._forget(run_id)


def _move(schedule: _Stored, commit: ScheduleCommit) -> None:
    schedule.revision += 1
    schedule.due_at, schedule.paused, schedule.data = commit.due_at, commit.paused, commit.data
    schedule.updated_at = commit.now
    for number, tick in enumerate(commit.ticks):
        schedule.ticks[schedule.revision, number] = tick
    oldest = schedule.revision - TICKS_KEPT
    for place in [place for place in schedule.ticks if place[0] <= oldest]:
        del schedule.ticks[place]


def _order(key: ScheduleKey) -> tuple[str, str]:
    return key.workflow_id, key.schedule_id
