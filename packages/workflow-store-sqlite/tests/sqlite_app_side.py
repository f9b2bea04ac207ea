"""The app beside an `SQLiteStore`: a table of notes in the store's own file."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, closing
from pathlib import Path

from workflow.runtime.testing.suite.apps import AppSide
from workflow.store.sqlite import SQLiteStore


class SQLiteApp(AppSide):
    is_async = False

    def __init__(self, path: Path) -> None:
        self.path = path

    async def make(self) -> None:
        with closing(sqlite3.connect(self.path)) as connection, connection:
            connection.execute("CREATE TABLE notes (note TEXT)")

    def write(self, connection: sqlite3.Connection, note: str) -> None:
        connection.execute("INSERT INTO notes VALUES (?)", (note,))

    @asynccontextmanager
    async def begun(self) -> AsyncGenerator[sqlite3.Connection]:
        with closing(sqlite3.connect(self.path)) as connection:
            connection.row_factory = sqlite3.Row
            connection.execute("BEGIN IMMEDIATE")
            yield connection

    async def commit(self, connection: sqlite3.Connection) -> None:
        connection.commit()

    async def notes(self) -> list[str]:
        with closing(sqlite3.connect(self.path)) as connection:
            return [note for (note,) in connection.execute("SELECT note FROM notes ORDER BY rowid")]


class AppInMemory(SQLiteApp):
    """Beside a store in memory there is no other connection than the store's."""

    def __init__(self, store: SQLiteStore) -> None:
        super().__init__(Path(":memory:"))
        self._door = store._file

    async def make(self) -> None:
        await self._door.batch([("CREATE TABLE notes (note TEXT)", ())])

    async def notes(self) -> list[str]:
        (rows,) = await self._door.batch([("SELECT note FROM notes ORDER BY rowid", ())])
        return [note for (note,) in rows]
