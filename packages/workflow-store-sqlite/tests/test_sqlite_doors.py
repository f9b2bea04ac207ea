"""The same store through a door as narrow as Cloudflare D1's, made here of an SQLite in memory.

It takes one batch at a time, at most a hundred parameters a statement, binds every integer as a REAL, as JavaScript
does, gives rows as dictionaries, from which columns of one name vanish, and has no integers beyond 2**53.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

from workflow.core.errors import StoreError
from workflow.runtime.contract import Capabilities
from workflow.runtime.testing.suite import ExecutionStoreSuite
from workflow.store.sqlite import Batch, Row, SqlExecutionStore, SqlValue


class NarrowDoor:
    """An `Executor` that allows what D1 allows."""

    def __init__(self) -> None:
        self.connection = sqlite3.connect(":memory:", isolation_level=None)
        self.connection.setlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER, 100)
        self.connection.setlimit(sqlite3.SQLITE_LIMIT_SQL_LENGTH, 100_000)
        self.connection.setlimit(sqlite3.SQLITE_LIMIT_EXPR_DEPTH, 100)
        self.connection.setlimit(sqlite3.SQLITE_LIMIT_COMPOUND_SELECT, 5)
        self.connection.row_factory = sqlite3.Row

    async def batch(self, statements: Batch, *, readonly: bool = False) -> list[list[Row]]:
        self.connection.execute(f"PRAGMA query_only = {int(readonly)}")
        self.connection.execute("BEGIN")
        try:
            results = [self._run(sql, [_bound(value) for value in values]) for sql, values in statements]
        except (sqlite3.Error, UnicodeEncodeError) as error:
            self.connection.execute("ROLLBACK")
            raise StoreError(str(error)) from error
        self.connection.execute("COMMIT")
        return results

    def _run(self, sql: str, values: list[Any]) -> list[Row]:
        rows = [dict(row) for row in self.connection.execute(sql, values)]
        assert all(abs(value) < 2**53 for row in rows for value in row.values() if isinstance(value, int))
        return [tuple(row.values()) for row in rows]


def _bound(value: SqlValue) -> str | float | None:
    if not isinstance(value, int):
        return value
    assert abs(value) < 2**53
    return float(value)


class NarrowStore(SqlExecutionStore):
    """A store behind a narrow door."""

    capabilities = Capabilities(durable=False, shared=False, queues=True, schedules=True)

    def __init__(self) -> None:
        self.door = NarrowDoor()
        super().__init__(self.door, migrate=False, where="The narrow database")

    async def close(self) -> None:
        self.door.connection.close()


class TestNarrowStore(ExecutionStoreSuite):
    """The whole contract holds within D1's limits."""

    model_examples = 10

    def make_store(self, tmp_path: Path) -> NarrowStore:
        return NarrowStore()
