"""Exact wake-ups: what a host's waker keeps of its platform's failures from the runs."""

from __future__ import annotations

import asyncio
import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from workflow.core.events import TimerStarted
from workflow.runtime.waking import Waker


class Platform(Waker):
    """A waker of a platform that may be broken."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.asked: list[datetime] = []
        self.error: Exception | None = None

    def create(self, due: datetime) -> None:
        self.asked.append(due)
        if self.error is not None:
            raise self.error


def later(**delta: float) -> datetime:
    return datetime.now(UTC) + timedelta(**delta)


def test_a_time_is_asked_for_once_and_never_too_early():
    """Each due time is asked for once, rounded up to the second, in whatever zone it was given."""
    platform = Platform()
    due = later(hours=1).replace(microsecond=1)
    for moment in (due, due.astimezone(), due.replace(microsecond=999_999)):
        asyncio.run(platform(TimerStarted(id="t", due_at=moment, at=moment)))
    assert platform.asked == [due.replace(microsecond=0) + timedelta(seconds=1)]
    assert platform.asked[0].tzinfo is UTC


def test_what_is_due_too_soon_or_too_late_is_left_to_the_sweep():
    """A platform is asked only for what it can do: not for the next seconds, not for what lies beyond its reach."""
    platform = Platform(min_delay=60, max_delay=timedelta(days=30))
    asyncio.run(platform.wake_at(later(seconds=30)))
    asyncio.run(platform.wake_at(later(days=31)))
    assert platform.asked == []
    assert asyncio.run(platform.wake_at(later(days=29))) is True


def test_a_platform_that_fails_is_left_alone_for_a_while(caplog: pytest.LogCaptureFixture):
    """After a failure nothing is asked for until the pause is over: a broken platform costs one call, not many."""
    platform = Platform(pause=3600)
    platform.error = RuntimeError("no rights")
    results = [asyncio.run(platform.wake_at(later(hours=hours))) for hours in (1, 2)]
    assert results == [False, False] and len(platform.asked) == 1
    assert "no rights" in caplog.text and "periodic sweep" in caplog.text
    eager = Platform(pause=0)
    eager.error = RuntimeError("throttled")
    due = later(hours=1)
    assert asyncio.run(eager.wake_at(due)) is False
    eager.error = None
    assert asyncio.run(eager.wake_at(due)) is True  # what failed is not taken for made


def test_a_platform_that_hangs_holds_nobody_up():
    """A run waits for an answer as long as the timeout, however long the platform takes."""
    over = threading.Event()

    class Silent(Platform):
        def create(self, due: datetime) -> None:
            over.wait(60)

    async def work() -> bool:
        try:
            return await Silent(timeout=0.05).wake_at(later(hours=1))
        finally:
            over.set()

    assert asyncio.run(work()) is False


def test_a_waker_remembers_no_more_than_it_needs():
    """A process that lives for years keeps the last thousand times, and no more."""
    platform = Platform()
    first = later(hours=1)

    async def work() -> None:
        for number in range(1001):
            await platform.wake_at(first + timedelta(seconds=number))
        await platform.wake_at(first)

    asyncio.run(work())
    assert len(platform.asked) == 1002
