"""Months in a moment: runs that sleep, remind, retry and time out, on a clock that a test owns."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta, timezone

import pytest

from workflow.core import Context, EventTimeoutError, create_workflow
from workflow.runtime.testing import skip_time

from .runtime_kit import DAY, START, World, asynchronous


@asynchronous
async def test_a_year_passes_in_a_moment() -> None:
    """A run that does something each month for a year is through when the clock is, and each month had its time."""
    world = World()

    @create_workflow(id="subscription")
    async def subscription(ctx: Context[None]) -> list[datetime]:
        times: list[datetime] = []
        for month in range(12):
            await ctx.step(f"charge:{month}", world.app.work)
            times.append(await ctx.now())
            await ctx.sleep(30 * DAY)
        return times

    runtime = world.runtime(workflows=[subscription])
    await runtime.start_run("subscription", run_id="r")
    assert await skip_time(runtime, world.clock) == START + 360 * DAY
    run = await runtime.get_run("r")
    assert run is not None
    assert run.output == [START + month * 30 * DAY for month in range(12)]
    assert world.app.ran("r") == [f"charge:{month}" for month in range(12)]
    await world.check()


@asynchronous
async def test_skipping_ends_where_only_mail_helps() -> None:
    """Skipping time stops at what waits for mail, and goes on after it."""
    world = World()
    runtime = world.runtime()

    @create_workflow(id="dunning")
    async def dunning(ctx: Context[None]) -> str:
        for number in range(3):
            try:
                return await ctx.wait_for_event("paid", str, timeout=7 * DAY)
            except EventTimeoutError:
                await ctx.step(f"remind:{number}", world.app.work)
        return "late " + await ctx.wait_for_event("paid", str)

    runtime = world.runtime(workflows=[dunning])
    await runtime.start_run("dunning", run_id="r")
    assert await skip_time(runtime, world.clock) == START + 21 * DAY
    assert world.app.ran("r") == ["remind:0", "remind:1", "remind:2"]
    result = await runtime.deliver_signal(run_id="r", signal_id="s", name="paid", payload="cash")
    assert result.output == "late cash"


@asynchronous
async def test_skipping_goes_as_far_as_it_is_told() -> None:
    """With `until` the clock stops there, with everything done that was due by then."""
    world = World()

    @create_workflow(id="forever")
    async def forever(ctx: Context[None]) -> None:
        number = 0
        while True:
            await ctx.step(f"tick:{number}", world.app.work)
            await ctx.sleep(DAY)
            number += 1

    runtime = world.runtime(workflows=[forever])
    await runtime.start_run("forever", run_id="r")
    assert await skip_time(runtime, world.clock, until=10.5 * DAY) == START + 10.5 * DAY
    assert len(world.app.ran("r")) == 11


@asynchronous
async def test_retries_with_long_backoff_survive_the_wait() -> None:
    """A backoff of days pauses the run; each attempt happens when its time has come, in whatever process."""
    world = World()
    result = await world.runtime().start_run("retry", run_id="r", input=3 * 86400.0)
    assert result.kind == "paused"
    assert result.run is not None
    assert [(wait.kind, wait.id, wait.until) for wait in result.run.waits] == [("retry", "flaky", START + 3 * DAY)]
    assert await skip_time(world.runtime(), world.clock) == START + 9 * DAY
    assert [entry.attempt for entry in world.app.journal] == [1, 2, 3]


@asynchronous
async def test_a_short_backoff_is_waited_for_in_place() -> None:
    """A backoff of a second or two does not pause the run: it ends within one call."""
    world = World()
    result = await world.runtime().start_run("retry", run_id="r", input=0.5)
    assert (result.kind, result.output) == ("completed", "lucky")
    assert world.clock.now() == START + timedelta(seconds=1.5)


@asynchronous
async def test_a_budget_is_no_reason_to_lose_an_attempt() -> None:
    """A backoff that does not fit into the budget of a call pauses the run, though it is short."""
    world = World()
    runtime = world.runtime()
    result = await runtime.start_run("retry", run_id="r", input=1.5, max_duration=1)
    assert result.kind == "paused"
    await skip_time(runtime, world.clock)
    assert [entry.attempt for entry in world.app.journal] == [1, 2, 3]


@asynchronous
async def test_a_thousand_timers() -> None:
    """Many sleeping runs all wake, each once, at or after its time."""
    world = World()
    runtime = world.runtime()
    for number in range(300):
        await runtime.start_run("nap", run_id=f"r{number}", input=float(number * 997 % 300 + 1))
    await skip_time(runtime, world.clock)
    runs = (await runtime.list_runs(limit=500)).runs
    assert {run.output for run in runs} == {"awake"}
    assert all(run.completed_at and (run.completed_at - START).total_seconds() >= run.input for run in runs)
    assert len(world.app.journal) == 300


@asynchronous
async def test_a_clock_that_goes_back_breaks_nothing() -> None:
    """A machine whose clock is set back: the time of a run never runs backwards, and the run ends."""
    world = World()
    runtime = world.runtime()
    await runtime.start_run("pay", run_id="r", input={"order_id": "o"})
    world.clock.set(START - timedelta(hours=5))
    result = await runtime.deliver_signal(run_id="r", signal_id="s", name="paid", payload="card")
    assert result.kind == "completed"
    times = [event.at for event in await runtime.get_timeline("r")]
    assert times == sorted(times)
    await world.check()


@asynchronous
async def test_each_verb_has_its_own_time() -> None:
    """`now=` on any verb is the time of that call, in any time zone, whatever the clock says."""
    world = World()
    runtime = world.runtime()
    tokyo = datetime(2031, 1, 1, 9, tzinfo=timezone(timedelta(hours=9)))
    started = await runtime.start_run("book", run_id="r", now=tokyo)
    assert started.run is not None and started.run.created_at == tokyo
    assert started.run.created_at.utcoffset() == timedelta(0)
    cancelled = await runtime.cancel_run("r", now=tokyo + DAY)
    assert cancelled.run is not None and cancelled.run.completed_at == tokyo + DAY
    assert await runtime.purge(DAY, now=tokyo + 2 * DAY) == 0
    assert await runtime.purge(DAY, now=tokyo + 2.5 * DAY) == 1
    assert world.clock.now() == START


@asynchronous
async def test_a_step_with_a_timeout_waits_for_the_clock() -> None:
    """While a step is under way the clock is the test's to move: its timeout strikes when the test says so."""
    world = World()

    @create_workflow(id="slow")
    async def slow(ctx: Context[None]) -> None:
        await ctx.step("hang", world.app.work, timeout=60)

    world.app.blocks("hang")
    runtime = world.runtime(workflows=[slow])
    drive = asyncio.create_task(runtime.start_run("slow", run_id="r"))
    await world.clock.until_asleep()
    world.clock.advance(59)
    await asyncio.sleep(0)
    assert not drive.done()
    world.clock.advance(1)
    result = await drive
    assert (result.kind, result.error and result.error.type) == ("errored", "StepTimeoutError")


