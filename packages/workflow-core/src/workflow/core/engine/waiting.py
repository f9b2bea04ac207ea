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
        self._loop = asyncio.get_running_loop()
        self.woken = False
        """Whether `wake` was called. Who has waited, or need not, puts it back."""
        self._waiter: asyncio.Future[None] | None = None

    def wake(self) -> None:
        """End the current wait, or the next one at once."""
        self.woken = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def waiter(self) -> asyncio.Future[None]:
        """Done when woken; not to be asked for if that has happened before."""
        self._waiter = self._loop.create_future()
        return self._waiter

    async def wait(self, until: datetime, *, busy: bool) -> None:
        """Return when woken, or when the clock has reached `until`."""
        if not self.woken:
            waiter, disarm = self.waiter(), self._arm(until, busy)
            try:
                await waiter
            finally:
                disarm()
        self.woken = False

    def _arm(self, until: datetime, busy: bool) -> Callable[[], object]:
        if isinstance(self._clock, SystemClock):
            delay = max((until - self._clock.now()).total_seconds(), 0)
            return self._loop.call_later(delay, self.wake).cancel
        return self._loop.create_task(self._sleep(until, busy)).cancel

    async def _sleep(self, until: datetime, busy: bool) -> None:
        await self._clock.sleep_until(until, busy=busy)
        self.wake()
