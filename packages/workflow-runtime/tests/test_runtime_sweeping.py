"""`sweep`: what it takes, how much of it, and what it says."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest

from workflow.core import Context, InvalidArgumentError, create_workflow
from workflow.core.records import ClaimedRun
from workflow.runtime import MemoryStore, SweepResult
from workflow.runtime.testing import CrashingStore, CrashPoint, SimulatedCrash

from .runtime_kit import DAY, MINUTE, START, World, asynchronous


async def make_queued(world: World, count: int, prefix: str = "q") -> None:
    runtime = world.runtime()
    for number in range(count):
        await runtime.start_run("greet", run_id=f"{prefix}{number}", input="Ann", drive=False)


async def make_timers(world: World, count: int) -> None:
    runtime = world.runtime()
    for number in range(count):
        await runtime.start_run("nap", run_id=f"t{number}", input=60.0)


async def make_abandoned(world: World, count: int) -> None:
    """Runs that were claimed by a process which died at once."""
    for number in range(count):
        dying = CrashingStore(world.store, CrashPoint("create_run"))
        with pytest.raises(SimulatedCrash):
            await world.runtime(dying).start_run("greet", run_id=f"d{number}", input="Ann")


def ids(results: Sequence[Any]) -> set[str]:
    return {result.run_id for result in results}


@asynchronous
async def test_each_run_is_counted_by_what_it_was() -> None:
    """Runs of dead owners are `recovered`, enqueued ones `ready`, due ones `timers`, in lists and summary."""
    world = World()
    await make_timers(world, 2)
    await make_abandoned(world, 3)
    world.clock.advance(MINUTE)
    await make_queued(world, 4)
    swept = await world.runtime().sweep()
    assert ids(swept.recovered) == {"d0", "d1", "d2"}
    assert ids(swept.ready) == {"q0", "q1", "q2", "q3"}
    assert ids(swept.timers) == {"t0", "t1"}
    summary = swept.summary
    assert (summary.recovered, summary.ready) == ({"completed": 3}, {"completed": 4})
    assert (summary.timers, summary.scheduled, summary.total) == ({"completed": 2}, {}, 9)
    assert (swept.deadline_reached, swept.remaining_may_exist) == (False, False)
    await world.check()


@asynchronous
async def test_a_sweep_of_nothing_is_one_question() -> None:
    """Where nothing is due, a sweep asks the store once."""
    world = World()
    spy = CrashingStore(world.store)
    swept = await world.runtime(spy).sweep()
    assert spy.trace == ["claim_due"]
    assert (swept.summary.total, swept.summary.event_count, swept.remaining_may_exist) == (0, 0, False)


@asynchronous
async def test_what_is_not_due_is_left() -> None:
    """Runs whose time has not come, that wait for mail, or that somebody drives, are not touched."""
    world = World()
    await make_timers(world, 1)
    await make_abandoned(world, 1)
    await world.runtime().start_run("pay", run_id="p", input={"order_id": "o"})
    world.clock.advance(29)
    assert (await world.runtime().sweep()).summary.total == 0


@pytest.mark.parametrize("concurrency", [1, 2, 3, 10])
@asynchronous
async def test_limits_bound_each_part(concurrency: int) -> None:
    """At most so many of each part are taken, whatever the concurrency, and the rest is said to remain."""
    world = World()
    await make_timers(world, 5)
    await make_abandoned(world, 5)
    world.clock.advance(MINUTE)
    await make_queued(world, 5)
    runtime = world.runtime(concurrency=concurrency)
    swept = await runtime.sweep(max_recovered=2, max_ready=3, max_timers=4)
    assert [len(swept.recovered), len(swept.ready), len(swept.timers)] == [2, 3, 4]
    assert swept.remaining_may_exist
    rest = await runtime.sweep()
    assert [len(rest.recovered), len(rest.ready), len(rest.timers)] == [3, 2, 1]
    assert not rest.remaining_may_exist
    assert len(world.app.journal) == len(set(world.app.journal)) == 15


@asynchronous
async def test_a_part_that_is_not_asked_for_is_no_reason_to_come_back() -> None:
    """With a limit of zero a part is left alone, and nobody is told to call again for it."""
    world = World()
    await make_queued(world, 2)
    swept = await world.runtime().sweep(max_ready=0)
    assert (swept.summary.total, swept.remaining_may_exist) == (0, False)


class Concurrency:
    """Counts how many runs are driven at the same time."""

    def __init__(self) -> None:
        self.now = self.most = 0

    async def __call__(self) -> None:
        self.now += 1
        self.most = max(self.most, self.now)
        await asyncio.sleep(0)
        self.now -= 1


@pytest.mark.parametrize("concurrency", [1, 2, 4, 7])
@asynchronous
async def test_no_more_than_the_concurrency_is_driven_at_once(concurrency: int) -> None:
    """Runs are driven side by side up to `concurrency`, whatever parts they belong to, and all get their turn."""
    busy = Concurrency()

    @create_workflow(id="greet")
    async def greet(ctx: Context[str]) -> None:
        await ctx.step("one", busy)
        await ctx.step("two", busy)

    world = World()
    world.app.workflows[0] = greet
    await make_timers(world, 6)
    await make_abandoned(world, 6)
    world.clock.advance(MINUTE)
    await make_queued(world, 12)
    swept = await world.runtime(concurrency=concurrency).sweep()
    assert swept.summary.total == 24
    assert 0 < busy.most <= concurrency


@asynchronous
async def test_one_part_can_use_the_whole_concurrency() -> None:
    """Where only one kind of work is due, it gets all the room there is."""
    world = World()
    release = world.app.blocks("hello")
    await make_queued(world, 8)
    sweep = asyncio.create_task(world.runtime(concurrency=6).sweep())
    while len(world.app.journal) < 6:
        await asyncio.sleep(0)
    release.set()
    assert (await sweep).summary.ready == {"completed": 8}


@asynchronous
async def test_events_are_counted_and_kept_only_on_request() -> None:
    """By default a sweep keeps no events; it counts them. With `include_events` they are in the results."""
    for include, returned in [(False, 0), (True, 8)]:
        world = World()
        await make_queued(world, 2)
        swept = await world.runtime().sweep(include_events=include)
        assert (swept.summary.event_count, swept.summary.returned_event_count) == (8, returned)


def slow_workflow(world: World, cost: timedelta) -> Any:
    """A workflow whose step takes `cost` of the test's clock."""

    async def work() -> None:
        await world.app.work()
        world.clock.advance(cost)

    @create_workflow(id="slow")
    async def slow(ctx: Context[None]) -> None:
        await ctx.step("one", work)
        await ctx.step("two", work)

    return slow


