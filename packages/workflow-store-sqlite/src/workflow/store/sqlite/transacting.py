"""Database steps: the step's function and the run's commit in one transaction, on the writing thread.

    BEGIN IMMEDIATE
    the function's statements
    the commit's statements, guarded as ever; whether they have found the run decides about everything
    COMMIT

SQLite has one writer at a time, so the drive stands still before the transaction begins: nothing that it could commit
meanwhile would get anywhere.
"""

from __future__ import annotations

import asyncio
import contextvars
import sqlite3
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from workflow.core.errors import HandlerError, InvalidArgumentError, LogConflictError
from workflow.core.records import Commit, Committed
from workflow.core.transactions import Transaction

from .commits import commit_result, commit_statements
from .executor import Row
from .lanes import Job

__all__ = ["StepJob", "check_step"]

_NOT_YOURS = (
    "The function of a ctx.transaction() must not begin, commit or roll back: that is done around it. (sqlite3's "
    "executescript() commits, too.) For a part that may fail use a SAVEPOINT."
)


def check_step(step: Transaction) -> None:
    """Refuse a function that can't run in the writing thread."""
    if step.is_async:
        raise step.fail(
            InvalidArgumentError(
                "SQLiteStore calls the function of ctx.transaction() in its writing thread: write a `def`, which gets "
                "an sqlite3.Connection, not an `async def`."
            )
        )


class StepJob(Job):
    """A database step as a job of the writing lane. It has a transaction to itself."""

    __slots__ = ("_context", "_step", "committed")
    alone = True

    def __init__(self, step: Transaction, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__((), loop)
        self._step = step
        self._context = contextvars.copy_context()
        self.committed: Committed | None = None

    def owns(self, error: Exception) -> bool:
        return error is self._step.failure

    def run(self, connection: sqlite3.Connection) -> list[list[Row]]:
        with _kept(connection) as told:
            result = self._call(connection, told)
        if not connection.in_transaction:
            raise self._step.fail(HandlerError(_NOT_YOURS))
        self.committed = _apply(connection, self._context.run(self._step.commit, result))
        return []

    def _call(self, connection: sqlite3.Connection, told: list[str]) -> Any:
        try:
            return self._context.run(self._step.call, connection)
        except Exception as error:
            if told:
                raise self._step.fail(HandlerError(_NOT_YOURS)) from error
            raise
        except BaseException as error:  # it ends the step, and not the thread
            raise self._step.fail(RuntimeError(f"The function raised {error!r}, which is no Exception.")) from error

    def fail_at_end(self, error: sqlite3.Error) -> Exception:
        """What a refused COMMIT means: a constraint that was deferred until then is the step's own fault."""
        violated = (getattr(error, "sqlite_errorcode", 0) or 0) & 0xFF == sqlite3.SQLITE_CONSTRAINT
        return self._step.fail(error) if violated else error


def _apply(connection: sqlite3.Connection, commit: Commit) -> Committed:
    """Carry out the commit; raises what `RunStore.commit` does.

    An answer alone doesn't do here: to a commit that was applied before it is the same, and then the function's writes
    would be there twice.
    """
    before, rows = connection.total_changes, list[Row]()
    for sql, values in commit_statements(commit):
        rows = connection.execute(sql, values).fetchall()
    committed = commit_result(commit, rows)
    if connection.total_changes == before:
        raise LogConflictError(commit.run_id, commit.expected_index, commit.expected_index + len(commit.records))
    return committed


@contextmanager
def _kept(connection: sqlite3.Connection) -> Generator[list[str]]:
    """The connection for a while in the hands of others: they can't end its transaction, and it is as it was after.

    Gives what they have tried.
    """
    told: list[str] = []

    def authorize(action: int, what: str | None, *_: object) -> int:
        if action != sqlite3.SQLITE_TRANSACTION:
            return sqlite3.SQLITE_OK
        told.append(what or "")
        return sqlite3.SQLITE_DENY

    factories = connection.row_factory, connection.text_factory
    connection.set_authorizer(authorize)
    try:
        yield told
    finally:
        connection.set_authorizer(None)
        connection.row_factory, connection.text_factory = factories
