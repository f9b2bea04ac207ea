"""The events of a run as server-sent events: each with its index as id, so that a reader goes on where it was."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

from workflow.core.events import Event

from .messages import Receive, Send

__all__ = ["EventStream"]

logger = logging.getLogger("workflow.http")

_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),  # nginx would keep the events back
    (b"x-content-type-options", b"nosniff"),
]
_RETRY = b"retry: 1000\n\n"
_HEARTBEAT = b": still there\n\n"


class EventStream:
    """Sends events until there are no more, the client has gone, or the time is up: it then comes back by itself, with
    `Last-Event-ID`.
    """

    def __init__(self, events: AsyncIterator[Event], *, heartbeat: float, max_duration: float | None) -> None:
        self._events = events
        self._heartbeat = heartbeat
        self._max_duration = max_duration

    async def run(self, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
        await send({"type": "http.response.body", "body": _RETRY, "more_body": True})
        gone = asyncio.ensure_future(_disconnected(receive))
        try:
            async with asyncio.timeout(self._max_duration):
                await self._send_events(send, gone)
        except TimeoutError:
            pass
        except Exception:
            # The status is long sent: all that is left is to end, and the reader will come back.
            logger.exception("A stream of events ended early")
        finally:
            await _cancelled(gone)
        with suppress(OSError):
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _send_events(self, send: Send, gone: asyncio.Future[None]) -> None:
        upcoming: asyncio.Task[Event | None] | None = None
        try:
            while True:
                upcoming = upcoming or asyncio.ensure_future(self._next())
                waiting: set[asyncio.Future[Any]] = {upcoming, gone}
                done, _ = await asyncio.wait(waiting, timeout=self._heartbeat, return_when=asyncio.FIRST_COMPLETED)
                if gone in done:
                    return
                if upcoming not in done:
                    await send({"type": "http.response.body", "body": _HEARTBEAT, "more_body": True})
                    continue
                event, upcoming = upcoming.result(), None
                if event is None:
                    return
                await send({"type": "http.response.body", "body": _frame(event), "more_body": True})
        finally:
            if upcoming is not None:
                await _cancelled(upcoming)
            close = getattr(self._events, "aclose", None)
            if close is not None:
                await close()

    async def _next(self) -> Event | None:
        return await anext(self._events, None)


def _frame(event: Event) -> bytes:
    # JSON has no raw line ends, so the data is one line.
    name = getattr(event, "type", "message")
    return f"id: {event.index}\nevent: {name}\ndata: {event.model_dump_json()}\n\n".encode()


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _cancelled(future: asyncio.Future[Any]) -> None:
    """Cancel it and see it end."""
    future.cancel()
    await asyncio.wait([future])
    if not future.cancelled():
        future.exception()
