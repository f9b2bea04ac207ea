"""What the parts of one drive share."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime

from workflow.core.errors import WorkflowError
from workflow.core.events import Event, NowRecorded, UuidRecorded
from workflow.core.journal import Result
from workflow.core.loop import DurableLoop, DurableTask, DurableTimer
from workflow.core.records import ClaimedRun

from .environment import DriveEnvironment
from .expiry import Expiry
from .history import History
from .ledger import Ledger
from .mailbox import Mailbox
from .operations import Operations, TimerOperation
from .timers import Timers

__all__ = ["Session"]

_LATEST = datetime.max.replace(tzinfo=UTC)


class Session:
    """The run, its loop, its operations, and in which part of its life the drive is."""

    def __init__(self, claimed: ClaimedRun, history: Sequence[Event | Result], environment: DriveEnvironment) -> None:
        self.run = claimed.run
        self.environment = environment
        self.operations = Operations(claimed.run.run_id)
        self.timers = Timers()
        self.mailbox = Mailbox(claimed.mail)
        self.ledger = Ledger(claimed.run, environment, history[-1].at if history else None)
        started = claimed.run.started_at or claimed.run.created_at
        if history:
            started = min(started, history[0].at)  # a run may begin with the history of another
        self.loop = DurableLoop(started.timestamp(), self._start_timer, self._cancel_timer)
        self.history = History(history, self.loop)
        self.main: DurableTask | None = None
        expires_at = claimed.run.expires_at
        self.expiry = None if expires_at is None else Expiry(expires_at, self.loop)
        self.recorded: dict[str, NowRecorded | UuidRecorded] = {
            event.id: event for event in history if type(event) is NowRecorded or type(event) is UuidRecorded
        }
        self.replaying = bool(history)
        """The handler is being brought back to where it was: nothing it does is news."""
        self.closing = False
        """The handler is being torn down: nothing it asks for is started."""
        self.yielding = False
        """The handler has asked to end this drive."""
        self.yield_reason: str | None = None
        self.blocked: WorkflowError | None = None
        """Why the run can't be replayed."""
        self.cancelled = False
        """A cancel request has been delivered into the handler."""
        self._auto_ids: dict[str, int] = {}

    def auto_id(self, kind: str, name: str | None = None) -> str:
        """An id made of kind, name, the place of the current task among its siblings, and a counter within it."""
        task = asyncio.current_task()
        path = task.path if isinstance(task, DurableTask) else ""
        stem = f"${kind}{f':{name}' if name else ''}{f'@{path}' if path else ''}"
        number = self._auto_ids[stem] = self._auto_ids.get(stem, 0) + 1
        return f"{stem}#{number}"

    def instant(self, timestamp: float) -> datetime:
        """A loop time as an instant; what lies beyond the calendar is its end."""
        try:
            return datetime.fromtimestamp(timestamp, UTC)
        except (OverflowError, ValueError):
            return _LATEST

    def _start_timer(self, timer: DurableTimer) -> None:
        if self.closing:
            return
        operation = TimerOperation(
            self.auto_id("timer"), asyncio.Future(loop=self.loop), self.instant(timer.when()), timer
        )
        timer.operation = operation  # type: ignore[attr-defined]
        self.operations.issue(operation)

    def _cancel_timer(self, timer: DurableTimer) -> None:
        operation: TimerOperation | None = getattr(timer, "operation", None)
        if operation is not None and not self.closing:
            operation.future.cancel()
            self.operations.close(operation)