@asynchronous
async def test_a_deadline_cuts_a_step_that_hangs() -> None:
    """When a call's time is over its hanging step is cancelled, and tried again in the next drive."""
    world = World()
    runtime = world.runtime()
    world.app.blocks("hello")
    drive = asyncio.create_task(runtime.start_run("greet", run_id="r", input="Ann", max_duration=10))
    await world.clock.until_asleep()
    world.clock.advance(10)
    assert (await drive).kind == "queued"
    world.app.hold["hello"].set()
    assert (await runtime.sweep()).summary.ready == {"completed": 1}
    assert [entry.attempt for entry in world.app.journal] == [1, 1]


class Stop(BaseException):
    """What no library expects."""


@pytest.mark.parametrize("error", [Stop, GeneratorExit])
@asynchronous
async def test_a_step_that_raises_a_base_exception_ends_its_drive(error: type[BaseException]) -> None:
    """Whatever a step raises, its drive does not wait for it for ever."""

    async def stops() -> None:
        raise error

    @create_workflow(id="stops")
    async def flow(ctx: Context[None]) -> None:
        await ctx.step("stops", stops)

    world = World()
    runtime = world.runtime(workflows=[flow])
    try:
        result = await asyncio.wait_for(runtime.start_run("stops", run_id="r"), 5)
    except error:
        return
    assert result.kind == "errored"
