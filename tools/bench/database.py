"""The one PostgreSQL server of a benchmark: a database for each system, and counters that show its work alone."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import asyncpg  # pyright: ignore[reportMissingTypeStubs]

from workflow.store.postgres.testing import EmbeddedServer

__all__ = ["Counters", "counters", "fetch", "fresh_database", "server"]

SETTINGS = {"fsync": "on", "shared_preload_libraries": "pg_stat_statements"}
"""Durability as it is by default, and what counts statements."""


@dataclass(frozen=True, slots=True)
class Counters:
    """What a database has done since it was made."""

    statements: int
    transactions: int

    def __sub__(self, other: Counters) -> Counters:
        return Counters(self.statements - other.statements, self.transactions - other.transactions)


@contextmanager
def server() -> Iterator[str]:
    """Start one; the URL of its maintenance database."""
    with EmbeddedServer(binaries=None, **SETTINGS) as running:
        url = running.url.replace("+asyncpg", "")
        asyncio.run(fetch(url, "CREATE EXTENSION pg_stat_statements"))
        yield url


async def fetch(url: str, sql: str, *args: Any) -> list[Any]:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetch(sql, *args)
    finally:
        await connection.close()


@contextmanager
def fresh_database(url: str, name: str) -> Iterator[str]:
    """An empty database, and its URL; dropped afterwards, so that no autovacuum of it disturbs the next measure."""
    asyncio.run(fetch(url, f'CREATE DATABASE "{name}"'))
    try:
        yield url.rsplit("/", 1)[0] + f"/{name}"
    finally:
        asyncio.run(fetch(url, f'DROP DATABASE "{name}" WITH (FORCE)'))


async def counters(url: str) -> Counters:
    """Of the database of this URL, read from the maintenance database, so that the question isn't counted.

    Transactions are exact only when the connections that did the work are closed: a session reports late.
    """
    base, name = url.rsplit("/", 1)
    await asyncio.sleep(0.2)
    rows = await fetch(
        f"{base}/postgres",
        """SELECT (SELECT coalesce(sum(calls), 0)::bigint FROM pg_stat_statements s WHERE s.dbid = d.oid),
            pg_stat_get_db_xact_commit(d.oid) + pg_stat_get_db_xact_rollback(d.oid)
        FROM pg_database d WHERE d.datname = $1""",
        name,
    )
    return Counters(*rows[0])
