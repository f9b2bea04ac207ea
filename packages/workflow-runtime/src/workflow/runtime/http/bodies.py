"""What requests hold: bodies and query parameters, as pydantic models."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field

from workflow.core import InvalidArgumentError
from workflow.core.arguments import MAX_IDENTIFIER, identifier
from workflow.core.records import RunStatus
from workflow.runtime.results import RunKind

__all__ = [
    "ApproveBody",
    "CancelBody",
    "EventsQuery",
    "ListQuery",
    "PauseBody",
    "Query",
    "ResumeBody",
    "RetryBody",
    "SchedulesQuery",
    "SignalBody",
    "StartBody",
    "StreamQuery",
    "SweepBody",
    "TriggerBody",
    "WebhookAnswer",
]

_MAX_INDEX = 2**31 - 1
_MAX_DELAY = 10 * 365 * 86400.0
_MAX_TEXT = 65_536
_DIGITS = re.compile(r"-?[0-9]{1,10}")


def _identifier(value: str) -> str:
    try:
        return identifier(value, "it")
    except InvalidArgumentError as error:
        raise ValueError(str(error)) from error


def _utc(value: datetime) -> datetime:
    try:
        return value.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("out of range") from error


def _integer(value: Any) -> Any:
    """pydantic reads "1.0" and "1_0" as integers, which the document doesn't promise."""
    if isinstance(value, str) and not _DIGITS.fullmatch(value):
        raise ValueError("not an integer")
    return value


Id = Annotated[
    str,
    Field(min_length=1, max_length=MAX_IDENTIFIER, pattern=r"^[^\x00-\x1f\x7f]+$"),
    AfterValidator(_identifier),
]
Count = Annotated[int, Field(ge=0, le=10_000)]
Instant = Annotated[AwareDatetime, AfterValidator(_utc)]


class _Body(BaseModel):
    # Strict, so that a mistake is told rather than guessed at.
    model_config = ConfigDict(extra="forbid", strict=True)


class _Driving(_Body):
    drive: bool = Field(
        default=True, description="Go on with the run in this request. False: leave it to a sweep or worker."
    )
    include_events: bool = Field(default=False, description="Answer with the events of this request's drive.")


class StartBody(_Driving):
    """Start a run. Repeating it with the same `run_id` answers with the run that there is, and starts nothing."""

    workflow_id: Id
    run_id: Id | None = Field(
        default=None, description="Makes the request safe to repeat. Chosen for you if it is left out."
    )
    input: Any = None
    delay: float | None = Field(
        default=None, ge=0, le=_MAX_DELAY, allow_inf_nan=False, description="Start no earlier than in so many seconds."
    )
    queue: Id | None = Field(default=None, description="The queue to put it into: one that the app has.")
    key: Id | None = Field(default=None, description="What limits per key go by.")
    priority: int | None = Field(default=None, ge=-(2**31), le=2**31 - 1, description="Higher ones go first.")
    timeout: float | None = Field(
        default=None, gt=0, le=_MAX_DELAY, allow_inf_nan=False, description="Seconds until it is asked to cancel."
    )


class SignalBody(_Driving):
    """Deliver a signal. Repeating it with the same `signal_id` changes nothing."""

    signal_id: Id
    name: Id
    payload: Any = None


class ApproveBody(_Driving):
    """Deliver a decision. The first one counts."""

    approval_id: Id
    approved: bool
    feedback: str | None = Field(default=None, max_length=_MAX_TEXT)
    meta: dict[str, Any] | None = None


class CancelBody(_Driving):
    """Ask a run to cancel."""

    reason: str | None = Field(default=None, max_length=_MAX_TEXT)


class RetryBody(_Driving):
    """Let a run that has failed or was cancelled go on from its last good checkpoint."""

    from_step: Id | None = Field(default=None, description="Go back to before this step.")
    reason: str | None = Field(default=None, max_length=_MAX_TEXT)


class _OfSchedule(_Body):
    workflow_id: Id | None = Field(default=None, description="Of this workflow, where two have a schedule of that id.")


class PauseBody(_OfSchedule):
    """Let a schedule start nothing until it is resumed. Repeating it changes nothing."""

    reason: str | None = Field(default=None, max_length=_MAX_TEXT)


class ResumeBody(_OfSchedule):
    """Let a schedule go on with its next tick. Repeating it changes nothing."""


class TriggerBody(_OfSchedule, _Driving):
    """Start a run of a schedule now. Repeating it with the same `trigger_id` starts nothing."""

    trigger_id: Id | None = Field(default=None, description="Makes the request safe to repeat.")


class SweepBody(_Body):
    """The bounds of a sweep; what is left out is what the server was set to."""

    max_scheduled_runs: Count | None = None
    max_timers: Count | None = None
    max_ready: Count | None = None
    max_recovered: Count | None = None
    max_duration: float | None = Field(
        default=None, gt=0, le=86400, allow_inf_nan=False, description="Seconds; never more than the server has left."
    )
    include_sweep_result: bool | None = Field(default=None, description="Answer with the result of every run as well.")


class WebhookAnswer(BaseModel):
    """What became of the signals of an event, by `kind`."""

    delivered: list[RunKind]


class Query(BaseModel):
    """Query parameters. `lists` may be given several times."""

    model_config = ConfigDict(extra="forbid")
    lists: ClassVar[frozenset[str]] = frozenset()


class ListQuery(Query):
    """Which runs to list."""

    lists = frozenset({"status"})

    workflow_id: Id | None = None
    status: list[RunStatus] | None = Field(default=None, min_length=1, max_length=6)
    created_from: Instant | None = None
    created_until: Instant | None = None
    limit: Annotated[int, BeforeValidator(_integer), Field(ge=1, le=500)] = 50
    cursor: str | None = Field(default=None, min_length=1, max_length=4000)


class SchedulesQuery(Query):
    """Which schedules."""

    workflow_id: Id | None = None


class EventsQuery(Query):
    """Which events of a run."""

    after: Annotated[int, BeforeValidator(_integer), Field(ge=-1, le=_MAX_INDEX)] = -1
    limit: Annotated[int, BeforeValidator(_integer), Field(ge=1, le=1000)] = 1000


class StreamQuery(Query):
    """Where a stream begins."""

    after: Annotated[int, BeforeValidator(_integer), Field(ge=-1, le=_MAX_INDEX)] = -1
