"""What the runtime and a store hand to each other about schedules: plain, immutable data.

The store knows who may move a schedule (`revision`), which runs it has that have not ended, and its history. What a
schedule means, and what is to be done at a tick, the runtime decides, and has it done as a whole or not at all.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from workflow.core.records import NewMail, NewRun

__all__ = ["ScheduleCommit", "ScheduleKey", "ScheduleRecord", "TickOutcome", "TickRecord"]

TickOutcome = Literal["started", "skipped", "buffered", "replaced", "missed", "triggered", "backfilled"]
"""What became of a tick.

- `started`: its run was created. `triggered`, `backfilled`: the same, because a person asked for it.
- `skipped`: a run of the schedule was under way, or one was waiting already.
- `buffered`: it waits for the run before it to end; it is `started` later, or `replaced` by a later tick.
- `missed`: nobody was there at its time, and the catch-up window is over. One record may stand for many ticks.
"""


@dataclass(frozen=True, slots=True)
class ScheduleKey:
    """A schedule's id is unique within its workflow."""

    workflow_id: str
    schedule_id: str


@dataclass(frozen=True, slots=True)
class ScheduleRecord:
    """A schedule as its row says."""

    key: ScheduleKey
    revision: int
    """Grows by one with every commit, from 1."""
    due_at: datetime | None
    """When there is something to do for it; None: nothing, until somebody changes it."""
    paused: bool
    data: str
    """JSON text of the runtime's own."""
    created_at: datetime
    updated_at: datetime
    active: tuple[str, ...] = ()
    """The ids of its runs that have not ended, by `created_at` and `run_id`."""


@dataclass(frozen=True, slots=True)
class TickRecord:
    """An entry of a schedule's history. A record stands for the ticks from `tick_at` to `until`, or for one."""

    tick_at: datetime
    outcome: TickOutcome
    at: datetime
    """When it was decided."""
    run_id: str | None = None
    until: datetime | None = None
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class ScheduleCommit:
    """One atomic move of a schedule. See `ExecutionStore.commit_schedule`."""

    key: ScheduleKey
    expected_revision: int
    """0: there must be no such schedule, and it is created."""
    now: datetime
    due_at: datetime | None
    paused: bool
    data: str
    starts: tuple[NewRun, ...] = ()
    """Runs to create, queued. An id that is taken is passed over."""
    cancel: tuple[str, ...] = ()
    """Runs to ask to cancel, with `cancel_mail`."""
    cancel_mail: NewMail | None = None
    terminate: tuple[str, ...] = ()
    """Runs to end at once as `cancelled`, with `termination` as the last event of their logs."""
    termination: str | None = None
    ticks: tuple[TickRecord, ...] = ()
    """To be added to the history, in this order."""
