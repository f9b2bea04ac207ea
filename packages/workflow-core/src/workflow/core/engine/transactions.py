"""Database steps in a drive: whose turn it is, and what is committed then.

A step like any other runs beside the drive, and its end is an event that the drive appends and commits. Here the end
must be committed by the step's own transaction, so the drive lends it the pen: the step says that it is ready, the
drive stands still, the step commits what is pending together with its own end, and the drive goes on from there. A
transaction that is undone after all gives the pen back, and nothing has happened.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Coroutine
from typing import Any

from workflow.core.errors import InvalidArgumentError
from workflow.core.events import StepFinished
from workflow.core.payload import Json
from workflow.core.records import Commit, Committed
from workflow.core.transactions import Isolation, Transaction
from workflow.core.types_of import is_async

from .ledger import Ledger
from .operations import StepOperation

__all__ = ["Pen", "TransactionOperation", "TransactionTry", "Turn"]


class TransactionOperation(StepOperation):
    """A step whose function runs in a transaction. In the log it is a step."""

    __slots__ = ("isolation",)

    def __init__(self, *args: Any, isolation: Isolation | None) -> None:
        super().__init__(*args)
        self.isolation: Isolation | None = isolation


class Pen:
    """The drive's right to write to the log, lent for one commit."""

    def __init__(self, ledger: Ledger, operation: StepOperation) -> None:
        self._ledger = ledger
        self._operation = operation
        self.value: Any = None
        """The step's result, as its JSON gave it back."""
        self.event: StepFinished | None = None
        self.written: Commit | None = None

    def write(self, text: str, value: Any) -> Commit:
        """The commit of what is pending and of the step's end."""
        operation = self._operation
        self.value = value
        self.event = StepFinished(
            **self._ledger.head(), id=operation.id, attempt=operation.attempt + 1, result=Json(text)
        )
        self.written = self._ledger.lend(self.event)
        return self.written


class Turn:
    """A transaction that is ready to commit, and waits for the pen."""

    def __init__(self, operation: StepOperation) -> None:
        loop = asyncio.get_running_loop()
        self.operation = operation
        self.granted: asyncio.Future[Pen] = loop.create_future()
        self.settled: asyncio.Future[Committed | None] = loop.create_future()
        """Done when the pen is back: with what the store answered, or None if nothing was committed."""

    @property
    def wanted(self) -> bool:
        """Whether somebody still waits for it."""
        return not self.granted.done() and not self.operation.future.done()

    def settle(self, answer: Committed | None) -> None:
        if not self.settled.done():
            self.settled.set_result(answer)


class TransactionTry(Transaction):
    """One attempt of a database step, as its store sees it."""

    def __init__(
        self,
        run_id: str,
        operation: TransactionOperation,
        encode: Callable[[Any], tuple[str, Any]],
        announce: Callable[[Turn], None],
    ) -> None:
        self.run_id = run_id
        self.isolation = operation.isolation
        self.is_async = is_async(operation.fn)
        self.failure: BaseException | None = None
        """What the function, or its result, has raised in the last try."""
        self._operation = operation
        self._encode = encode
        self._announce = announce
        self._turn: Turn | None = None
        self._pen: Pen | None = None

    def begin(self) -> None:
        self.settle(None)
        self._turn = self._pen = self.failure = None

    def call(self, connection: Any) -> Any:
        operation = self._operation
        try:
            result = operation.fn(connection, *operation.args)
        except BaseException as error:
            self.failure = error
            raise
        if self.is_async:
            return self._awaited(result)
        if inspect.isawaitable(result):
            self.failure = self._not_async(result)
            raise self.failure
        return result

    async def _awaited(self, result: Any) -> Any:
        try:
            return await result
        except BaseException as error:
            self.failure = error
            raise

    def _not_async(self, result: Any) -> InvalidArgumentError:
        if isinstance(result, Coroutine):
            result.close()
        return InvalidArgumentError(
            f"The function of transaction {self._operation.id!r} returned an awaitable and is no `async def`: pass an "
            "`async def` itself (or a functools.partial of one), not a lambda around it."
        )

    async def turn(self) -> None:
        self._turn = Turn(self._operation)
        self._announce(self._turn)
        self._pen = await self._turn.granted

    def commit(self, result: Any) -> Commit:
        assert self._pen is not None, "a commit needs the turn"
        try:
            return self._pen.write(*self._encode(result))
        except BaseException as error:
            self.failure = error
            raise

    def fail(self, error: Exception) -> Exception:
        self.failure = error
        return error

    def settle(self, answer: Committed | None) -> None:
        """Give the pen back."""
        if self._turn is not None:
            self._turn.settle(answer)
