"""What the runtime answers, as JSON: the pydantic models that HTTP, the hosts and their documents share.

A run's own values (input, output, state) are shown as they are written; the models describe what is around them.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from workflow.core.events import WorkflowEvent
from workflow.core.records import RunStatus, WaitKind

from .results import Run, RunKind, RunPage, RunResult, SweepResult
from .schedules.views import ScheduleInfo

__all__ = [
    "ErrorAnswer",
    "RunAnswer",
    "RunPageAnswer",
    "RunResultAnswer",
    "ScheduleAnswer",
    "ScheduleListAnswer",
    "SweepAnswer",
    "SweepCounts",
    "SweepDetails",
    "TimelineAnswer",
    "WaitAnswer",
    "to_bytes",
]


class _Answer(BaseModel):
    # Values of runs are of the app's types: nothing about them may keep an answer from being written.
    model_config = ConfigDict(from_attributes=True, ser_json_bytes="base64", arbitrary_types_allowed=True)


def to_bytes(answer: BaseModel) -> bytes:
    """The JSON of an answer, in UTF-8."""
    return answer.model_dump_json(by_alias=True, fallback=str, warnings=False).encode()


class ErrorAnswer(_Answer):
    """An error of a run: the name of its class, its text, and a stable word for its kind."""

    type: str
    message: str
    code: str


class WaitAnswer(_Answer):
    """One thing that a paused run waits for."""

    kind: WaitKind
    id: str
    name: str | None = None
    until: datetime | None = None
    detail: str | None = None
    meta: dict[str, Any] | None = None


class RunAnswer(_Answer):
    """A run."""

    run_id: str
    workflow_id: str
    workflow_version: str | None = None
    status: RunStatus
    input: Any = None
    output: Any = None
    error: ErrorAnswer | None = None
    waits: list[WaitAnswer] = []
    due_at: datetime | None = None
    state: Any = None
    created_at: datetime
    updated_at: datetime
    completed_at: datetime | None = None
    queue: str = ""
    key: str | None = None
    priority: int = 0
    expires_at: datetime | None = None
    schedule_id: str | None = None

    @classmethod
    def of(cls, run: Run[Any]) -> RunAnswer:
        return cls.model_validate(run)


class RunResultAnswer(_Answer):
    """What became of a run in one call. `events` only where they were asked for."""

    kind: RunKind
    run_id: str
    workflow_id: str | None = None
    created: bool = False
    run: RunAnswer | None = None
    error: ErrorAnswer | None = None
    events: list[WorkflowEvent] = []
    event_count: int = 0
    events_truncated: bool = False

    @classmethod
    def of(cls, result: RunResult[Any]) -> RunResultAnswer:
        return cls.model_validate(result)


class RunPageAnswer(_Answer):
    """One page of runs, newest first. Pass `next_cursor` as `cursor` for the next one."""

    runs: list[RunAnswer]
    next_cursor: str | None = None

    @classmethod
    def of(cls, page: RunPage) -> RunPageAnswer:
        return cls.model_validate(page)


class TimelineAnswer(_Answer):
    """Logged events of a run, in order. `next_after` is where to go on; null when these were the last ones so far."""

    events: list[WorkflowEvent]
    next_after: int | None = None

    @classmethod
    def of(cls, events: Sequence[Any], limit: int) -> TimelineAnswer:
        full = len(events) >= limit
        return cls(events=list(events), next_after=events[-1].index if full else None)


class SweepCounts(_Answer):
    """How many runs came to what, by `kind`, in each part of a sweep."""

    recovered: dict[str, int] = {}
    ready: dict[str, int] = {}
    scheduled: dict[str, int] = {}
    timers: dict[str, int] = {}
    event_count: int = 0
    returned_event_count: int = 0


class SweepDetails(_Answer):
    """The result of every run that a sweep touched."""

    recovered: list[RunResultAnswer]
    ready: list[RunResultAnswer]
    scheduled: list[RunResultAnswer]
    timers: list[RunResultAnswer]


class SweepAnswer(_Answer):
    """What a sweep did. `remaining_may_exist`: call again soon. `interrupted`: the host's time was up before it ended,
    and what it was driving was handed back.
    """

    summary: SweepCounts = Field(default_factory=SweepCounts)
    deadline_reached: bool
    remaining_may_exist: bool
    interrupted: bool = False
    owner: str | None = None
    result: SweepDetails | None = None

    @classmethod
    def of(cls, result: SweepResult, *, owner: str | None = None, include_sweep_result: bool = False) -> SweepAnswer:
        answer = cls.model_validate(result)
        answer.owner = owner
        answer.result = SweepDetails.model_validate(result) if include_sweep_result else None
        return answer

    @classmethod
    def of_interrupted(cls, owner: str) -> SweepAnswer:
        return cls(deadline_reached=True, remaining_may_exist=True, interrupted=True, owner=owner)

    def to_json(self) -> str:
        """One line of JSON, without what is not there."""
        return self.model_dump_json(by_alias=True, fallback=str, warnings=False, exclude_none=self.result is None)


class ScheduleAnswer(_Answer):
    """A schedule as its row says, and whether this app has it."""

    id: str
    workflow_id: str
    spec: str
    registered: bool
    superseded: bool
    enabled: bool
    paused: bool
    paused_at: datetime | None = None
    pause_reason: str | None = None
    next_at: datetime | None = None
    active_runs: list[str] = []
    buffered: datetime | None = None
    last_tick: datetime | None = None
    last_outcome: str | None = None
    last_run_id: str | None = None

    @classmethod
    def of(cls, info: ScheduleInfo) -> ScheduleAnswer:
        return cls.model_validate(info)


class ScheduleListAnswer(_Answer):
    """Schedules: those that the app has, and those that only the store still knows."""

    schedules: list[ScheduleAnswer]
