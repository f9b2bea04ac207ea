"""Handing events to those who listen: the app's publisher, streams of this process, the result of a call."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from itertools import chain, islice
from typing import Any

from workflow.core.events import Event

from .waking import Waker

__all__ = ["Collector", "Publisher"]

logger = logging.getLogger("workflow.runtime")

MAX_EVENTS = 1000
"""How many events a result holds at most."""


class Publisher:
    """The app's `publish(event)`, sync or async, and the streams that tail runs of this process."""

    def __init__(self, publish: Callable[[Event], Awaitable[Any] | Any] | None) -> None:
        self._publish = publish
        self._waker = publish if isinstance(publish, Waker) else None
        self._watchers: dict[str, set[asyncio.Event]] = {}

    @property
    def has_listeners(self) -> bool:
        """Whether anybody is to be told of anything."""
        return self._publish is not None or bool(self._watchers)

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

    async def expect(self, due_at: datetime | None) -> None:
        """Something is due then: where the publisher can have this app woken, it is asked to. Never raises."""
        if self._waker is not None and due_at is not None:
            await self._waker.wake_at(due_at)

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
        self._kept: list[Sequence[Event]] = []
        self.count = 0

    def __call__(self, events: Sequence[Event]) -> Awaitable[None] | None:
        """Take what has happened; to be awaited if somebody listens."""
        if self.count < self._limit:
            self._kept.append(events)
        self.count += len(events)
        return self._publisher.publish(self._run_id, events) if self._publisher.has_listeners else None

    def events(self) -> tuple[Event, ...]:
        """What was kept. Events that nobody has looked at yet are made by this."""
        return tuple(islice(chain.from_iterable(self._kept), self._limit))

    @property
    def truncated(self) -> bool:
        return 0 < self._limit < self.count