@asynchronous
async def test_the_deadline_ends_claiming_and_driving() -> None:
    """When its time is up a sweep claims nothing more, its drives yield, and it says that there is more to do."""
    world = World()
    runtime = world.runtime(workflows=[slow_workflow(world, timedelta(seconds=6))], concurrency=1)
    for number in range(3):
        await runtime.start_run("slow", run_id=f"s{number}", drive=False)
    swept = await runtime.sweep(max_duration=10)
    assert [(result.run_id, result.kind) for result in swept.ready] == [("s0", "completed")]
    assert (swept.deadline_reached, swept.remaining_may_exist) == (True, True)
    swept = await runtime.sweep(max_duration=5)
    assert [(result.run_id, result.kind) for result in swept.ready] == [("s1", "queued")]
    assert (swept.deadline_reached, swept.remaining_may_exist) == (True, True)
    await world.check()
    swept = await runtime.sweep(max_duration=1000)
    assert swept.summary.ready == {"completed": 2}
    assert (swept.deadline_reached, swept.remaining_may_exist) == (False, False)
    assert world.app.ran("s1") == ["one", "two"]


@asynchronous
async def test_without_time_nothing_is_begun() -> None:
    """A sweep without any time claims nothing, and says that there may be something."""
    world = World()
    await make_queued(world, 1)
    swept = await world.runtime().sweep(max_duration=0)
    assert (swept.summary.total, swept.deadline_reached, swept.remaining_may_exist) == (0, True, True)


