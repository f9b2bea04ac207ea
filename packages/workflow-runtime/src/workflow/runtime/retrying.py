"""From where a run that has failed goes on, and with what a run begins that goes on from a point of another.

A log is only ever appended to. A retry appends a `RUN_RETRIED` event, which names the entries that are of account no
more; replay leaves these out. So what had happened stays to be seen, and a run can be retried any number of times.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from workflow.core import ErrorInfo, InvalidArgumentError, StepError
from workflow.core.errors import qualified_name
from workflow.core.events import Event, RunRetried, StepFailed
from workflow.core.journal import read_events, standing, write_event
from workflow.core.records import ClaimedRun, LogRecord, Mail, MailKind, NewMail, RunRecord

__all__ = ["Beginning", "Resumption", "as_sent", "plan_rerun", "plan_retry"]

_BY_A_STEP = {qualified_name(StepError), qualified_name(BaseExceptionGroup)}
_OF_STEPS = {"STEP_STARTED", "STEP_RETRYING", "STEP_FINISHED", "STEP_FAILED"}
_ATTEMPTS = {"STEP_STARTED", "STEP_RETRYING"}
_RETRIED = '"RUN_RETRIED"'
_ENDS = {"RUN_ERRORED", "RUN_CANCELLED"}


@dataclass(frozen=True, slots=True)
class Resumption:
    """How a run goes on: the entry that says so, the mail whose receipt is void, and its time limit."""

    record: LogRecord
    mail: tuple[NewMail, ...]
    expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class Beginning:
    """With what a run begins that goes on from a point of another: a log, and a time limit."""

    log: tuple[LogRecord, ...]
    expires_at: datetime | None


def plan_retry(
    run: RunRecord,
    log: Sequence[LogRecord],
    *,
    from_step: str | None,
    reason: str | None,
    timeout: timedelta | None,
    now: datetime,
) -> Resumption:
    """Let an ended run go on before the step that failed it, or before `from_step`. `timeout` is what runs of its
    workflow are given, where they are given one.

    Without a failed step (an error in the handler itself) nothing but the end is void: the handler, repaired, meets
    everything as it was. Of a cancelled run everything since the request is void. Raises `InvalidArgumentError` where
    the run has no such step.
    """
    everything = read_events(run.run_id, log)
    events = standing(everything)
    error = ErrorInfo.model_validate_json(run.error) if run.error is not None else None
    start = _start_of(run.run_id, events, from_step) if from_step is not None else _failure(run, events, error)
    step_id = getattr(events[start], "id", None) if start < len(events) else None
    void = [event for event in events[:start] if event.type in _ATTEMPTS and event.id == step_id]
    void += events[start:]
    retried = RunRetried(at=now, voided=tuple(event.index for event in void), reason=reason, error=error)
    mail = tuple(_mail(event) for event in void if _is_mail(event))
    return Resumption(write_event(retried, len(log)), mail, _limit_anew(run, everything, timeout, now))


def plan_rerun(
    run: RunRecord, log: Sequence[LogRecord], step_id: str, *, timeout: timedelta | None, now: datetime
) -> Beginning:
    """Begin with the log of a run up to the first entry of a step, numbered from 0; `timeout` as for a retry.

    Raises `InvalidArgumentError` where there is no such step.
    """
    everything = read_events(run.run_id, log)
    events = standing(everything)
    kept: list[LogRecord] = [log[event.index] for event in events[: _start_of(run.run_id, events, step_id)]]
    numbered = tuple(replace(record, index=number) for number, record in enumerate(kept))
    return Beginning(numbered, _limit_anew(run, everything, timeout, now))


def as_sent(claimed: ClaimedRun) -> ClaimedRun:
    """The run with its mail in the order in which it was sent, and of the time at which it first was there.

    A retry puts mail that was received back into the inbox, behind what was never read. But of one name the earlier
    mail is received first, so whatever was received before, by the log, had been sent before.
    """
    if not claimed.mail or not any(_RETRIED in record.event for record in claimed.log):
        return claimed  # as nearly all are
    events = read_events(claimed.run.run_id, claimed.log)
    unread = {(mail.kind, mail.id): mail for mail in claimed.mail}
    again: list[Mail] = []
    for event in filter(_is_mail, events):
        if (mail := unread.pop(_mail_id(event), None)) is not None:
            again.append(replace(mail, sent_at=min(mail.sent_at, event.at)))
    return replace(claimed, mail=(*again, *unread.values()))


def _limit_anew(run: RunRecord, events: Sequence[Event], timeout: timedelta | None, now: datetime) -> datetime | None:
    """The time limit of a run that begins again: as far away as it was when the run was first due, or retried last."""
    if run.expires_at is None:
        return None
    retries = [event.at for event in events if isinstance(event, RunRetried)]
    length = run.expires_at - (retries[-1] if retries else run.created_at)
    # A start that was put off put off its limit as well. The row doesn't say any more when the run was first due; but
    # it was then at the latest when it began, and if the usual limit comes out as from such a time, that was it.
    began = run.started_at or now
    if timeout is not None and not retries and timeout < length and run.expires_at - timeout <= began:
        length = timeout
    return now + length


def _failure(run: RunRecord, events: Sequence[Any], error: ErrorInfo | None) -> int:
    """The place of the first event that is void."""
    kind = "CANCEL_REQUESTED" if run.status == "cancelled" else None
    if error is not None and _BY_A_STEP.intersection(error.lineage):
        kind = "STEP_FAILED"
    places = [place for place, event in enumerate(events) if event.type == kind or event.type in _ENDS]
    failures = [place for place in places if events[place].type == kind]
    if not failures:
        return min(places, default=len(events))
    # Several may have failed, and the handler raised one of the errors: what came after that one is void as well.
    named = [place for place in failures if kind == "STEP_FAILED" and _raises(events[place], error)]
    return (named or failures)[-1]


def _raises(event: StepFailed, error: ErrorInfo | None) -> bool:
    """Whether this failure is what the handler has raised, as far as its text tells."""
    failure = event.error and ErrorInfo.of(event.error.as_step_error(event.id, event.attempt))
    return failure is not None and error is not None and failure.message == error.message


def _start_of(run_id: str, events: Sequence[Any], step_id: str) -> int:
    for place, event in enumerate(events):
        if event.type in _OF_STEPS and event.id == step_id:
            return place
    steps = ", ".join(dict.fromkeys(repr(event.id) for event in events if event.type in _OF_STEPS)) or "none"
    raise InvalidArgumentError(f"Run {run_id!r} has no step {step_id!r} in its log. Its steps are: {steps}.")


def _is_mail(event: Any) -> bool:
    return event.type in ("SIGNAL_RESOLVED", "APPROVAL_RESOLVED")


def _mail_id(event: Any) -> tuple[MailKind, str]:
    return ("signal", event.signal_id) if event.type == "SIGNAL_RESOLVED" else ("approval", event.id)


def _mail(event: Any) -> NewMail:
    if event.type == "SIGNAL_RESOLVED":
        return NewMail("signal", event.signal_id, event.name, event.payload.text)
    return NewMail("approval", event.id, event.id, event.payload.text)
