"""The app beside a `PostgresStore`: a table of notes in the store's schema, and an engine of the app's own."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy import text
from sqlalchemy.engine import URL
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine
from sqlalchemy.pool import NullPool

from workflow.runtime.testing.suite.apps import AppSide
from workflow.store.postgres.statements import quoted


class PostgresApp(AppSide):
    is_async = True

    def __init__(self, url: URL, schema: str, **options: Any) -> None:
        self.engine = create_async_engine(url, poolclass=NullPool, **options)
        self.table = f"{quoted(schema)}.notes"

    async def make(self) -> None:
        async with self.engine.begin() as connection:
            await connection.execute(text(f"DROP TABLE IF EXISTS {self.table}"))
            await connection.execute(
                text(f"CREATE TABLE {self.table} (n bigint GENERATED ALWAYS AS IDENTITY, note text)")
            )

    async def write(self, connection: AsyncConnection, note: str) -> None:
        await connection.execute(text(f"INSERT INTO {self.table} (note) VALUES (:note)"), {"note": note})

    @asynccontextmanager
    async def begun(self) -> AsyncGenerator[AsyncConnection]:
        async with self.engine.connect() as connection:
            await connection.begin()
            yield connection

    async def commit(self, connection: AsyncConnection) -> None:
        await connection.commit()

    async def notes(self) -> list[str]:
        async with self.engine.connect() as connection:
            found = await connection.execute(text(f"SELECT note FROM {self.table} ORDER BY n"))
            return list(found.scalars())
