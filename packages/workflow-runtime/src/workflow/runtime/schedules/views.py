"""Schedules as people see them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from workflow.core import InvalidArgumentError, WorkflowError

from .records import ScheduleRecord, TickOutcome, TickRecord
from .schedule import Registered
from .state import State

__all__ = [
    "Backfill",
    "ScheduleHistory",
    "ScheduleInfo",
    "ScheduleNotFoundError",
    "ScheduleTick",
    "read_place",
    "view",
    "view_tick",
    "write_place",
]

_DISABLED = "disabled: "
_OVERDUE = timedelta(minutes=5)


class ScheduleNotFoundError(WorkflowError):
    """Neither this runtime nor its store knows a schedule of this id."""

    code = "schedule_not_found"


@dataclass(frozen=True, slots=True)
class ScheduleTick:
    """An entry of a schedule's history: what became of a tick, or of all ticks from `tick_at` to `until`.

    - `started`: its run `run_id` was created. `triggered`, `backfilled`: the same, because a person asked for it.
    - `buffered`: it waits for a run to end; another entry says how that ended. `replaced`: a later tick took its place.
    - `skipped`: a run was under way, the schedule was paused, or its input could not be made; `detail` says which.
    - `missed`: nobody was there in time, and `catch_up` did not cover it.
    """

    tick_at: datetime
    outcome: TickOutcome
    at: datetime
    """When it was decided."""
    run_id: str | None = None
    until: datetime | None = None
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class ScheduleHistory:
    """A part of a schedule's history, the latest first. Give `next_before` as `before` to go on; None: that was all."""

    ticks: tuple[ScheduleTick, ...]
    next_before: str | None


@dataclass(frozen=True, slots=True)
class ScheduleInfo:
    """A schedule as its row says, and whether this process has it."""

    id: str
    workflow_id: str
    spec: str
    """When it fires, in words: of the version that the row goes by."""
    registered: bool
    """Whether this runtime has registered it. What no process has registered doesn't fire."""
    superseded: bool
    """This runtime has another version of it, and leaves it to the processes that have the one it goes by."""
    enabled: bool
    paused: bool
    paused_at: datetime | None
    pause_reason: str | None
    next_at: datetime | None
    """When the next run starts; None: not before somebody resumes, enables, or (the first time) sees it."""
    active_runs: tuple[str, ...]
    """The ids of its runs that have not ended."""
    buffered: datetime | None
    """The tick that waits for them to end."""
    last_tick: datetime | None
    last_outcome: str | None
    """What became of the last tick that was decided."""
    last_run_id: str | None

    def is_overdue(self, now: datetime) -> bool:
        """Whether nobody has looked at it for five minutes after its time."""
        return self.next_at is not None and now - self.next_at > _OVERDUE


@dataclass(frozen=True, slots=True)
class Backfill:
    """What a backfill has done: the runs of these ticks are there now, whether it started them or they were before."""

    schedule_id: str
    workflow_id: str
    run_ids: tuple[str, ...]


def view(record: ScheduleRecord | None, mine: Registered | None) -> ScheduleInfo:
    """From the row, the registration, or both."""
    if record is None:
        assert mine is not None
        return _unseen(mine)
    state = State.read(record.key, record.data)
    last = state.last
    return ScheduleInfo(
        id=record.key.schedule_id,
        workflow_id=record.key.workflow_id,
        spec=state.identity.removeprefix(_DISABLED),
        registered=mine is not None,
        superseded=mine is not None and mine.schedule.identity != state.identity,
        enabled=not state.identity.startswith(_DISABLED),
        paused=record.paused,
        paused_at=state.paused_at,
        pause_reason=state.pause_reason,
        next_at=record.due_at,
        active_runs=record.active,
        buffered=state.waiting,
        last_tick=last.tick_at if last is not None else None,
        last_outcome=last.outcome if last is not None else None,
        last_run_id=last.run_id if last is not None else None,
    )


def _unseen(mine: Registered) -> ScheduleInfo:
    return ScheduleInfo(
        id=mine.key.schedule_id,
        workflow_id=mine.key.workflow_id,
        spec=mine.schedule.spec.text,
        registered=True,
        superseded=False,
        enabled=mine.schedule.enabled,
        paused=False,
        paused_at=None,
        pause_reason=None,
        next_at=None,
        active_runs=(),
        buffered=None,
        last_tick=None,
        last_outcome=None,
        last_run_id=None,
    )


def view_tick(record: TickRecord) -> ScheduleTick:
    return ScheduleTick(record.tick_at, record.outcome, record.at, record.run_id, record.until, record.detail)


def write_place(place: tuple[int, int]) -> str:
    """A place in the history as a cursor."""
    revision, number = place
    return f"{revision}-{number}"


def read_place(text: str) -> tuple[int, int]:
    """Raises `InvalidArgumentError` for what `write_place` has not written."""
    revision, _, number = text.partition("-") if isinstance(text, str) else ("", "", "")  # pyright: ignore[reportUnnecessaryIsInstance]
    if not (revision.isascii() and revision.isdigit() and number.isascii() and number.isdigit()):
        raise InvalidArgumentError(f"before={text!r} is no next_before of a schedule's history.")
    return int(revision), int(number)
