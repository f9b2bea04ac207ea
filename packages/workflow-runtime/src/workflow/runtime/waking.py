"""What the exact wake-ups of hosts share: from an event of a run to one call of the platform for each due time."""

from __future__ import annotations

import asyncio
import inspect
import logging
import time
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from workflow.core.arguments import Duration, seconds
from workflow.core.events import ApprovalRequested, Event, SignalAwaited, StepRetrying, TimerStarted

__all__ = ["Waker", "due_time"]

logger = logging.getLogger("workflow.hosting")

_REMEMBERED = 1000


class Waker(ABC):
    """A publisher: when a run starts to wait for a time, it has the platform call the sweep at that time.

    A runtime that has it as `publish` asks it for what no event tells of as well: the time limits of runs that wait,
    starts with a delay, and after each sweep the next tick of a schedule.

    Times are rounded up to the second, and each is asked for once. Whatever goes wrong is logged and hurts no run: the
    periodic sweep finds all that is due, only later.

    - `min_delay`: what is due sooner is left to the periodic sweep; so is what is due after `max_delay`, for now.
    - `timeout`: how many seconds a run waits for the platform's answer.
    - `pause`: for how many seconds nothing is asked for after a failure, so that a platform that hangs costs one
      `timeout` and not one for each run.
    - `forward`: a publisher that gets every event as well.
    """

    def __init__(
        self,
        *,
        min_delay: Duration = 30.0,
        max_delay: Duration | None = None,
        timeout: Duration = 5.0,
        pause: Duration = 60.0,
        forward: Callable[[Event], Any] | None = None,
    ) -> None:
        self._min_delay = seconds(min_delay, "min_delay")
        self._max_delay = None if max_delay is None else seconds(max_delay, "max_delay")
        self._timeout = seconds(timeout, "timeout")
        self._pause = seconds(pause, "pause")
        self._forward = forward
        self._made: OrderedDict[datetime, None] = OrderedDict()
        self._quiet_until = float("-inf")

    @abstractmethod
    def create(self, due: datetime) -> None:
        """Have the platform call at that time. Called on a thread; to be asked twice for one time is no error."""

    async def __call__(self, event: Event) -> None:
        """Take an event of the runtime."""
        due = due_time(event)
        if due is not None:
            await self.wake_at(due)
        if self._forward is not None:
            result = self._forward(event)
            if inspect.isawaitable(result):
                await result

    async def wake_at(self, due: datetime) -> bool:
        """Have the sweep called at that time: whether it will be. Never raises."""
        due = _up_to_second(due)
        if due in self._made:
            return True
        if not self._wanted(due) or time.monotonic() < self._quiet_until:
            return False
        try:
            async with asyncio.timeout(self._timeout):
                await asyncio.to_thread(self.create, due)
        except Exception as error:
            self._quiet_until = time.monotonic() + self._pause
            self._complain(due, error)
            return False
        self._remember(due)
        return True

    def _wanted(self, due: datetime) -> bool:
        delay = (due - datetime.now(UTC)).total_seconds()
        return delay >= self._min_delay and (self._max_delay is None or delay <= self._max_delay)

    def _complain(self, due: datetime, error: Exception) -> None:
        why = f"no answer within {self._timeout:g} s" if isinstance(error, TimeoutError) else "it failed"
        logger.warning(
            "No wake-up could be made for %s (%s); the periodic sweep does it, later. The next try is in %g s.",
            due.isoformat(),
            why,
            self._pause,
            exc_info=error,
        )

    def _remember(self, due: datetime) -> None:
        self._made[due] = None
        if len(self._made) > _REMEMBERED:
            self._made.popitem(last=False)


def due_time(event: Event) -> datetime | None:
    """When a run has to be looked at because of this event; None for most."""
    if isinstance(event, TimerStarted):
        return event.due_at
    if isinstance(event, (SignalAwaited, ApprovalRequested)):
        return event.until
    return event.retry_at if isinstance(event, StepRetrying) else None


def _up_to_second(due: datetime) -> datetime:
    """Platforms have no fractions, and to wake before the time would be in vain."""
    due = due.astimezone(UTC)
    return due.replace(microsecond=0) + timedelta(seconds=1 if due.microsecond else 0)
