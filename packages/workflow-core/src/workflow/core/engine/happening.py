"""What the handler asks for, and what has happened: appended to the log, then applied, one thing at a time.

The order in which things are appended here is the order in which replay applies them: there is no other.
"""

import logging
from datetime import datetime, timedelta

from workflow.core.errors import StepInterruptedError, StepResultError, StepTimeoutError
from workflow.core.events import (
    ApprovalRequested,
    ApprovalResolved,
    CancelRequested,
    ErrorInfo,
    SignalAwaited,
    SignalResolved,
    StepFailed,
    StepRetrying,
    TimerFired,
    TimerStarted,
)
from workflow.core.payload import Json
from workflow.core.records import Mail, Transition

from .apply import Applier
from .expiry import Expiry
from .handler import HandlerTask
from .operations import ApprovalOperation, Operation, SignalOperation, StepOperation, TimerOperation
from .session import Session
from .state import StateTracker
from .steps import Completion, StepRunner
from .waiting import Waker

__all__ = ["Happenings"]

logger = logging.getLogger("workflow.core")


class Happenings:
    """Takes up what the handler has asked for, and tells it what has happened."""

    def __init__(self, session: Session, handler: HandlerTask, applier: Applier, state: StateTracker) -> None:
        self._session = session
        self._handler = handler
        self._applier = applier
        self._state = state
        self._environment = session.environment
        self._ledger = session.ledger
        self._operations = session.operations
        self._mailbox = session.mailbox
        self._timers = session.timers
        self._ended = handler.main.done
        self._waker = Waker(session.environment.clock)
        self._steps = StepRunner(session.run.run_id, session.environment, self._waker.wake)
        self._waiting: list[StepOperation] = []
        """Steps that no attempt is under way of: fresh ones, and those in a backoff."""
        self._resumed = bool(session.history)
        """Whether another drive may have left attempts behind."""
        self._news = False
        self._lost = False
        self._spent = False
        """The budget is over: nothing new starts."""
        self._overtime = False
        """Steps were started although the budget was over, because the drive had got nowhere without them."""
        self.released: Transition | None = None
        """How the run was released, once it is."""

    def _start_operations(self) -> None:
        """Take up what the handler has asked for, and let go of what it has abandoned."""
        operations = self._operations
        if operations.abandoned:
            for operation in operations.abandoned:
                self._steps.cut(operation.id)
            operations.abandoned.clear()
        if not operations.fresh:
            return
        fresh, operations.fresh = operations.fresh, []
        for operation in fresh:
            if operation.future.done():
                continue
            if isinstance(operation, StepOperation):
                self._waiting.append(operation)
            else:
                self._log_start(operation)
                self._timers.add(operation)
                self._mailbox.expect(operation)

    def _log_start(self, operation: Operation) -> None:
        if operation.logged:
            return
        operation.logged = True
        ledger, until, meta = self._ledger, operation.until, operation.meta
        if isinstance(operation, TimerOperation) and until is not None:
            ledger.append(TimerStarted(**ledger.head(), id=operation.id, due_at=until, meta=meta))
        elif isinstance(operation, SignalOperation):
            ledger.append(SignalAwaited(**ledger.head(), id=operation.id, name=operation.name, until=until, meta=meta))
        elif isinstance(operation, ApprovalOperation):
            ledger.append(
                ApprovalRequested(
                    **ledger.head(),
                    id=operation.id,
                    title=operation.title,
                    description=operation.description,
                    until=until,
                    meta=meta,
                )
            )

    def _happened(self) -> bool:
        """Append and apply the next thing that has happened, if there is one."""
        if self._steps.completed:
            self._complete(self._steps.completed.popleft())
            return True
        if self._session.yielding:
            return False
        match = self._mailbox.next_match() if self._mailbox.changed else None
        timer = self._timers.first() if self._timers.heap else None
        if match is None and timer is None:
            return self._resumed and bool(self._waiting) and self._interrupted()
        due = timer is not None and timer.until is not None and timer.until <= self._ledger.now()
        if match is not None and not (
            due and timer is not None and timer.until is not None and timer.until < match[0].sent_at
        ):
            self._receive(*match)
            return True
        if due and timer is not None:
            self._fire(timer)
            return True
        return self._interrupted()

    def _receive(self, mail: Mail, operation: Operation | None) -> None:
        self._mailbox.take(mail)
        head = self._ledger.head()
        payload = Json(mail.payload)
        event: CancelRequested | SignalResolved | ApprovalResolved
        if operation is None:
            event = CancelRequested(**head, payload=payload)
        elif isinstance(operation, SignalOperation):
            event = SignalResolved(**head, id=operation.id, name=mail.name, signal_id=mail.id, payload=payload)
        else:
            event = ApprovalResolved(**head, id=operation.id, payload=payload)
        self._ledger.append(event)
        self._ledger.consume(mail)
        self._applier.apply(event)
        self._handler.run()

    def _fire(self, operation: Operation) -> None:
        event: CancelRequested | TimerFired
        if isinstance(operation, Expiry):
            event = CancelRequested(**self._ledger.head(), payload=Json(operation.reason))
        else:
            event = TimerFired(**self._ledger.head(), id=operation.id)
        self._ledger.append(event)
        self._applier.apply(event)
        self._handler.run()

    def _interrupted(self) -> bool:
        """Fail an at-most-once step whose attempt was started in a drive that did not live to record its end."""
        for operation in self._waiting:
            if operation.started and not operation.future.done():
                message = "An attempt was started, and its process died before the end was recorded."
                number = operation.attempt + 1
                error = StepInterruptedError(operation.id, "StepInterruptedError", message, number)
                self._waiting.remove(operation)
                self._fail(operation, ErrorInfo.of(error, message), number, None)
                return True
        return False

    # The end of an attempt

    def _complete(self, completion: Completion) -> None:
        operation = completion.attempt.operation
        if operation.future.done():
            return
        self._overtime = False
        if completion.fatal and completion.error is not None:
            raise completion.error
        if completion.error is not None:
            self._failed(operation, completion.error)
            return
        self._session.loop.at = self._ledger.append_result(operation.id, operation.attempt + 1, completion.text)
        self._applier.finish_step(operation, completion.value)
        self._handler.run()

    def _failed(self, operation: StepOperation, error: BaseException) -> None:
        number = operation.attempt + 1
        info = ErrorInfo.of(error, error.message if isinstance(error, (StepTimeoutError, StepResultError)) else None)
        delay = _delay_after(operation, number, error)
        if delay is None:
            self._fail(operation, info, number, error)
            return
        retry_at = _later(self._ledger.now(), delay)
        self._ledger.append(
            StepRetrying(**self._ledger.head(), id=operation.id, attempt=number, retry_at=retry_at, error=info)
        )
        operation.attempt = number
        operation.retry_at = retry_at
        self._waiting.append(operation)

    def _fail(self, operation: StepOperation, info: ErrorInfo, number: int, cause: BaseException | None) -> None:
        event = StepFailed(**self._ledger.head(), id=operation.id, attempt=number, error=info)
        self._ledger.append(event)
        self._session.loop.at = event.at
        self._applier.fail_step(operation, info, number, cause)
        self._handler.run()


def _delay_after(operation: StepOperation, number: int, error: BaseException) -> float | None:
    try:
        return operation.retry.delay_after(number, error)
    except Exception:
        logger.exception("The retry policy of step %r failed; the step is not tried again.", operation.id)
        return None


def _later(now: datetime, delay: float) -> datetime:
    try:
        return now + timedelta(seconds=delay)
    except OverflowError:
        return datetime.max.replace(tzinfo=now.tzinfo)
