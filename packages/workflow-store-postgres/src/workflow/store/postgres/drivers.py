"""The two drivers behind SQLAlchemy's engine, asyncpg and psycopg 3, as one small interface; their errors mapped once.

The store's statements go straight to the driver's connection. They need nothing of what SQLAlchemy does between a
statement and a driver, and that would be more work on the client than all the rest of a commit. What SQLAlchemy does
is what an app configures: how to connect, and the pool.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterator, Sequence
from typing import Any, Protocol, cast

from workflow.core.errors import InvalidArgumentError, StoreError, StoreUnavailableError, WorkflowError

from .rows import Row

__all__ = [
    "REFUSED",
    "BusyError",
    "Driver",
    "LostConnectionError",
    "RefusedError",
    "SchemaError",
    "StoreUnavailableError",
    "adapt",
    "sqlstate_of",
    "translated",
]


class LostConnectionError(Exception):
    """The connection can't be used any more. Whether the statement has happened is unknown."""


class RefusedError(Exception):
    """The server has undone the statement because of others (a serialization failure or a deadlock): say it again."""


class BusyError(Exception):
    """Another transaction was in the way for longer than the statement waits. Nothing has happened."""


class SchemaError(Exception):
    """A schema, a table or a column is not there."""


class Driver(Protocol):
    """One connection, outside of any transaction block."""

    @property
    def closed(self) -> bool:
        """Whether it is known to be gone."""
        ...

    def fetch(self, sql: str, args: Sequence[Any]) -> Awaitable[Sequence[Row]]:
        """Run one statement with its `$n` parameters, as a transaction of its own."""
        ...

    async def script(self, sql: str) -> None:
        """Run statements without parameters, as they are."""
        ...

    async def listen(self, channel: str) -> None:
        """Begin to collect notices."""
        ...

    async def notices(self, timeout: float) -> list[str]:
        """Wait for notices, for so many seconds at most, and answer their payloads."""
        ...

    async def begin(self) -> None:
        """Prepare a connection fresh from the pool."""
        ...

    async def end(self) -> None:
        """Make it again what it was, for the pool."""
        ...


class _Asyncpg:
    def __init__(self, connection: Any, *, pooler: bool) -> None:
        self._connection = connection
        if pooler:
            self.fetch = self._fetch_in_block

    @property
    def closed(self) -> bool:
        return self._connection.is_closed()

    def fetch(self, sql: str, args: Sequence[Any]) -> Awaitable[Sequence[Row]]:
        return self._connection.fetch(sql, *args)

    async def _fetch_in_block(self, sql: str, args: Sequence[Any]) -> Sequence[Row]:
        """asyncpg parses and executes in two trips, which only a transaction keeps on one server behind a pooler."""
        if self._connection.is_in_transaction():
            return await self._connection.fetch(sql, *args)
        async with self._connection.transaction():
            return await self._connection.fetch(sql, *args)

    async def script(self, sql: str) -> None:
        await self._connection.execute(sql)

    async def listen(self, channel: str) -> None:
        self._notices: asyncio.Queue[str | None] = asyncio.Queue()
        self._connection.add_termination_listener(self._terminated)
        await self._connection.add_listener(channel, self._noticed)

    def _noticed(self, connection: Any, pid: int, channel: str, payload: str) -> None:
        self._notices.put_nowait(payload)

    def _terminated(self, connection: Any) -> None:
        self._notices.put_nowait(None)  # nothing else would tell a task that only waits

    async def notices(self, timeout: float) -> list[str]:
        try:
            async with asyncio.timeout(timeout):
                payload = await self._notices.get()
        except TimeoutError:
            return []
        if payload is None:
            raise LostConnectionError("The connection that listens was lost.")
        return [payload]

    async def begin(self) -> None:
        pass

    async def end(self) -> None:
        pass


