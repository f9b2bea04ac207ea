"""`WorkflowEvent`: what happens in a run, as one discriminated union, JSON on the wire.

An event that replay or a pending wait needs is an entry of the run's log and has an `index`. The others
(`RUN_STARTED`, `STEP_STARTED`, `STATE_DELTA`, `CUSTOM`) are only published, live, and have none; `STEP_STARTED` of an
at-most-once step is logged as well, because what was started must be known. `id` is the operation's id.
"""

# No `from __future__ import annotations` here: pydantic would have to evaluate each annotation again, at every import.

from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from .errors import (
    StepError,
    StepInterruptedError,
    StepResultError,
    StepTimeoutError,
    WorkflowError,
    qualified_name,
)
from .payload import Json
from .results import Approval

__all__ = [
    "ApprovalRequested",
    "ApprovalResolved",
    "CancelRequested",
    "Custom",
    "ErrorInfo",
    "Event",
    "NowRecorded",
    "RunCancelled",
    "RunErrored",
    "RunFinished",
    "RunRetried",
    "RunStarted",
    "SignalAwaited",
    "SignalResolved",
    "StateDelta",
    "StepFailed",
    "StepFinished",
    "StepRetrying",
    "StepStarted",
    "TimerFired",
    "TimerStarted",
    "UuidRecorded",
    "WorkflowEvent",
    "event_adapter",
]

_MAX_MESSAGE = 8000


class ErrorInfo(BaseModel):
    """An exception as data. `lineage` are the qualified names of its class and base classes."""

    model_config = ConfigDict(frozen=True, extra="ignore", defer_build=True)

    type: str
    message: str
    code: str = "error"
    lineage: tuple[str, ...] = ()

    @classmethod
    def of(cls, error: BaseException, message: str | None = None) -> "ErrorInfo":
        """The data of an exception, with `message` in place of its text. Never fails, whatever it is like."""
        lineage = tuple(_writable(qualified_name(base)) for base in type(error).__mro__[:-1])
        code = error.code if isinstance(error, WorkflowError) else "error"
        text = _text_of(error) if message is None else message
        return cls(
            type=_writable(type(error).__name__), message=_shortened(_writable(text)), code=code, lineage=lineage
        )

    def as_step_error(self, step_id: str, attempts: int) -> StepError:
        """The error that a handler sees for a step which failed for good with this one: the same live and on replay."""
        kind = _STEP_ERRORS.get(self.code, StepError)
        return kind(step_id, self.type, self.message, attempts, lineage=self.lineage)


_STEP_ERRORS: dict[str, type[StepError]] = {
    kind.code: kind for kind in (StepTimeoutError, StepInterruptedError, StepResultError)
}


