"""What people do to a schedule: pause, resume, trigger, backfill. Pure, as planning is: each is one commit.

None of it needs the process to be of the version that the row goes by; what needs a spec or an input says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from .records import ScheduleCommit, ScheduleRecord, TickRecord
from .schedule import Registered
from .state import State

__all__ = ["backfill", "pause", "resume", "trigger"]


def pause(record: ScheduleRecord, now: datetime, reason: str | None) -> ScheduleCommit | None:
    """Stop it until somebody resumes it. None if it is paused already. A tick that waits is dropped."""
    if record.paused:
        return None
    state = State.read(record.key, record.data)
    ticks: tuple[TickRecord, ...] = ()
    if state.waiting is not None:
        ticks = (TickRecord(state.waiting, "skipped", now, detail="The schedule was paused."),)
    state = replace(state, waiting=None, paused_at=now, pause_reason=reason)
    return _commit(record, state, now, due_at=None, paused=True, ticks=ticks)


def resume(record: ScheduleRecord, now: datetime, mine: Registered | None) -> ScheduleCommit | None:
    """Go on with the first tick after now; those since the pause are written down as skipped. None if not paused."""
    if not record.paused:
        return None
    state = State.read(record.key, record.data)
    ticks: tuple[TickRecord, ...] = ()
    if state.next is not None and state.next <= now:
        ticks = (TickRecord(state.next, "skipped", now, until=now, detail="The schedule was paused."),)
    state = replace(state, after=state.floor(now), cut_at=None, next=None, paused_at=None, pause_reason=None)
    due_at: datetime | None = None
    if mine is not None and mine.schedule.enabled and mine.schedule.identity == state.identity:
        state = replace(state, next=mine.schedule.spec.next_after(state.after))
        due_at = None if state.next is None else mine.fires_at(state.next)
    return _commit(record, state, now, due_at=due_at, paused=False, ticks=ticks)


def trigger(record: ScheduleRecord, now: datetime, mine: Registered, run_id: str) -> ScheduleCommit:
    """Start a run beside all ticks, whatever runs. Raises `TickInputError`."""
    run = mine.make_run(now, run_id, now)
    tick = TickRecord(now, "triggered", now, run_id=run_id)
    return _same(record, now, starts=(run,), ticks=(tick,))


def backfill(record: ScheduleRecord, now: datetime, mine: Registered, ticks: Sequence[datetime]) -> ScheduleCommit:
    """Start the runs of these ticks; who has one keeps it. Raises `TickInputError`."""
    runs = tuple(mine.make_run(tick, mine.run_id(tick), now) for tick in ticks)
    told = tuple(TickRecord(tick, "backfilled", now, run_id=run.run_id) for tick, run in zip(ticks, runs, strict=True))
    return _same(record, now, starts=runs, ticks=told)


def _same(record: ScheduleRecord, now: datetime, **moves: Any) -> ScheduleCommit:
    """A commit that leaves the schedule where it is."""
    state = State.read(record.key, record.data)
    return _commit(record, state, now, due_at=record.due_at, paused=record.paused, **moves)


def _commit(
    record: ScheduleRecord,
    state: State,
    now: datetime,
    *,
    due_at: datetime | None,
    paused: bool,
    ticks: tuple[TickRecord, ...] = (),
    **moves: Any,
) -> ScheduleCommit:
    data = state.told(ticks).write()
    return ScheduleCommit(record.key, record.revision, now, due_at, paused, data, ticks=ticks, **moves)
