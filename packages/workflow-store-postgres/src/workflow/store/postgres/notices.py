"""LISTEN: to hear of work when it comes, as a hint. Who waits for work polls as well, so nothing rests on a notice.

One connection for each event loop that waits, from the first wait on. It listens between two waits, too: what comes
then is counted, and the next wait returns at once. A connection can die without a word, so a quiet one is asked now and
then whether it is still there. When it fails, those who wait are told, and the next wait connects again.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections import Counter
from collections.abc import Collection, Iterable

from workflow.core.errors import StoreError

from .connector import Connector
from .drivers import Driver, LostConnectionError, StoreUnavailableError

__all__ = ["Notices"]

_QUIET = 30.0
_ANSWER = 10.0
_ANY = ""
"""The payload of a notice that does not say for which workflow."""


class Notices:
    """What one event loop hears on a channel."""

    def __init__(self, connector: Connector, channel: str) -> None:
        self._connector = connector
        self._channel = channel
        self._loop = asyncio.get_running_loop()
        self._heard: Counter[str] = Counter()
        self._known: dict[frozenset[str], int] = {}
        """How many notices each set of workflows had when its last wait returned."""
        self._reader: asyncio.Task[None] | None = None
        self._news = self._loop.create_future()
        """Done with the next notice, or with the failure of the connection."""

    async def wait(self, workflow_ids: Collection[str]) -> None:
        """Return when there is a notice for one of these since the last wait for them. Raises when listening fails."""
        ids = frozenset(workflow_ids)
        if self._reader is None:
            self._start()
        known = self._known.setdefault(ids, self._count(ids))
        while self._count(ids) == known:
            await asyncio.shield(self._news)  # others wait for the same
        self._known[ids] = self._count(ids)

    async def close(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.cancel()
            await asyncio.wait([reader])

    def _count(self, ids: Iterable[str]) -> int:
        return sum(self._heard[id_] for id_ in ids) + self._heard[_ANY]

    def _start(self) -> None:
        # In a context of its own: it serves all who wait.
        self._reader = self._loop.create_task(self._read(), context=contextvars.Context())

    async def _read(self) -> None:
        try:
            async with self._connector.extra() as driver:
                await driver.listen(self._channel)
                while True:
                    await self._hear(driver)
        except asyncio.CancelledError:
            self._settle(StoreError("The store was closed while it was waited for."))
            raise
        except LostConnectionError as error:
            self._settle(StoreUnavailableError(f"The store can't be listened to: {error}"))
        except Exception as error:
            self._settle(error)
        finally:
            self._reader = None

    async def _hear(self, driver: Driver) -> None:
        payloads = await driver.notices(_QUIET)
        if payloads:
            self._heard.update(payloads)
            self._settle(None)
            return
        try:
            async with asyncio.timeout(_ANSWER):
                await driver.fetch("SELECT 1", ())
        except TimeoutError as error:
            raise LostConnectionError("The connection that listens does not answer.") from error

    def _settle(self, error: Exception | None) -> None:
        """Wake who waits, and begin to wait for the next."""
        news, self._news = self._news, self._loop.create_future()
        if error is None:
            news.set_result(None)
        else:
            news.set_exception(error)
            news.exception()  # seen: perhaps nobody waits at this moment