def _text_of(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:
        return "(its text can't be shown: __str__ failed)"


def _writable(text: str) -> str:
    """Whatever a text holds must not keep the failure itself from being recorded."""
    return text.encode("utf-8", "backslashreplace").decode()


def _shortened(text: str) -> str:
    return text if len(text) <= _MAX_MESSAGE else text[:_MAX_MESSAGE] + " ... (cut)"


_NULL = Json("null")


class Event(BaseModel):
    """What all events share. `at` is when it happened by the run's own clock, which never goes backwards."""

    # Building the validators of all events would take a good part of the import: each is built when it is needed.
    model_config = ConfigDict(frozen=True, extra="ignore", defer_build=True)
    payload_field: ClassVar[str | None] = None
    """The field that a store keeps apart from the rest of an entry, as opaque text."""
    row_field: ClassVar[str | None] = None
    """The field that the run's row holds, and its log does not."""

    run_id: str = ""
    index: int | None = None
    at: datetime


class RunStarted(Event):
    type: Literal["RUN_STARTED"] = "RUN_STARTED"
    workflow_id: str
    workflow_version: str | None = None


class RunFinished(Event):
    """The run has completed. In the log its output is left out: the run's row has it."""

    type: Literal["RUN_FINISHED"] = "RUN_FINISHED"
    row_field: ClassVar[str | None] = "output"
    output: Json | None = None


class RunErrored(Event):
    """The run has failed. In the log its error is left out: the run's row has it."""

    type: Literal["RUN_ERRORED"] = "RUN_ERRORED"
    row_field: ClassVar[str | None] = "error"
    error: ErrorInfo | None = None


class RunCancelled(Event):
    type: Literal["RUN_CANCELLED"] = "RUN_CANCELLED"


class RunRetried(Event):
    """The run had failed or was cancelled, and goes on. The events of these indexes are of account no more."""

    type: Literal["RUN_RETRIED"] = "RUN_RETRIED"
    payload_field: ClassVar[str | None] = "error"
    voided: tuple[int, ...]
    reason: str | None = None
    error: ErrorInfo | None = None
    """Why it had failed."""


class _StepEvent(Event):
    id: str
    attempt: int = 1

    @property
    def step_id(self) -> str:
        return self.id


class StepStarted(_StepEvent):
    type: Literal["STEP_STARTED"] = "STEP_STARTED"
    meta: dict[str, Any] | None = None


class StepRetrying(_StepEvent):
    """Attempt number `attempt` has failed; the next one starts at `retry_at`."""

    type: Literal["STEP_RETRYING"] = "STEP_RETRYING"
    payload_field: ClassVar[str | None] = "error"
    retry_at: datetime
    error: ErrorInfo | None = None


class StepFinished(_StepEvent):
    type: Literal["STEP_FINISHED"] = "STEP_FINISHED"
    payload_field: ClassVar[str | None] = "result"
    result: Json = _NULL


class StepFailed(_StepEvent):
    """The step has failed for good, with attempt number `attempt`."""

    type: Literal["STEP_FAILED"] = "STEP_FAILED"
    payload_field: ClassVar[str | None] = "error"
    error: ErrorInfo | None = None


class SignalAwaited(Event):
    type: Literal["SIGNAL_AWAITED"] = "SIGNAL_AWAITED"
    id: str
    name: str
    until: datetime | None = None
    meta: dict[str, Any] | None = None


class SignalResolved(Event):
    type: Literal["SIGNAL_RESOLVED"] = "SIGNAL_RESOLVED"
    payload_field: ClassVar[str | None] = "payload"
    id: str
    name: str
    signal_id: str
    payload: Json = _NULL


class ApprovalRequested(Event):
    type: Literal["APPROVAL_REQUESTED"] = "APPROVAL_REQUESTED"
    id: str
    title: str
    description: str | None = None
    until: datetime | None = None
    meta: dict[str, Any] | None = None

    @property
    def approval_id(self) -> str:
        return self.id


class ApprovalResolved(Event):
    """`payload` holds `approved`, `feedback` and `meta`."""

    type: Literal["APPROVAL_RESOLVED"] = "APPROVAL_RESOLVED"
    payload_field: ClassVar[str | None] = "payload"
    id: str
    payload: Json = _NULL

    @property
    def approval_id(self) -> str:
        return self.id

    @property
    def approved(self) -> bool:
        return Approval.from_decision(self.id, self.payload.value).approved


class TimerStarted(Event):
    type: Literal["TIMER_STARTED"] = "TIMER_STARTED"
    id: str
    due_at: datetime
    meta: dict[str, Any] | None = None


class TimerFired(Event):
    """A timer, or the timeout of the wait with this id."""

    type: Literal["TIMER_FIRED"] = "TIMER_FIRED"
    id: str


class NowRecorded(Event):
    type: Literal["NOW_RECORDED"] = "NOW_RECORDED"
    id: str
    value: datetime


class UuidRecorded(Event):
    type: Literal["UUID_RECORDED"] = "UUID_RECORDED"
    id: str
    value: str


class CancelRequested(Event):
    type: Literal["CANCEL_REQUESTED"] = "CANCEL_REQUESTED"
    payload_field: ClassVar[str | None] = "payload"
    payload: Json = _NULL
    """The reason, or null."""

    @property
    def reason(self) -> str | None:
        return self.payload.value


class StateDelta(Event):
    """How `ctx.state` has changed, as a JSON Patch (RFC 6902)."""

    type: Literal["STATE_DELTA"] = "STATE_DELTA"
    delta: tuple[dict[str, Any], ...]


class Custom(Event):
    """What `ctx.emit` said."""

    type: Literal["CUSTOM"] = "CUSTOM"
    name: str
    value: Json


WorkflowEvent = Annotated[
    RunStarted
    | RunFinished
    | RunErrored
    | RunCancelled
    | RunRetried
    | StepStarted
    | StepRetrying
    | StepFinished
    | StepFailed
    | SignalAwaited
    | SignalResolved
    | ApprovalRequested
    | ApprovalResolved
    | TimerStarted
    | TimerFired
    | NowRecorded
    | UuidRecorded
    | CancelRequested
    | StateDelta
    | Custom,
    Field(discriminator="type"),
]

event_adapter: TypeAdapter[WorkflowEvent] = TypeAdapter(WorkflowEvent, config=ConfigDict(defer_build=True))
"""Events from and to JSON: `event_adapter.validate_json(line)`, `event.model_dump_json()`."""
