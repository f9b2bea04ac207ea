"""Handing events to those who listen: the app's publisher, streams of this process, the result of a call."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from workflow.core.events import Event

__all__ = ["Collector", "Publisher"]

logger = logging.getLogger("workflow.runtime")

MAX_EVENTS = 1000
"""How many events a result holds at most."""


class Publisher:
    """The app's `publish(event)`, sync or async, and the streams that tail runs of this process."""

    def __init__(self, publish: Callable[[Event], Awaitable[Any] | Any] | None) -> None:
        self._publish = publish
        self._watchers: dict[str, set[asyncio.Event]] = {}

    async def publish(self, run_id: str, events: Sequence[Event]) -> None:
        """Never raises: an observer's failure is not the run's."""
        for watcher in self._watchers.get(run_id, ()):
            watcher.set()
        if self._publish is None:
            return
        for event in events:
            try:
                result = self._publish(event)
                if inspect.isawaitable(result):
                    await result
            except Exception:
                logger.exception("The publisher failed on an event of run %r; the run goes on.", run_id)

    def watch(self, run_id: str) -> asyncio.Event:
        """An event that is set when this process commits something to the run. Give it back to `unwatch`."""
        watcher = asyncio.Event()
        self._watchers.setdefault(run_id, set()).add(watcher)
        return watcher

    def unwatch(self, run_id: str, watcher: asyncio.Event) -> None:
        watchers = self._watchers.get(run_id, set())
        watchers.discard(watcher)
        if not watchers:
            self._watchers.pop(run_id, None)


class Collector:
    """Counts the events of one drive, and keeps the first of them where they are asked for."""

    def __init__(self, run_id: str, publisher: Publisher, *, keep: bool) -> None:
        self._run_id = run_id
        self._publisher = publisher
        self._limit = MAX_EVENTS if keep else 0
        self.events: list[Event] = []
        self.count = 0

    async def __call__(self, events: Sequence[Event]) -> None:
        self.count += len(events)
        if len(self.events) < self._limit:
            self.events.extend(events[: self._limit - len(self.events)])
        await self._publisher.publish(self._run_id, events)

    @property
    def truncated(self) -> bool:
        return self._limit > 0 and self.count > len(self.events)
