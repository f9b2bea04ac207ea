"""What stands behind the methods of `Context`: each asks for a durable operation and waits for what the log says."""

from __future__ import annotations

import asyncio
from asyncio import events
from collections.abc import Callable
from datetime import datetime, timedelta
from types import FunctionType
from typing import Any, NoReturn
from uuid import UUID, uuid4

from workflow.core.arguments import Duration, aware, identifier, seconds
from workflow.core.errors import HandlerError, InvalidArgumentError, PayloadError, WorkflowError
from workflow.core.events import Custom, NowRecorded, UuidRecorded
from workflow.core.journal import Result
from workflow.core.payload import Json, PayloadType, payload_type, plain_text
from workflow.core.retry import Retry
from workflow.core.transactions import isolation_level
from workflow.core.types_of import result_type

from .apply import unfit_result
from .mismatch import entry, mismatch
from .operations import ApprovalOperation, Operation, SignalOperation, StepOperation, TimerOperation
from .session import Session
from .transactions import TransactionOperation

__all__ = ["Primitives"]

_ONCE = Retry.none()
_KEPT_TYPES = 16


class Primitives:
    """The durable operations of one drive."""

    def __init__(self, session: Session, default_retry: Retry | None) -> None:
        self._session = session
        self._loop = session.loop
        self._operations = session.operations
        self._history = session.history
        self._default_retry = default_retry or _ONCE
        self._types: dict[Callable[..., Any], PayloadType] = {}
        """The result types of the functions that this drive has used last."""

    # Steps

    async def step(
        self,
        id: str,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        retry: Retry | None,
        timeout: Duration | None,
        meta: dict[str, Any] | None,
    ) -> Any:
        if events._get_running_loop() is not self._loop or self._session.closing:  # type: ignore[attr-defined]
            self._refused("step")
            await self._forever()
        known = self._history.next
        if type(known) is not Result or known.id != id or type(id) is not str:
            known = None
            id = identifier(id, "step id", reserved=True)  # that of a result has been checked before
        if not callable(fn):
            raise InvalidArgumentError(
                f"Step {id!r} takes a function and its arguments: ctx.step({id!r}, function, ...), not "
                f"{type(fn).__name__}."
            )
        limit = None if timeout is None else seconds(timeout, "timeout")
        type_ = self._types.get(fn) if type(fn) is FunctionType else None
        if type_ is None:
            type_ = self._result_type(fn, id)
        meta = meta if meta is None else _checked_meta(meta)
        self._operations.reserve(id, "step")
        if known is not None and self._history.give_back(known):
            try:
                return type_.decode(known.text, "")
            except PayloadError as error:
                await self._block(unfit_result(id, self._session.run.run_id, error))
        future: asyncio.Future[Any] = asyncio.Future(loop=self._loop)
        operation = StepOperation(
            id, future, fn, args, _checked_retry(retry, id) or self._default_retry, limit, type_, meta
        )
        self._operations.open_reserved(operation)
        try:
            return await operation.future
        except asyncio.CancelledError:
            self._operations.abandon(operation)
            raise

    def _result_type(self, fn: Callable[..., Any], id: str) -> PayloadType:
        type_ = result_type(fn, id)
        if type(fn) is FunctionType:
            if len(self._types) >= _KEPT_TYPES:  # functions that are made anew must not pile up
                self._types.clear()
            self._types[fn] = type_
        return type_

    async def transaction(
        self,
        id: str,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        retry: Retry | None,
        timeout: Duration | None,
        isolation: str | None,
        meta: dict[str, Any] | None,
    ) -> Any:
        if self._refused("transaction"):
            await self._forever()
        self._check_transactions()
        identifier(id, "step id", reserved=True)
        if not callable(fn):
            raise InvalidArgumentError(
                f"Transaction {id!r} takes a function and its arguments: ctx.transaction({id!r}, function, ...), not "
                f"{type(fn).__name__}."
            )
        operation = TransactionOperation(
            id,
            asyncio.Future(loop=self._loop),
            fn,
            args,
            _checked_retry(retry, id) or self._default_retry,
            None if timeout is None else seconds(timeout, "timeout"),
            result_type(fn, id),
            _checked_meta(meta),
            isolation=isolation_level(isolation),
        )
        return await self._settle(operation)

    def _check_transactions(self) -> None:
        environment = self._session.environment
        if environment.transactor is None:
            name = environment.store_name or type(environment.store).__name__
            raise HandlerError(
                f"{name} can't run ctx.transaction(): it has no transactions that an app's tables could share. Use "
                "PostgresStore or SQLiteStore, or ctx.step() with the step's idempotency key."
            )

    # Time

    async def sleep(self, delay: Duration, id: str | None, meta: dict[str, Any] | None) -> None:
        if self._refused("sleep"):
            await self._forever()
        until = self._session.instant(self._session.loop.now + seconds(delay, "delay"))
        await self._sleep(until, id, meta)

    async def sleep_until(self, when: datetime, id: str | None, meta: dict[str, Any] | None) -> None:
        if self._refused("sleep_until"):
            await self._forever()
        await self._sleep(aware(when, "when"), id, meta)

    async def _sleep(self, until: datetime, id: str | None, meta: dict[str, Any] | None) -> None:
        id = self._id(id, "sleep")
        future = asyncio.Future[None](loop=self._session.loop)
        await self._settle(TimerOperation(id, future, until, meta=_checked_meta(meta)))

    # Mail

    async def wait_for_event(
        self,
        name: str,
        type_: Any,
        id: str | None,
        timeout: Duration | None,
        deadline: datetime | None,
        meta: dict[str, Any] | None,
    ) -> Any:
        if self._refused("wait_for_event"):
            await self._forever()
        name = identifier(name, "event name")
        held = type_ if isinstance(type_, PayloadType) else payload_type(type_)
        operation = SignalOperation(
            self._id(id, "event", name), asyncio.Future(loop=self._session.loop), name, held, _checked_meta(meta)
        )
        operation.until = self._limit(timeout, deadline)
        return await self._settle(operation)

    async def approve(
        self, title: str, id: str | None, description: str | None, timeout: Duration | None, meta: dict[str, Any] | None
    ) -> Any:
        if self._refused("approve"):
            await self._forever()
        title = identifier(title, "approval title")
        if description is not None and not isinstance(description, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidArgumentError(f"description must be a string, not {type(description).__name__}.")
        operation = ApprovalOperation(
            self._id(id, "approval", title),
            asyncio.Future(loop=self._session.loop),
            title,
            description,
            _checked_meta(meta),
        )
        operation.until = self._limit(timeout, None)
        return await self._settle(operation)

    def _limit(self, timeout: Duration | None, deadline: datetime | None) -> datetime | None:
        limits: list[datetime] = []
        if timeout is not None:
            limits.append(self._session.instant(self._session.loop.now + seconds(timeout, "timeout")))
        if deadline is not None:
            limits.append(aware(deadline, "deadline"))
        return min(limits, default=None)

    # Recorded values

    async def now(self, id: str | None) -> datetime:
        if self._refused("now"):
            await self._forever()
        id = self._id(id, "now")
        self._session.operations.reserve(id, "now")
        known = await self._recorded(id, NowRecorded)
        if known is None:
            ledger = self._session.ledger
            at = ledger.now()
            known = NowRecorded(run_id=ledger.run_id, index=ledger.next_index, at=at, id=id, value=at)
            ledger.append(known)
        return known.value

    async def uuid(self, id: str | None) -> UUID:
        if self._refused("uuid"):
            await self._forever()
        id = self._id(id, "uuid")
        self._session.operations.reserve(id, "uuid")
        known = await self._recorded(id, UuidRecorded)
        if known is None:
            ledger = self._session.ledger
            known = UuidRecorded(
                run_id=ledger.run_id, index=ledger.next_index, at=ledger.now(), id=id, value=str(uuid4())
            )
            ledger.append(known)
        return UUID(known.value)

    async def _recorded(self, id: str, type_: type[Any]) -> Any:
        known = self._session.recorded.pop(id, None)
        if known is not None and not isinstance(known, type_):
            await self._block(
                mismatch(
                    self._session.run.run_id,
                    entry(known),
                    "the handler asked for another kind of operation under this id",
                )
            )
        return known

    # Live

    def emit(self, name: str, value: Any) -> None:
        session = self._session
        name = identifier(name, "event name")
        text = plain_text(value, f"The value of emit({name!r})")
        if not session.replaying and not session.closing:
            session.ledger.emit(Custom(run_id=session.run.run_id, at=session.ledger.now(), name=name, value=Json(text)))

    def time_remaining(self) -> timedelta | None:
        environment = self._session.environment
        if environment.deadline is None:
            return None
        return max(environment.deadline - environment.clock.now(), timedelta(0))

    def should_yield(self, min_remaining: Duration | None) -> bool:
        session = self._session
        remaining = self.time_remaining()
        if remaining is None or session.replaying:
            return False
        margin = session.environment.margin if min_remaining is None else min_remaining
        # In seconds: not every length that can be asked for is a timedelta.
        return remaining.total_seconds() <= seconds(margin, "min_remaining")

    async def yield_now(self) -> None:
        """End the drive here, unless it has not got anywhere yet: the next one passes this point without stopping."""
        if self._refused("runtime.yield_now"):
            await self._forever()
        session = self._session
        first = session.run.fence == 1 and not session.history
        if not session.replaying and (session.ledger.appended or first):
            session.yielding = True
            await self._forever()

    # Parts

    def _refused(self, name: str) -> bool:
        """Refuse calls from outside the handler; true for one from a handler that is being torn down."""
        if events._get_running_loop() is not self._loop:  # type: ignore[attr-defined]
            raise HandlerError(
                f"ctx.{name}() was called outside the handler of run {self._session.run.run_id!r}: in a step, in "
                "middleware, "
                "or after the drive. Durable operations belong in the handler itself; a step is one side effect, and "
                "can't hold others."
            )
        return self._session.closing

    def _id(self, id: str | None, kind: str, name: str | None = None) -> str:
        return self._session.auto_id(kind, name) if id is None else identifier(id, f"{kind} id", reserved=True)

    async def _settle(self, operation: Operation) -> Any:
        self._session.operations.issue(operation)
        try:
            return await operation.future
        except asyncio.CancelledError:
            self._session.operations.abandon(operation)
            raise

    async def _block(self, error: WorkflowError) -> NoReturn:
        self._session.blocked = error
        await self._forever()

    async def _forever(self) -> NoReturn:
        while True:
            await asyncio.Future[None](loop=self._session.loop)


# What `ctx.step` gives is the coroutine of the primitive itself: so it is called, in warnings and in stacks of tasks.
Primitives.step.__qualname__ = "Context.step"


def _checked_meta(meta: dict[str, Any] | None) -> dict[str, Any] | None:
    if meta is not None:
        if not isinstance(meta, dict):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidArgumentError(f"meta must be a dict of plain JSON, not {type(meta).__name__}.")
        plain_text(meta, "meta")
    return meta


def _checked_retry(retry: Retry | None, id: str) -> Retry | None:
    if retry is None or isinstance(retry, Retry):  # pyright: ignore[reportUnnecessaryIsInstance]
        return retry
    raise InvalidArgumentError(f"Step {id!r}: retry must be a Retry(...), not {retry!r:.100}.")