class _Psycopg:
    def __init__(self, connection: Any) -> None:
        from psycopg import AsyncRawCursor

        self._connection = connection
        self._cursor = cast("Any", AsyncRawCursor)

    @property
    def closed(self) -> bool:
        return self._connection.closed

    async def fetch(self, sql: str, args: Sequence[Any]) -> Sequence[Row]:
        async with self._cursor(self._connection) as cursor:
            await cursor.execute(sql, args)
            return await cursor.fetchall() if cursor.description else ()

    async def script(self, sql: str) -> None:
        async with self._cursor(self._connection) as cursor:
            await cursor.execute(sql)

    async def listen(self, channel: str) -> None:
        await self.script(f"LISTEN {channel}")

    async def notices(self, timeout: float) -> list[str]:
        return [notice.payload async for notice in self._connection.notifies(timeout=timeout, stop_after=1)]

    async def begin(self) -> None:
        await self._connection.set_autocommit(True)

    async def end(self) -> None:
        await self._connection.set_autocommit(False)


def adapt(connection: Any, *, pooler: bool) -> Driver:
    """The driver connection under an SQLAlchemy connection."""
    module = type(connection).__module__.partition(".")[0]
    if module == "asyncpg":
        return _Asyncpg(connection, pooler=pooler)
    if module == "psycopg":
        return _Psycopg(connection)
    raise StoreError(
        f"PostgresStore works with asyncpg and with psycopg's async driver, not with {module}. "
        "Give a URL that begins with postgresql+asyncpg:// or postgresql+psycopg://."
    )


# What the five characters of SQLSTATE say. Classes first: 08 is the connection, 57P0x a server that shuts down.
_LOST = ("08", "57P01", "57P02", "57P03", "25006", "53300")
REFUSED = ("40001", "40P01")
_BUSY = ("55P03",)
_SCHEMA = ("3F000", "42P01", "42703")
_DATA = ("22", "54")
_PREPARED = ("26000",)


def translated(error: BaseException, *, connecting: bool = False) -> Exception | None:
    """An error of a driver, of SQLAlchemy or of the network in the store's own words; None where it is none of those.

    A read-only server (25006) is one that was the primary before: a new connection may find the new one.
    """
    if isinstance(error, WorkflowError):
        return None
    state = sqlstate_of(error)
    *_, root = _chain(error)
    text = f"{type(root).__name__}: {root}"
    if state.startswith(_LOST) or (not state and (connecting or _is_of_connection(error))):
        return LostConnectionError(text) if _is_foreign(error) else None
    if connecting and state.startswith(_PREPARED):
        return LostConnectionError(text)  # behind a pooler, what asyncpg asks a new connection may go astray
    if state.startswith(REFUSED):
        return RefusedError(text)
    if state.startswith(_BUSY):
        return BusyError(text)
    if state.startswith(_SCHEMA):
        return SchemaError(text)
    if state.startswith(_PREPARED):
        return StoreError(f"{text}. Behind a pooler in transaction mode, make the engine with pooler_engine(url).")
    if state.startswith(_DATA) or (not state and _is_of_data(error)):
        return InvalidArgumentError(f"Postgres can't hold a value: {text}")
    return StoreError(text) if _is_foreign(error) else None


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = getattr(current, "orig", None) or current.__cause__


def sqlstate_of(error: BaseException) -> str:
    """What the server has said, in five characters; empty where it was not the server that failed."""
    states = (getattr(link, "sqlstate", None) for link in _chain(error))
    return next((state for state in states if isinstance(state, str)), "")


def _is_foreign(error: BaseException) -> bool:
    return isinstance(error, Exception) and any(
        isinstance(link, OSError) or type(link).__module__.partition(".")[0] in ("asyncpg", "psycopg", "sqlalchemy")
        for link in _chain(error)
    )


def _is_of_connection(error: BaseException) -> bool:
    """Errors of the client side have no SQLSTATE: by their names, which both drivers share with the DB-API."""
    names = {type(link).__name__ for link in _chain(error)}
    if any(isinstance(link, OSError) for link in _chain(error)):
        return True
    return bool(names & {"InterfaceError", "InternalClientError", "OperationalError", "ConnectionDoesNotExistError"})


def _is_of_data(error: BaseException) -> bool:
    return any(type(link).__name__ in ("DataError", "UnicodeEncodeError") for link in _chain(error))
