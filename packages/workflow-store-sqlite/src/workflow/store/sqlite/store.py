"""`SQLiteStore`: the store in one local file."""

from __future__ import annotations

import asyncio
import os
import weakref
from dataclasses import replace
from datetime import datetime
from typing import Any, get_args

from workflow.core.errors import InvalidArgumentError
from workflow.core.records import Committed, CreatedRun, Delivered, NewMail, NewRun
from workflow.core.transactions import Transaction
from workflow.runtime.contract import Capabilities

from .connection import Database, Synchronous
from .creation import create_result, create_statements
from .executor import Batch, Row
from .inbox import deliver_result, deliver_statements
from .joining import check_connection, run_batch, schema_version
from .lanes import Lane, ReadingLane, WritingLane
from .logic import SqlExecutionStore
from .schema import require_version
from .transacting import StepJob, check_step

__all__ = ["SQLiteExecutor", "SQLiteStore"]


class SQLiteExecutor:
    """Runs batches on a file: writing ones in groups on one thread, reading ones on another. Steps run on the first.

    A database in memory has one connection, so there all batches go to the writing lane.
    """

    def __init__(self, database: Database, *, busy_timeout: float, group_size: int) -> None:
        self.database = database
        self._writer: Lane = WritingLane(database, database.open_to_write, patience=busy_timeout, group_size=group_size)
        self._reader = self._writer
        if not database.in_memory:
            self._reader = ReadingLane(database, database.open_to_read, patience=busy_timeout)
        # A store that nobody closed lets its threads go when it is collected, or when the interpreter ends.
        weakref.finalize(self, _stop, self._writer, self._reader)

    async def batch(self, statements: Batch, *, readonly: bool = False) -> list[list[Row]]:
        lane = self._reader if readonly else self._writer
        return await lane.submit(statements)

    async def transact(self, step: Transaction) -> Committed:
        """Run a database step."""
        job = StepJob(step, asyncio.get_running_loop())
        await self._writer.put(job)
        assert job.committed is not None
        return job.committed

    async def close(self) -> None:
        """Run what has been submitted, then end the threads and close the file. Safe to repeat."""
        await self._reader.close()
        await self._writer.close()


def _stop(*lanes: Lane) -> None:
    for lane in lanes:
        lane.stop()


class SQLiteStore(SqlExecutionStore):
    """An `ExecutionStore` in one SQLite file on a local disk, for all processes of one machine.

    Nothing is opened before the first use, which creates the file and the schema, and upgrades an older one. With
    `migrate=False` it does neither, and raises `StoreError` until `await store.migrate()` or `workflow migrate` has
    run. The tables are named `workflow_...` and may live in a file that has tables of the app as well.

    `synchronous` is SQLite's: with "FULL" (default) what was answered survives a power cut. "NORMAL" is faster and
    survives the death of the process; a power cut may take the last moments back. `busy_timeout` is how many seconds an
    operation waits for other processes before it raises `StoreUnavailableError`. `group_size` is how many operations
    may share one transaction.

    `":memory:"` is a database that ends with the store: for tests, in one process.

    The store may be used from any event loop and any thread. Across a fork it opens the file anew.
    """

    capabilities = Capabilities(
        durable=True,
        shared=True,
        renews_from_any_loop=True,
        queues=True,
        schedules=True,
        transactions=True,
        joins_transactions=True,
    )

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        migrate: bool = True,
        synchronous: Synchronous = "FULL",
        busy_timeout: float = 60.0,
        group_size: int = 64,
    ) -> None:
        database = Database(_checked_path(path), _checked_level(synchronous), create=migrate)
        if group_size < 1:
            raise InvalidArgumentError(f"group_size must be at least 1, not {group_size}.")
        executor = SQLiteExecutor(database, busy_timeout=busy_timeout, group_size=group_size)
        super().__init__(executor, migrate=migrate, where=database.where)
        self._file = executor
        if database.in_memory:
            # The contract declares capabilities on the class; this instance has less.
            vars(self)["capabilities"] = replace(
                self.capabilities, durable=False, shared=False, joins_transactions=False
            )

    async def transact(self, transaction: Transaction) -> Committed:
        """See `Transactor.transact`. The function is a `def`, and gets the store's own `sqlite3.Connection`.

        It runs on the writing thread, with the context variables of the step. Every transaction of SQLite's is
        serializable, so `isolation` is of no account, and nothing is ever undone because of others. While it runs,
        nobody else writes this file.
        """
        check_step(transaction)
        if not self._ready:
            await self._prepare()
        transaction.begin()
        await transaction.turn()
        return await self._file.transact(transaction)

    async def create_run_within(self, connection: Any, new: NewRun, *, now: datetime) -> CreatedRun:
        """See `ExecutionStore`. `connection` is an `sqlite3.Connection` to this file, and used in this thread."""
        return create_result(self._within(connection, create_statements(new, None, now)), new, None)

    async def deliver_within(self, connection: Any, run_id: str, mail: NewMail, *, now: datetime) -> Delivered:
        """See `ExecutionStore` and `create_run_within`."""
        results = self._within(connection, deliver_statements(run_id, mail, None, now))
        return deliver_result(results, mail, None, now)

    def _within(self, connection: Any, statements: Batch) -> list[list[Row]]:
        checked = check_connection(connection, self._file.database)
        if not self._ready:
            # On the app's connection, whose transaction would be in the way of a migration.
            require_version(schema_version(checked), self._file.database.where)
        return run_batch(checked, statements)

    async def migrate(self) -> None:
        """Create the file and the schema, or upgrade the schema to this package's version.

        Each migration is atomic. Safe to repeat, and safe when several processes do it at once. Raises `StoreError`,
        and changes nothing, where the schema is newer than this package or the file is no database.
        """
        self._file.database.create = True
        await super().migrate()

    async def check(self) -> None:
        """Raise `StoreError` unless the schema is there and of this package's version. It makes no file."""
        self._file.database.require_file()
        await super().check()

    async def close(self) -> None:
        """Finish what is under way, end the threads, close the file. Safe to repeat; any other use then raises."""
        await self._file.close()


def _checked_path(path: str | os.PathLike[str]) -> str:
    text = os.fspath(path)
    if not text or text.startswith("file:"):
        raise InvalidArgumentError(f"path must be the path of a file or ':memory:', not {text!r}.")
    return text


def _checked_level(synchronous: str) -> Synchronous:
    levels: tuple[Synchronous, ...] = get_args(Synchronous)
    for level in levels:
        if level == synchronous:
            return level
    raise InvalidArgumentError(f"synchronous must be one of {', '.join(levels)}, not {synchronous!r}.")
