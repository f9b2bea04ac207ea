"""`SQLiteStore`: the store in one local file."""

from __future__ import annotations

import os
import weakref
from dataclasses import replace
from typing import get_args

from workflow.core.errors import InvalidArgumentError
from workflow.runtime.contract import Capabilities

from .connection import Database, Synchronous
from .executor import Batch, Row
from .lanes import Lane, ReadingLane, WritingLane
from .logic import SqlExecutionStore

__all__ = ["SQLiteExecutor", "SQLiteStore"]


class SQLiteExecutor:
    """Runs batches on a file: writing ones in groups on one thread, reading ones on another.

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

    capabilities = Capabilities(durable=True, shared=True, renews_from_any_loop=True, queues=True, schedules=True)

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
            vars(self)["capabilities"] = replace(self.capabilities, durable=False, shared=False)

    async def migrate(self) -> None:
        """Create the file and the schema, or upgrade the schema to this package's version.

        Each migration is atomic. Safe to repeat, and safe when several processes do it at once. Raises `StoreError`,
        and changes nothing, where the schema is newer than this package or the file is no database.
        """
        self._file.database.create = True
        await super().migrate()

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
