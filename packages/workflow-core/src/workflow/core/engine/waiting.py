"""Waiting on the host's loop for whatever comes first."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime

from workflow.core.clock import Clock, SystemClock

__all__ = ["Waker"]


class Waker:
    """A wait that a step's end, news of the run, or a time on the clock ends."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._woken = False
        self._waiter: asyncio.Future[None] | None = None

    def wake(self) -> None:
        """End the current wait, or the next one at once."""
        self._woken = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def wait(self, until: datetime | None, *, busy: bool) -> None:
        """Return when woken, or when the clock has reached `until`."""
        if not self._woken:
            self._waiter = asyncio.get_running_loop().create_future()
            disarm = self._arm(until, busy) if until is not None else None
            try:
                await self._waiter
            finally:
                self._waiter = None
                if disarm is not None:
                    disarm()
        self._woken = False

    def _arm(self, until: datetime, busy: bool) -> Callable[[], object]:
        if isinstance(self._clock, SystemClock):
            delay = max((until - self._clock.now()).total_seconds(), 0)
            return asyncio.get_running_loop().call_later(delay, self.wake).cancel
        return asyncio.get_running_loop().create_task(self._sleep(until, busy)).cancel

    async def _sleep(self, until: datetime, busy: bool) -> None:
        await self._clock.sleep_until(until, busy=busy)
        self.wake()
