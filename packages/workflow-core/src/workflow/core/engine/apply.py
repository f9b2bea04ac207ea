"""Applying events to the handler: the one way in which anything ever reaches it, live and on replay.

Events are applied in the order of the log, each followed by running the handler until it is idle. A live drive appends
an event and applies it; a replay applies what is there. So the two can't differ.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from workflow.core.errors import EventTimeoutError, NonDeterminismError, PayloadError
from workflow.core.events import (
    ApprovalRequested,
    ApprovalResolved,
    CancelRequested,
    ErrorInfo,
    Event,
    NowRecorded,
    SignalAwaited,
    SignalResolved,
    StepFailed,
    StepFinished,
    StepRetrying,
    StepStarted,
    TimerFired,
    TimerStarted,
    UuidRecorded,
)
from workflow.core.journal import Result
from workflow.core.payload import Json
from workflow.core.results import Approval

from .mismatch import entry, mismatch, one
from .operations import ApprovalOperation, Operation, SignalOperation, StepOperation, TimerOperation
from .session import Session

__all__ = ["Applier", "unfit_result"]

_NULL = Json("null")
_NOTES = {StepStarted, StepRetrying, TimerStarted, SignalAwaited, ApprovalRequested, NowRecorded, UuidRecorded}
"""What only says that something was asked for, or what was found: it may stand behind the handler's last move."""


