"""Where "now" comes from. Every decision about time asks a clock, so that a test can own time."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Protocol

__all__ = ["Clock", "OffsetClock", "SystemClock"]


class Clock(Protocol):
    """A source of time. Not expected to be monotonic: the engine never lets a run's own time go backwards."""

    def now(self) -> datetime:
        """The current instant, aware, in UTC."""
        ...

    async def sleep_until(self, when: datetime, *, busy: bool) -> None:
        """Return when `now()` has reached `when`.

        `busy` tells that something else is under way meanwhile (a step runs): a test clock waits for its test then,
        and may jump ahead where nothing else is.
        """
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    async def sleep_until(self, when: datetime, *, busy: bool) -> None:
        # `asyncio.sleep` may wake a little early by this clock, which is another than the event loop's.
        while (remaining := (when - self.now()).total_seconds()) > 0:  # noqa: ASYNC110 - nothing else to wait for
            await asyncio.sleep(remaining)


class OffsetClock:
    """Starts at a chosen instant and goes on with the pace of another clock: what `now=` arguments become."""

    def __init__(self, base: Clock, start: datetime) -> None:
        self._base = base
        self._offset: timedelta = start - base.now()

    def now(self) -> datetime:
        return self._base.now() + self._offset

    async def sleep_until(self, when: datetime, *, busy: bool) -> None:
        await self._base.sleep_until(when - self._offset, busy=busy)
