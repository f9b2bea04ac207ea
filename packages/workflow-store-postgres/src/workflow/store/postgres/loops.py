"""What belongs to one event loop: connections and groups. A connection works on the loop that opened it, and no other.

The first loop that uses the store takes its connections from the engine's pool. Every other one, such as that of a
thread which renews leases, or the next `asyncio.run` of a process, gets a pool of its own, which connects as the engine
does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.pool import Pool
from sqlalchemy.util import greenlet_spawn

from workflow.core.errors import StoreError

from .connector import Connector, Limits
from .notices import Notices
from .transacting import Transacting
from .writing import Writing

__all__ = ["Here", "Loops"]


@dataclass(frozen=True, slots=True)
class Here:
    """What the store has on one event loop."""

    connector: Connector
    writing: Writing
    notices: Notices
    transacting: Transacting
    pool: Pool | None
    """The pool that is this loop's alone; None where it is the engine's."""

    async def close(self) -> None:
        await self.writing.drain()
        await self.notices.close()
        await self.connector.close()
        if self.pool is not None:
            await greenlet_spawn(self.pool.dispose)


class Loops:
    """The event loops on which the store is used."""

    def __init__(
        self,
        engine: AsyncEngine,
        limits: Limits,
        writing: Callable[[Connector], Writing],
        notices: Callable[[Connector], Notices],
        transacting: Callable[[Connector, Callable[[], Pool]], Transacting],
        *,
        owned: bool,
    ) -> None:
        self._engine = engine
        self._limits = limits
        self._writing = writing
        self._notices = notices
        self._transacting = transacting
        self._owned = owned
        self._home: asyncio.AbstractEventLoop | None = None
        self._used: dict[asyncio.AbstractEventLoop, Here] = {}
        self._closed = False
        self._closing: asyncio.Future[None] | None = None

    def here(self) -> Here:
        loop = asyncio.get_running_loop()
        return self._used.get(loop) or self._enter(loop)

    def _enter(self, loop: asyncio.AbstractEventLoop) -> Here:
        if self._closed:
            raise StoreError("The store is closed.")
        self._forget_closed()
        pool: Pool | None = None
        if self._home is None:
            self._home = loop
        elif self._home is not loop:
            pool = self._engine.sync_engine.pool.recreate()
        # Asked anew each time: disposing of an engine gives it another pool.
        source = (lambda: self._engine.sync_engine.pool) if pool is None else (lambda: pool)
        connector = Connector(source, self._limits)
        here = self._used[loop] = Here(
            connector,
            self._writing(connector),
            self._notices(connector),
            self._transacting(connector, source),
            pool,
        )
        return here

    def _forget_closed(self) -> None:
        for loop in [loop for loop in self._used if loop.is_closed()]:
            self._used.pop(loop).connector.abandon()

    async def close_here(self) -> None:
        """Let go of what this loop has. It may use the store again."""
        loop = asyncio.get_running_loop()
        here = self._used.pop(loop, None)
        if here is not None:
            await here.close()
        if self._owned and loop is self._home:
            self._home = None
            await self._engine.dispose()

    async def close(self) -> None:
        """Finish what is under way on this loop and on those that run in other threads, and refuse everything after."""
        if self._closing is None:
            self._closed = True
            self._closing = asyncio.ensure_future(self._close())
        if self._closing.get_loop() is asyncio.get_running_loop():
            await asyncio.shield(self._closing)

    async def _close(self) -> None:
        await self.close_here()
        self._forget_closed()
        for loop in [loop for loop in self._used if loop.is_running()]:
            closing = asyncio.run_coroutine_threadsafe(self.close_here(), loop)
            await asyncio.wait_for(asyncio.wrap_future(closing), timeout=self._limits.retry_for)
        if self._owned:
            # What is left in its pool belongs to a loop that is gone.
            await self._engine.dispose(close=False)