class Applier:
    """Applies events to the operations of a session. `apply` tells whether the handler has something to run now."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._expect = session.operations.expect
        self._close = session.operations.close
        self._open = session.operations.open

    def moves(self, event: Event | Result) -> bool:
        """Whether the event would let the handler go on: one that has ended has no such event after its last."""
        return type(event) not in _NOTES

    def apply(self, event: Event | Result) -> bool:
        """Apply an event of the log.

        Raises `NonDeterminismError` (the handler has asked for something else) or `PayloadError` (a recorded result no
        longer fits its type): the run is blocked then.
        """
        method = self._methods.get(type(event))
        if method is None:
            raise mismatch(self._session.run.run_id, f"{entry(event)}, which ends a run", "the run goes on")
        moves = method(self, event)
        if moves:
            self._session.loop.at = event.at
        return moves

    # Steps

    def _step(self, event: StepStarted | StepRetrying | StepFinished | StepFailed | Result) -> StepOperation:
        operation = self._expect(event.id, "step", event)
        assert isinstance(operation, StepOperation)
        return operation

    def _step_started(self, event: StepStarted) -> bool:
        self._step(event).started = True
        return False

    def _step_retrying(self, event: StepRetrying) -> bool:
        operation = self._step(event)
        operation.attempt = event.attempt
        operation.retry_at = event.retry_at
        operation.started = False
        return False

    def _step_finished(self, event: StepFinished) -> bool:
        return self._give(self._step(event), (event.result or _NULL).text)

    def _result(self, event: Result) -> bool:
        return self._give(self._step(event), event.text)

    def _give(self, operation: StepOperation, text: str) -> bool:
        try:
            value = operation.result_type.decode(text, "")
        except PayloadError as error:
            raise unfit_result(operation.id, self._session.run.run_id, error) from error
        return self.finish_step(operation, value)

    def finish_step(self, operation: Operation, value: Any) -> bool:
        """Give the handler a result. Live, the value is at hand already: what its JSON gave back."""
        self._open.pop(operation.id, None)
        operation.future.set_result(value)
        return True

    def _step_failed(self, event: StepFailed) -> bool:
        return self.fail_step(self._step(event), event.error or _unknown(), event.attempt, None)

    def fail_step(self, operation: Operation, error: ErrorInfo, attempts: int, cause: BaseException | None) -> bool:
        self._close(operation)
        failure = error.as_step_error(operation.id, attempts)
        failure.__cause__ = cause
        operation.future.set_exception(failure)
        return True

    # Timers

    def _timer_started(self, event: TimerStarted) -> bool:
        operation = self._expect(event.id, "timer", event)
        operation.logged = True
        operation.until = event.due_at
        return False

    def _timer_fired(self, event: TimerFired) -> bool:
        operation = self._expect(event.id, None, event)
        if isinstance(operation, StepOperation):
            self._expect(event.id, "timer", event)
        self._close(operation)
        if isinstance(operation, TimerOperation):
            operation.future.set_result(None)
            if operation.timer is not None:
                operation.timer.fire()
        elif isinstance(operation, SignalOperation):
            operation.future.set_exception(EventTimeoutError(operation.id, operation.name))
        elif isinstance(operation, ApprovalOperation):
            operation.future.set_exception(EventTimeoutError(operation.id, operation.title))
        return True

    # Mail

    def _wait_started(self, event: SignalAwaited | ApprovalRequested) -> bool:
        kind = "signal" if isinstance(event, SignalAwaited) else "approval"
        operation = self._expect(event.id, kind, event)
        if isinstance(event, SignalAwaited) and isinstance(operation, SignalOperation) and operation.name != event.name:
            raise self._other_name(event, operation)
        operation.logged = True
        operation.until = event.until
        return False

    def _signal_resolved(self, event: SignalResolved) -> bool:
        operation = self._expect(event.id, "signal", event)
        assert isinstance(operation, SignalOperation)
        if operation.name != event.name:
            raise self._other_name(event, operation)
        self._close(operation)
        try:
            value = operation.type.decode((event.payload or _NULL).text, f"The payload of event {event.name!r}")
        except PayloadError as error:
            operation.future.set_exception(error)
        else:
            operation.future.set_result(value)
        return True

    def _other_name(self, event: SignalAwaited | SignalResolved, operation: SignalOperation) -> NonDeterminismError:
        holds = f"{entry(event)} for the event {event.name!r}"
        return mismatch(self._session.run.run_id, holds, f"the handler waits for {operation.name!r} there")

    def _approval_resolved(self, event: ApprovalResolved) -> bool:
        operation = self._expect(event.id, "approval", event)
        self._close(operation)
        operation.future.set_result(Approval.from_decision(event.id, (event.payload or _NULL).value))
        return True

    # The rest

    def _value_recorded(self, event: NowRecorded | UuidRecorded) -> bool:
        if event.id in self._session.recorded:
            asked = self._session.operations.kind_of(event.id)
            found = f"asked for {one(asked)} under this id" if asked else "has not asked for it"
            raise mismatch(self._session.run.run_id, entry(event), f"the handler {found}")
        return False

    def _cancel_requested(self, event: CancelRequested) -> bool:
        if self._session.cancelled:
            return False  # asked again, where the time limit was first: compensation is not disturbed
        self._session.cancelled = True
        if self._session.expiry is not None:
            self._session.expiry.lift()
        main = self._session.main
        if main is not None:
            main.cancel(event.reason or "the run was cancelled")
        return True

    _methods: ClassVar[dict[type[Event | Result], Callable[[Any, Any], bool]]] = {
        Result: _result,
        StepFinished: _step_finished,
        StepFailed: _step_failed,
        StepRetrying: _step_retrying,
        StepStarted: _step_started,
        TimerStarted: _timer_started,
        TimerFired: _timer_fired,
        SignalAwaited: _wait_started,
        SignalResolved: _signal_resolved,
        ApprovalRequested: _wait_started,
        ApprovalResolved: _approval_resolved,
        NowRecorded: _value_recorded,
        UuidRecorded: _value_recorded,
        CancelRequested: _cancel_requested,
    }


def unfit_result(step_id: str, run_id: str, error: PayloadError) -> PayloadError:
    """What is said of a recorded result that no longer fits its type: the run is blocked."""
    return PayloadError(f"The recorded result of step {step_id!r} of run {run_id!r}{error}")


def _unknown() -> ErrorInfo:
    return ErrorInfo(type="Exception", message="(no error was recorded)")
