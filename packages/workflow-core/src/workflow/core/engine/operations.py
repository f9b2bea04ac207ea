"""The durable operations that a handler has asked for, by id."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from datetime import datetime
from typing import Any

from workflow.core.errors import InvalidArgumentError
from workflow.core.events import Event
from workflow.core.journal import Result
from workflow.core.loop import DurableTimer
from workflow.core.payload import PayloadType
from workflow.core.records import Wait
from workflow.core.retry import Retry

from .mismatch import entry, mismatch, one

__all__ = [
    "ApprovalOperation",
    "Operation",
    "Operations",
    "SignalOperation",
    "StepOperation",
    "TimerOperation",
]


class Operation:
    """One operation. It is open until its future is done: resolved by an event, or abandoned by the handler."""

    __slots__ = ("future", "id", "logged", "meta", "until")
    kind = "operation"

    def __init__(self, id: str, future: asyncio.Future[Any], meta: dict[str, Any] | None = None) -> None:
        self.id = id
        self.future = future
        self.meta = meta
        self.until: datetime | None = None
        self.logged = False
        """Whether its start (timer, wait, approval) is in the log."""

    def wait(self) -> Wait | None:
        """What a paused run says about it."""
        return None


class StepOperation(Operation):
    __slots__ = ("args", "attempt", "context", "fn", "result_type", "retry", "retry_at", "started", "timeout")
    kind = "step"

    def __init__(
        self,
        id: str,
        future: asyncio.Future[Any],
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        retry: Retry,
        timeout: float | None,
        result_type: PayloadType,
        meta: dict[str, Any] | None,
    ) -> None:
        # As `Operation.__init__`, which would be one more call for each step.
        self.id = id
        self.future = future
        self.meta = meta
        self.until = None
        self.logged = False
        self.fn = fn
        self.args = args
        self.retry = retry
        self.timeout = timeout
        self.result_type = result_type
        self.context = contextvars.copy_context()
        self.attempt = 0
        """How many attempts have failed."""
        self.retry_at: datetime | None = None
        self.started = False
        """Whether the log says that an attempt was started and not how it ended."""

    def wait(self) -> Wait | None:
        return Wait("retry", self.id, until=self.retry_at) if self.retry_at else None


class TimerOperation(Operation):
    """A sleep (somebody awaits its future), or a timer of asyncio's (it has a handle to fire)."""

    __slots__ = ("timer",)
    kind = "timer"

    def __init__(
        self,
        id: str,
        future: asyncio.Future[Any],
        until: datetime,
        timer: DurableTimer | None = None,
        meta: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(id, future, meta)
        self.until = until
        self.timer = timer

    def wait(self) -> Wait:
        return Wait("timer", self.id, until=self.until, meta=self.meta)


class SignalOperation(Operation):
    __slots__ = ("name", "type")
    kind = "signal"

    def __init__(
        self, id: str, future: asyncio.Future[Any], name: str, type_: PayloadType, meta: dict[str, Any] | None
    ) -> None:
        super().__init__(id, future, meta)
        self.name = name
        self.type = type_

    def wait(self) -> Wait:
        return Wait("signal", self.id, self.name, self.until, meta=self.meta)


class ApprovalOperation(Operation):
    __slots__ = ("description", "title")
    kind = "approval"

    def __init__(
        self,
        id: str,
        future: asyncio.Future[Any],
        title: str,
        description: str | None,
        meta: dict[str, Any] | None,
    ) -> None:
        super().__init__(id, future, meta)
        self.title = title
        self.description = description

    def wait(self) -> Wait:
        return Wait("approval", self.id, self.title, self.until, self.description, self.meta)


class Operations:
    """All operations of a run by id, and those that are open, in the order in which they were asked for."""

    def __init__(self, run_id: str) -> None:
        self._run_id = run_id
        self._kinds: dict[str, str] = {}
        self.open: dict[str, Operation] = {}
        self.fresh: list[Operation] = []
        """Asked for since the engine last looked."""
        self.abandoned: list[Operation] = []
        """No longer awaited by the handler, since the engine last looked."""

    def reserve(self, id: str, kind: str) -> None:
        """Take an id. Raises `InvalidArgumentError` if the run has used it before: ids are how the log is read."""
        known = self._kinds.get(id)
        if known is not None:
            raise InvalidArgumentError(
                f"Run {self._run_id!r} already has {one(known)} with the id {id!r}. Each operation needs an id of its "
                f'own: in a loop, make it part of the id, as in f"{id}:{{item.id}}".'
            )
        self._kinds[id] = kind

    def issue(self, operation: Operation) -> None:
        self.reserve(operation.id, operation.kind)
        self.open_reserved(operation)

    def open_reserved(self, operation: Operation) -> None:
        """`issue` for one whose id is reserved."""
        self.open[operation.id] = operation
        self.fresh.append(operation)

    def close(self, operation: Operation) -> None:
        self.open.pop(operation.id, None)

    def abandon(self, operation: Operation) -> None:
        """The handler has cancelled its wait: a branch that lost a race, a timeout, a cancelled run."""
        self.close(operation)
        self.abandoned.append(operation)

    def kind_of(self, id: str) -> str | None:
        return self._kinds.get(id)

    def expect(self, id: str, kind: str | None, event: Event | Result) -> Operation:
        """The open operation that an entry of the log speaks of.

        Raises `NonDeterminismError` if the handler has asked for nothing, or for something else, under this id.
        `kind=None` takes any kind that has a timeout.
        """
        operation = self.open.get(id)
        if operation is not None and (kind is None or operation.kind == kind):
            return operation
        raise mismatch(self._run_id, entry(event), self._found(id))

    def _found(self, id: str) -> str:
        asked = self._kinds.get(id)
        if asked is None:
            waiting = ", ".join(f"{op.kind} {op.id!r}" for op in list(self.open.values())[:5]) or "nothing"
            return f"the handler has not asked for {id!r}; it waits for {waiting}"
        if id in self.open:
            return f"the handler asked for {one(asked)} under this id"
        return f"the handler's {asked} {id!r} is no longer open at this point"
