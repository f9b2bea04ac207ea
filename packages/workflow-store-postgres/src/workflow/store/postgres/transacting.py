"""Database steps: the step's function and the run's commit in one transaction.

    BEGIN                               on a connection of the engine's pool, beside those that the store holds
    the function's statements
    (the drive stands still from here on)
    the commit, guarded as ever         it waits for the row's lock: see `waiting` in statements/parts.py
    COMMIT

Whatever goes wrong before the last line leaves nothing behind. What others have undone (a serialization failure, a
deadlock, a connection lost on the way) is tried again from the first line. Only of a connection that is lost while
COMMIT is on its way nobody knows the outcome: that ends the drive, and the log tells the next one.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, NoReturn

from sqlalchemy import event
from sqlalchemy.engine import Connection
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncTransaction
from sqlalchemy.pool import Pool
from sqlalchemy.util import greenlet_spawn

from workflow.core.errors import HandlerError, LogConflictError, StoreError, StoreUnavailableError
from workflow.core.records import Commit, Committed
from workflow.core.transactions import Transaction

from .commits import answer_from_row, check_commit, commit_args, outcome_of
from .connector import Connector
from .drivers import REFUSED, Driver, LostConnectionError, RefusedError, adapt, sqlstate_of, translated
from .joining import fetch_with, is_autocommit
from .rows import MAIL, Row, as_json, mail_from_arrays, run_record
from .statements import Statements

__all__ = ["Transacting"]

_TRIES = 10
_LONGEST_PAUSE = 0.25
_FAILED_BEFORE = "25P02"
_NOT_YOURS = (
    "The function of a ctx.transaction() must not commit or roll back its connection: that is done when it returns or "
    "raises. For a part that may fail use `async with connection.begin_nested()`."
)
_WENT_ON = (
    "The function of a ctx.transaction() has caught an error of the database and returned, but that error has undone "
    "the whole transaction. Do what may fail inside `async with connection.begin_nested()`, a savepoint."
)


class _AgainError(Exception):
    """The transaction was undone because of others: it may be tried again. The cause says why."""


class Transacting:
    """The database steps of one event loop, at most `limit` at a time, each on a connection of its own."""

    def __init__(
        self,
        engine: AsyncEngine,
        pool: Callable[[], Pool],
        connector: Connector,
        sql: Statements,
        *,
        limit: int,
        retry_for: float,
    ) -> None:
        self._engine = engine
        self._pool = pool
        self._connector = connector
        self._sql = sql
        self._slots = asyncio.Semaphore(limit)
        self._retry_for = retry_for

    async def transact(self, step: Transaction) -> Committed:
        loop = asyncio.get_running_loop()
        give_up, tries = loop.time() + self._retry_for, 0
        while True:
            tries += 1
            try:
                async with self._slots:
                    return await self._try(step)
            except _AgainError as again:
                reason = again.__cause__
                if isinstance(reason, LostConnectionError) and loop.time() >= give_up:
                    raise self._connector.unanswered(reason) from reason
                if isinstance(reason, RefusedError) and tries >= _TRIES:
                    raise step.fail(_undone(tries, reason)) from reason
            await asyncio.sleep(random.uniform(0, min(0.002 * 2**tries, _LONGEST_PAUSE)))

    async def _try(self, step: Transaction) -> Committed:
        step.begin()
        async with self._opened(step) as opened:
            transaction = await opened.connection.begin()
            result = await opened.call(step)
            if not transaction.is_active:
                raise step.fail(HandlerError(_NOT_YOURS))
            await step.turn()
            commit = step.commit(result)
            check_commit(commit)
            rows = await self._write(opened.connection, commit, step)
            if not rows:
                await transaction.rollback()
                await self._refuse(commit)
            await self._finish(transaction, step)
            return answer_from_row(rows[0]) or Committed(False)  # what it does not show is news for the next commit

    @asynccontextmanager
    async def _opened(self, step: Transaction) -> AsyncGenerator[_Opened]:
        try:
            proxy = await greenlet_spawn(self._pool().connect)
        except Exception as error:
            ours = translated(error, connecting=True)
            if isinstance(ours, LostConnectionError):
                raise _AgainError from ours
            raise ours or error from error
        connection = AsyncConnection(self._engine, Connection(self._engine.sync_engine, connection=proxy))
        try:
            level = step.isolation or ("READ COMMITTED" if is_autocommit(proxy) else None)
            if level is not None:
                await connection.execution_options(isolation_level=level)
            yield _Opened(connection, adapt(proxy.driver_connection, pooler=False))
        except Exception:
            raise
        except BaseException:  # cancelled: nobody waits for what the server says any more
            await asyncio.shield(connection.invalidate())
            raise
        finally:
            await asyncio.shield(connection.close())  # which rolls back what is open

    async def _write(self, connection: AsyncConnection, commit: Commit, step: Transaction) -> Sequence[Row]:
        try:
            return await fetch_with(connection, self._sql.commit_within, commit_args(commit))
        except Exception as error:
            if sqlstate_of(error) == _FAILED_BEFORE:
                raise step.fail(HandlerError(_WENT_ON)) from error
            ours = translated(error)
            if isinstance(ours, (LostConnectionError, RefusedError)):
                raise _AgainError from ours
            raise ours or error from error

    async def _finish(self, transaction: AsyncTransaction, step: Transaction) -> None:
        try:
            await transaction.commit()
        except Exception as error:
            ours = translated(error)
            if isinstance(ours, RefusedError):
                raise _AgainError from ours
            if sqlstate_of(error) and not isinstance(ours, LostConnectionError):
                raise step.fail(error) from None  # the server's word: a deferred constraint, say
            raise StoreUnavailableError(
                f"The connection was lost while a transaction was being committed, and it may or may not be: {error}"
            ) from error

    async def _refuse(self, commit: Commit) -> NoReturn:
        """Raise why the guard did not hold."""
        rows = await self._connector.fetch(self._sql.look, *as_json([(commit.run_id, commit.seen_mail)]), False)
        run = run_record(rows[0]) if rows else None
        outcome = outcome_of(commit, run, mail_from_arrays(rows[0][MAIL]) if rows else ())
        if isinstance(outcome, Exception):
            raise outcome
        raise LogConflictError(commit.run_id, commit.expected_index, run.log_length if run is not None else 0)


class _Opened:
    """A connection of the pool, for one transaction."""

    def __init__(self, connection: AsyncConnection, driver: Driver) -> None:
        self.connection = connection
        self._driver = driver

    async def call(self, step: Transaction) -> Any:
        """Call the step's function. An error that the database is to blame for is no failure of the step."""
        sync = self.connection.sync_connection
        event.listen(sync, "commit", _refuse_commit)
        try:
            return await step.call(self.connection) if step.is_async else await self.connection.run_sync(step.call)
        except Exception as error:
            if sqlstate_of(error).startswith(REFUSED):
                raise _AgainError from RefusedError(f"{type(error).__name__}: {error}")
            if self.connection.invalidated or self._driver.closed:
                raise _AgainError from LostConnectionError(f"{type(error).__name__}: {error}")
            raise
        finally:
            event.remove(sync, "commit", _refuse_commit)


def _refuse_commit(connection: Connection) -> NoReturn:
    raise HandlerError(_NOT_YOURS)


def _undone(tries: int, reason: Exception) -> StoreError:
    return StoreError(f"The transaction was tried {tries} times, and undone each time because of others: {reason}")