@asynchronous
async def test_a_run_that_yields_is_taken_up_again() -> None:
    """A run that yields while there is time goes on in the same sweep."""
    world = World()

    @create_workflow(id="polite")
    async def polite(ctx: Context[None]) -> str:
        await ctx.step("one", world.app.work)
        await ctx.runtime.yield_now()
        return await ctx.step("two", world.app.work, "done")

    runtime = world.runtime(workflows=[polite])
    await runtime.start_run("polite", run_id="r", drive=False)
    swept = await runtime.sweep()
    assert {result.kind for result in swept.ready} <= {"queued", "completed"}
    while swept.remaining_may_exist:
        swept = await runtime.sweep()
    seen = await runtime.get_run("r")
    assert seen is not None
    assert (seen.output, world.app.ran("r")) == ("done", ["one", "two"])


@asynchronous
async def test_a_cancelled_sweep_hands_its_runs_back() -> None:
    """A sweep that its host cancels leaves each of its runs ready for the next process at once."""
    world = World()
    world.app.blocks("hello")
    await make_queued(world, 2)
    sweep = asyncio.create_task(world.runtime().sweep())
    await world.app.entered["hello"].wait()
    sweep.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sweep
    await world.check()
    world.app.hold.clear()
    assert (await world.runtime().sweep()).summary.ready == {"completed": 2}


@asynchronous
async def test_sweeps_side_by_side_share_the_work() -> None:
    """Many sweeps of several runtimes at once drive each run exactly once."""
    world = World()
    await make_queued(world, 30)
    await make_timers(world, 10)
    world.clock.advance(MINUTE)
    swept: list[SweepResult] = await asyncio.gather(*(world.runtime(concurrency=3).sweep() for _ in range(6)))
    assert sum(result.summary.total for result in swept) == 40
    assert len(world.app.journal) == len(set(world.app.journal)) == 40


@asynchronous
async def test_now_is_the_time_of_the_sweep() -> None:
    """`sweep(now=...)` takes what is due then, and its drives see that time."""
    world = World()
    await make_timers(world, 1)
    runtime = world.runtime()
    assert (await runtime.sweep(now=START + timedelta(seconds=59))).summary.total == 0
    (result,) = (await runtime.sweep(now=START + DAY)).timers
    assert result.run is not None and result.run.completed_at == START + DAY


@pytest.mark.parametrize("name", ["max_ready", "max_timers", "max_recovered", "max_scheduled_runs"])
@pytest.mark.parametrize("value", [-1, 1.5, "3", True, None])
@asynchronous
async def test_bad_limits_are_refused(name: str, value: Any) -> None:
    """A limit that is no count is an error that names it, and nothing is claimed."""
    world = World()
    await make_queued(world, 1)
    with pytest.raises(InvalidArgumentError, match=name):
        await world.runtime().sweep(**{name: value})
    assert world.app.journal == []


@asynchronous
async def test_a_naive_now_is_refused() -> None:
    """A naive `now` is refused before anything is claimed."""
    world = World()
    with pytest.raises(InvalidArgumentError, match="now must be an aware datetime"):
        await world.runtime().sweep(now=datetime(2026, 1, 1))  # noqa: DTZ001


class GreedyStore(MemoryStore):
    """Counts what is claimed at once."""

    def __init__(self) -> None:
        super().__init__()
        self.largest = 0

    async def claim_due(self, *args: Any, **kwargs: Any) -> Sequence[ClaimedRun]:
        claimed = await super().claim_due(*args, **kwargs)
        self.largest = max(self.largest, len(claimed))
        return claimed


@asynchronous
async def test_nothing_is_claimed_that_can_not_be_driven_now() -> None:
    """A sweep claims no more than it has room to drive: what it can't take is free for other processes."""
    store = GreedyStore()
    world = World(store)
    await make_timers(world, 5)
    await make_abandoned(world, 5)
    world.clock.advance(MINUTE)
    await make_queued(world, 5)
    await world.runtime(concurrency=4).sweep()
    assert store.largest == 4


@asynchronous
async def test_a_flood_of_one_workflow_does_not_starve_the_others() -> None:
    """A run of another workflow is driven in the first small sweep, however many older ones there are."""
    world = World()
    await make_queued(world, 50)
    await world.runtime().start_run("nap", run_id="other", input=0.0, drive=False)
    swept = await world.runtime(concurrency=2).sweep(max_ready=6)
    assert "other" in ids(swept.ready)
    assert len(swept.ready) == 6
    assert swept.remaining_may_exist
