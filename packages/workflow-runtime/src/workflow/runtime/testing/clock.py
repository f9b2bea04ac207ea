"""`TestClock`: a clock that moves when a test says so, or when nothing else is left to do."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import ClassVar

from workflow.core.errors import InvalidArgumentError

__all__ = ["TestClock"]

_START = datetime(2026, 1, 1, tzinfo=UTC)


class TestClock:
    """Give it to a runtime as `clock=`. Time stands still between the calls that move it.

    A drive that waits in place with nothing else under way (`busy=False`) jumps the clock to the time it waits for. One
    with a step under way (`busy=True`) waits until `advance` or `set` has come far enough.
    """

    __test__: ClassVar[bool] = False  # pytest takes classes named Test* for tests

    def __init__(self, start: datetime = _START) -> None:
        self._now = _utc(start)
        self._sleepers: list[tuple[datetime, asyncio.Future[None]]] = []
        self._watchers: list[tuple[int, asyncio.Future[None]]] = []

    def now(self) -> datetime:
        return self._now

    def advance(self, delta: timedelta | float) -> datetime:
        """Move the clock on (seconds or a timedelta), wake who waited for that, and answer the new time."""
        step = delta if isinstance(delta, timedelta) else timedelta(seconds=delta)
        if step < timedelta():
            raise InvalidArgumentError(f"advance() moves forward, not by {step}; set() may go back.")
        return self.set(self._now + step)

    def set(self, when: datetime) -> datetime:
        """Move the clock to this time, which may be earlier: real clocks do that, too."""
        self._now = _utc(when)
        for due, sleeper in self._sleepers:
            if due <= self._now and not sleeper.done():
                sleeper.set_result(None)
        return self._now

    async def sleep_until(self, when: datetime, *, busy: bool) -> None:
        when = _utc(when)
        if not busy and when > self._now:
            self.set(when)
        if when <= self._now:
            await asyncio.sleep(0)  # whoever the jump woke gets its turn
            return
        with self._asleep(when) as sleeper:
            await sleeper

    @property
    def waiting_for(self) -> tuple[datetime, ...]:
        """The times that busy sleepers wait for, the earliest first."""
        return tuple(sorted(due for due, _ in self._sleepers))

    async def until_asleep(self, count: int = 1) -> None:
        """Wait until at least `count` busy sleepers wait: the moment to call `advance`."""
        if len(self._sleepers) >= count:
            return
        watcher = (count, asyncio.get_running_loop().create_future())
        self._watchers.append(watcher)
        try:
            await watcher[1]
        finally:
            self._watchers.remove(watcher)

    @contextmanager
    def _asleep(self, when: datetime) -> Generator[asyncio.Future[None]]:
        sleeper = (when, asyncio.get_running_loop().create_future())
        self._sleepers.append(sleeper)
        for count, watcher in self._watchers:
            if len(self._sleepers) >= count and not watcher.done():
                watcher.set_result(None)
        try:
            yield sleeper[1]
        finally:
            self._sleepers.remove(sleeper)


def _utc(when: datetime) -> datetime:
    if when.tzinfo is None:
        raise InvalidArgumentError(f"{when!r} has no time zone; give an aware datetime, such as datetime.now(UTC).")
    return when.astimezone(UTC)
