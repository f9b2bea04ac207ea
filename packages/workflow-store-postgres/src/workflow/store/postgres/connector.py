"""Connections, and how a statement gets to the server and back: held between operations, replaced when lost.

A pool hands a connection out and takes it back for each statement, which costs more than the statement does. So a
`Connector` keeps a few for as long as there is work, and gives them back to the engine's pool when there is none.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from sqlalchemy.pool import Pool, PoolProxiedConnection
from sqlalchemy.util import greenlet_spawn

from workflow.core.errors import StoreError

from .drivers import Driver, LostConnectionError, RefusedError, StoreUnavailableError, adapt, translated
from .rows import Row

__all__ = ["Connector", "Limits", "UndoError"]

T = TypeVar("T")

# A process that freezes in the middle must not hold its locks for ever.
_BEGIN = """BEGIN ISOLATION LEVEL READ COMMITTED;
SET LOCAL idle_in_transaction_session_timeout = '10s'; SET LOCAL lock_timeout = '2s'"""

_PAUSES = (0.0, 0.05, 0.1, 0.2, 0.4, 0.8, 1.0)


class UndoError(Exception):
    """Roll the transaction back: nothing of it shall be."""


class Limits:
    """How many connections one event loop holds, for how long without work, and how long the store tries."""

    def __init__(self, *, connections: int, idle: float, retry_for: float, pooler: bool, name: str) -> None:
        self.connections = connections
        self.idle = idle
        self.retry_for = retry_for
        self.pooler = pooler
        self.name = name
        """What errors call the database."""


class Link:
    """One connection, checked out of a pool."""

    def __init__(self, proxy: PoolProxiedConnection, driver: Driver) -> None:
        self._proxy = proxy
        self.driver = driver
        self.since = 0.0

    async def give_back(self) -> None:
        try:
            await self.driver.end()
        except BaseException:
            await self.discard()
            raise
        await greenlet_spawn(self._proxy.close)

    async def discard(self) -> None:
        await greenlet_spawn(self._proxy.invalidate)


class Connector:
    """The connections of one event loop. `fetch` is all that the rest of the store needs."""

    def __init__(self, pool: Callable[[], Pool], limits: Limits) -> None:
        self._pool = pool
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self._slots = asyncio.Semaphore(limits.connections)
        self._idle: list[Link] = []
        self._reaper: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    def fetch(self, sql: str, *args: Any) -> Awaitable[Sequence[Row]]:
        """Run one statement that may be repeated, and answer its rows.

        Repeats it when the server undid it because of others, or when the connection was lost: then it may have
        happened already. Raises `StoreUnavailableError` when that goes on for longer than the store tries.
        """
        return self._persist(self._fetch_once, sql, args)

    async def transaction(self, work: Callable[[Driver], Awaitable[T]]) -> T:
        """Do some work in a transaction, and all of it again where `fetch` would repeat a statement.

        Its statements see each what was committed when they began. `UndoError`, raised by the work, rolls it back.
        """
        return await self._persist(lambda: self._transaction_once(work))

    async def _persist(self, once: Callable[..., Awaitable[T]], *args: Any) -> T:
        give_up = 0.0
        attempt = 0
        while True:
            try:
                return await once(*args)
            except (LostConnectionError, RefusedError) as error:
                now = self._loop.time()
                give_up = give_up or now + self._limits.retry_for
                pause = _PAUSES[min(attempt, len(_PAUSES) - 1)]
                attempt += 1
                if now + pause >= give_up or self._closed:
                    raise self.unanswered(error) from error
            await asyncio.sleep(pause)

    def unanswered(self, error: Exception) -> StoreUnavailableError:
        """What is raised when the store gives up."""
        return StoreUnavailableError(f"The {self._limits.name} did not answer: {error}")

    @asynccontextmanager
    async def link(self) -> AsyncGenerator[Driver]:
        """A connection for several statements, with errors translated. It is discarded after any error."""
        link = await self._take()
        try:
            yield link.driver
        except BaseException as error:
            self._drop(link)
            if (ours := translated(error)) is not None:
                raise ours from error
            raise
        self._give(link)

    @asynccontextmanager
    async def extra(self) -> AsyncGenerator[Driver]:
        """A connection beside the others, for as long as it is wanted. Nobody gets it afterwards."""
        link = await self._open()
        try:
            yield link.driver
        except BaseException as error:
            if (ours := translated(error)) is not None:
                raise ours from error
            raise
        finally:
            self._later(link.discard())

    async def _fetch_once(self, sql: str, args: Sequence[Any]) -> Sequence[Row]:
        link = await self._take()
        try:
            rows = await link.driver.fetch(sql, args)
        except BaseException as error:
            ours = translated(error)
            # Cancelled, or of an unknown state: the connection is not worth finding out.
            if ours is None or isinstance(ours, LostConnectionError) or link.driver.closed:
                self._drop(link)
            else:
                self._give(link)
            if ours is None:
                raise
            raise ours from error
        self._give(link)
        return rows

    async def _transaction_once(self, work: Callable[[Driver], Awaitable[T]]) -> T:
        undone: UndoError | None = None
        async with self.link() as driver:
            await driver.script(_BEGIN)
            try:
                answer = await work(driver)
            except UndoError as undo:
                undone = undo
                await driver.script("ROLLBACK")
            else:
                await driver.script("COMMIT")
                return answer
        raise undone

    # -- Taking and giving

    async def _take(self) -> Link:
        await self._slots.acquire()
        try:
            if self._closed:
                raise StoreError("The store is closed.")
            while self._idle:
                link = self._idle.pop()
                if not link.driver.closed:
                    return link
                self._later(link.discard())
            return await self._open()
        except BaseException:
            self._slots.release()
            raise

    async def _open(self) -> Link:
        try:
            proxy = await greenlet_spawn(self._pool().connect)
        except BaseException as error:
            if (ours := translated(error, connecting=True)) is not None:
                raise ours from error
            raise
        link = Link(proxy, adapt(proxy.driver_connection, pooler=self._limits.pooler))
        try:
            await link.driver.begin()
        except BaseException:
            self._later(link.discard())
            raise
        return link

    def _give(self, link: Link) -> None:
        link.since = self._loop.time()
        self._idle.append(link)
        self._slots.release()
        if self._reaper is None:
            self._reaper = self._loop.call_later(self._limits.idle, self._reap)

    def _drop(self, link: Link) -> None:
        self._slots.release()
        self._later(link.discard())

    def _reap(self) -> None:
        """Give back what had no work since the last look."""
        self._reaper = None
        before = self._loop.time() - self._limits.idle
        for link in [link for link in self._idle if link.since <= before]:
            self._idle.remove(link)
            self._later(link.give_back())
        if self._idle:
            self._reaper = self._loop.call_later(self._limits.idle, self._reap)

    def _later(self, work: Any) -> None:
        """Do it beside what goes on. Nobody waits for it but `close`, and its failure is the end of a connection."""
        task = self._loop.create_task(_quietly(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Wait for what is under way, and give all connections back."""
        for _ in range(self._limits.connections):
            await self._slots.acquire()
        self._closed = True
        if self._reaper is not None:
            self._reaper.cancel()
        while self._idle:
            self._later(self._idle.pop().give_back())
        if self._tasks:
            await asyncio.gather(*self._tasks)
        for _ in range(self._limits.connections):
            self._slots.release()

    def abandon(self) -> None:
        """Forget everything: the event loop is closed, and its connections with it."""
        self._closed = True
        self._idle.clear()


async def _quietly(work: Any) -> None:
    try:
        await work
    except Exception as error:
        if translated(error) is None:
            raise
