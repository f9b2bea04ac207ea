"""Exact wake-ups through a runtime: everything that is due at a time is asked for, whatever it is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from workflow.core import Context, create_workflow
from workflow.runtime import MemoryStore, Registration, Schedule, WorkflowRuntime, every
from workflow.runtime.waking import Waker

from .runtime_kit import asynchronous

HOUR = timedelta(hours=1)


class Platform(Waker):
    def __init__(self) -> None:
        super().__init__(min_delay=0)
        self.asked: list[datetime] = []

    def create(self, due: datetime) -> None:
        self.asked.append(due)


@create_workflow(id="wait")
async def wait(ctx: Context[None]) -> None:
    await ctx.wait_for_event("end")


@create_workflow(id="nap")
async def nap(ctx: Context[float]) -> None:
    await ctx.sleep(ctx.input)


def an_app(*schedules: Schedule, **options: Any) -> tuple[WorkflowRuntime, Platform]:
    """With the machine's clock, which is the platform's."""
    platform = Platform()
    workflows = [nap, Registration(wait, schedules=schedules, **options)]
    return WorkflowRuntime(MemoryStore(), workflows, publish=platform, telemetry=False), platform


def up(due: datetime | None) -> datetime:
    """Rounded up to the second."""
    assert due is not None
    return due.replace(microsecond=0) + timedelta(seconds=due.microsecond > 0)


@asynchronous
async def test_a_time_limit_is_woken_for() -> None:
    """A run that waits for an event alone is looked at when its time is up."""
    runtime, platform = an_app(timeout=HOUR)
    result = await runtime.start_run("wait", run_id="r")
    assert result.run is not None
    assert platform.asked == [up(result.run.expires_at)]


@asynchronous
async def test_of_a_timer_and_a_time_limit_each_time_is_asked_for_once() -> None:
    """A timer that an event has told of is not asked for again when the run pauses."""
    runtime, platform = an_app()
    result = await runtime.start_run("nap", input=3600.0)
    assert result.run is not None
    assert platform.asked == [up(result.run.due_at)]
    await runtime.start_run("wait")
    assert len(platform.asked) == 1


@asynchronous
async def test_a_delayed_start_is_woken_for() -> None:
    """With a delay or a debounce nothing is driven now, and the run is begun at its time."""
    runtime, platform = an_app()
    delayed = await runtime.start_run("wait", run_id="d", delay=HOUR)
    settling = await runtime.start_run("wait", run_id="s", debounce=2 * HOUR)
    assert delayed.run is not None and settling.run is not None
    assert platform.asked == [up(delayed.run.due_at), up(settling.run.due_at)]


@asynchronous
async def test_the_next_tick_is_woken_for() -> None:
    """Each sweep asks for the tick that comes next: one call for each tick, however many sweeps there are."""
    runtime, platform = an_app(Schedule("weekly", every.days(7)), Schedule("monthly", every.days(30)))
    for _ in range(3):
        await runtime.sweep()
    ticks = [info.next_at for info in await runtime.list_schedules()]
    assert platform.asked == [min(tick for tick in ticks if tick is not None)]
    await runtime.pause_schedule("weekly")
    await runtime.pause_schedule("monthly")
    await runtime.sweep()
    assert len(platform.asked) == 1 and platform.asked[0] > datetime.now(UTC)
