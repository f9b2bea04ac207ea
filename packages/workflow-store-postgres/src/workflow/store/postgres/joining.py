"""The app's own transaction: a connection of the app's as the store's statements need it, and what is wrong with one.

It may be SQLAlchemy's (`AsyncConnection`, `AsyncSession`) or a driver's own (asyncpg, psycopg 3). What the connection
raises for a statement is left as it is: it is the app's transaction, and the app's code that handles its end.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from functools import lru_cache
from typing import Any
from weakref import WeakSet

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession

from workflow.core.errors import InvalidArgumentError

from .rows import Row

__all__ = ["Joined", "Places", "fetch_with", "join"]

Fetch = Callable[[str, Sequence[Any]], Awaitable[Sequence[Row]]]

_KINDS = (
    "an SQLAlchemy AsyncConnection or AsyncSession, an asyncpg connection or a psycopg AsyncConnection (of PostgreSQL)"
)
_IN_TRANSACTION = 2  # psycopg's TransactionStatus.INTRANS
_FAILED = 3


class Joined:
    """A connection with an open transaction of the app's."""

    def __init__(self, fetch: Fetch, physical: Any, engine: AsyncEngine | None = None) -> None:
        self._fetch = fetch
        self.physical = physical
        """The driver's connection."""
        self.engine = engine
        """Whose pool it is of, if SQLAlchemy's."""

    async def fetch(self, sql: str, *args: Any) -> Sequence[Row]:
        """Run one statement with its `$n` parameters in the transaction. Raises what the connection raises."""
        return await self._fetch(sql, args)


async def join(connection: Any) -> Joined:
    """The connection, checked. Raises `InvalidArgumentError` where it has no open transaction or is of another kind."""
    if isinstance(connection, AsyncSession):
        _check_open(connection.in_transaction(), "async with session.begin(): ...")
        return await join(await connection.connection())
    if isinstance(connection, AsyncConnection):
        return await _join_sqlalchemy(connection)
    module = type(connection).__module__.partition(".")[0]
    if module == "asyncpg" and hasattr(connection, "is_in_transaction"):
        _check_open(connection.is_in_transaction(), "async with connection.transaction(): ...")
        return Joined(lambda sql, args: connection.fetch(sql, *args), _unwrapped(connection))
    if module == "psycopg" and _is_async_psycopg(connection):
        return _join_psycopg(connection)
    raise InvalidArgumentError(f"connection= takes {_KINDS}, not {type(connection).__qualname__}.")


async def _join_sqlalchemy(connection: AsyncConnection) -> Joined:
    if connection.dialect.name != "postgresql" or connection.dialect.driver not in ("asyncpg", "psycopg"):
        dialect = f"{connection.dialect.name}+{connection.dialect.driver}"
        raise InvalidArgumentError(f"connection= takes {_KINDS}, not one of {dialect}.")
    _check_open(not connection.closed and connection.in_transaction(), "async with engine.begin() as connection: ...")
    raw = await connection.get_raw_connection()
    if is_autocommit(raw):
        raise InvalidArgumentError(
            "connection= is in AUTOCOMMIT mode, where each statement is a transaction: nothing would hold yours and "
            "the store's together. Use a connection with another isolation level."
        )
    return Joined(lambda sql, args: fetch_with(connection, sql, args), raw.driver_connection, connection.engine)


def _is_async_psycopg(connection: Any) -> bool:
    from psycopg import AsyncConnection as Psycopg

    return isinstance(connection, Psycopg)


def _join_psycopg(connection: Any) -> Joined:
    from psycopg import AsyncRawCursor
    from psycopg.rows import tuple_row

    status = connection.info.transaction_status
    if status == _FAILED:
        raise InvalidArgumentError("The transaction of connection= has failed: roll it back first.")
    _check_open(
        status == _IN_TRANSACTION or not (connection.autocommit or connection.closed),
        "async with connection.transaction(): ...",
    )

    async def fetch(sql: str, args: Sequence[Any]) -> Sequence[Row]:
        async with AsyncRawCursor(connection, row_factory=tuple_row) as cursor:
            await cursor.execute(sql.encode(), args)
            return await cursor.fetchall() if cursor.description else ()

    return Joined(fetch, connection)


def _check_open(is_open: bool, begin: str) -> None:
    if not is_open:
        raise InvalidArgumentError(f"connection= has no open transaction: begin one first, as in `{begin}`.")


def _unwrapped(connection: Any) -> Any:
    """The connection itself, where asyncpg's pool has handed out a stand-in."""
    return getattr(connection, "_con", None) or connection


def is_autocommit(raw: Any) -> bool:
    """Whether the driver makes a transaction of each statement: as SQLAlchemy tells asyncpg's, and psycopg itself."""
    level = getattr(raw.dbapi_connection, "isolation_level", None)
    return level == "autocommit" or getattr(raw.driver_connection, "autocommit", False) is True


async def fetch_with(connection: AsyncConnection, sql: str, args: Sequence[Any]) -> Sequence[Row]:
    """Run one statement of the store's with SQLAlchemy, in the transaction of the connection."""
    if connection.dialect.paramstyle == "pyformat":
        named = {f"p{number}": arg for number, arg in enumerate(args, 1)}
        result = await connection.exec_driver_sql(_pyformat(sql), named)
    else:
        result = await connection.exec_driver_sql(sql, tuple(args))
    return [tuple(row) for row in result.all()] if result.returns_rows else ()


@lru_cache(maxsize=64)
def _pyformat(sql: str) -> str:
    return re.sub(r"\$(\d+)", r"%(p\1)s", sql.replace("%", "%%"))


_WHERE = "SELECT current_database()::text, to_regclass($1::text)::oid::bigint, pg_postmaster_start_time()"

Own = Callable[..., Awaitable[Sequence[Row]]]


class Places:
    """Whether connections belong to the store's database. Each is asked once; those of the store's own pool never."""

    def __init__(self, engine: AsyncEngine, table: str, fetch: Own) -> None:
        self._engine = engine
        self._table = table
        self._fetch = fetch
        self._ours: tuple[Any, ...] | None = None
        self._known: WeakSet[Any] = WeakSet()

    async def check(self, joined: Joined) -> None:
        """Raise `InvalidArgumentError` for a connection of another database: its commit would not be the store's."""
        if joined.engine is not None and joined.engine.pool is self._engine.pool:
            return
        if joined.physical in self._known:
            return
        there = tuple((await joined.fetch(_WHERE, self._table))[0])
        if there != self._ours:
            self._ours = ours = tuple((await self._fetch(_WHERE, self._table))[0])  # the server may be another one now
            if there != ours:
                raise _elsewhere(there[0], ours[0])
        self._known.add(joined.physical)


def _elsewhere(there: str, ours: str) -> InvalidArgumentError:
    return InvalidArgumentError(
        f"connection= is of the database {there!r}, and the store is in {ours!r}, or they are on different servers: no "
        "transaction can hold both. Use a connection of the store's database."
    )
