"""`serve`: the long-lived worker."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Collection
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any

import pytest

from workflow.core import Context, InvalidArgumentError, StoreError, create_workflow
from workflow.runtime import MemoryStore, WorkflowRuntime
from workflow.runtime.testing import CrashingStore

from .runtime_kit import MINUTE, START, World, asynchronous


@asynccontextmanager
async def serving(runtime: WorkflowRuntime, **options: Any) -> AsyncGenerator[asyncio.Task[Any]]:
    """A worker that is stopped at the end of the block, in good order."""
    stop = asyncio.Event()
    worker = asyncio.create_task(runtime.serve(stop=stop, signals=False, **options))
    try:
        yield worker
    finally:
        stop.set()
        await asyncio.wait([worker])


async def until(condition: Any) -> None:
    """Give others their turn until the condition holds."""
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0)


async def asleep(world: World) -> datetime:
    """Wait until the worker sleeps, and answer when it means to wake."""
    clock = world.clock
    await until(lambda: clock.waiting_for and clock.waiting_for[0] > clock.now())
    return clock.waiting_for[0]


async def status(world: World, run_id: str) -> str:
    run = await world.store.get_run(run_id)
    assert run is not None
    return run.status


@asynchronous
async def test_what_this_process_enqueues_begins_at_once() -> None:
    """A run that is started without being driven, and a signal that is delivered so, wake the worker: no poll does."""
    world = World()
    runtime = world.runtime()
    async with serving(runtime):
        await world.clock.until_asleep()
        await runtime.start_run("pay", run_id="p", input={"order_id": "o"}, drive=False)
        await until(lambda: world.app.ran("p") == ["reserve"])
        await world.clock.until_asleep()
        await runtime.deliver_signal(run_id="p", signal_id="s", name="paid", payload="card", drive=False)
        await until(lambda: world.app.ran("p") == ["reserve", "ship"])
    assert world.clock.now() == START
    assert await status(world, "p") == "completed"


@asynchronous
async def test_it_sleeps_until_the_next_due_time() -> None:
    """A timer that is due before the next poll is met to the moment, whoever set it; so is a delayed start."""
    world = World()
    runtime, other = world.runtime(), world.runtime()
    await other.start_run("nap", run_id="n", input=25.0)
    async with serving(runtime, poll_interval=MINUTE):
        for _ in range(13):  # the polls grow rarer
            world.clock.set(await asleep(world))
        assert await asleep(world) == START.replace(second=25)
        due = START.replace(second=24)
        await runtime.start_run("greet", run_id="g", input="Ann", drive=False, delay=due - world.clock.now())
        await until(lambda: due in world.clock.waiting_for)
        world.clock.set(due)
        await until(lambda: world.app.ran("g"))
        assert await asleep(world) <= START.replace(second=25)
        world.clock.set(START.replace(second=25))
        await until(lambda: world.app.ran("n"))


@asynchronous
async def test_polls_find_what_others_enqueue() -> None:
    """Work that no notice tells of is found at the next poll, which comes within the interval."""
    world = World()
    async with serving(world.runtime(), poll_interval=5):
        for _ in range(20):
            world.clock.set(await asleep(world))
        assert await asleep(world) == world.clock.now() + timedelta(seconds=5)
        await world.runtime().start_run("greet", run_id="g", input="Ann", drive=False)
        await asyncio.sleep(0)
        assert not world.app.ran("g")
        world.clock.advance(5)
        await until(lambda: world.app.ran("g"))


class NotifyingStore(MemoryStore):
    """A store that tells, in the process that waits, of what any process has enqueued."""

    def __init__(self) -> None:
        super().__init__()
        self.news = asyncio.Event()
        self.fail = False

    async def wait_for_work(self, workflow_ids: Collection[str]) -> None:
        if self.fail:
            self.fail = False
            raise ConnectionError("gone")
        await self.news.wait()
        self.news.clear()


@asynchronous
async def test_notices_of_the_store_wake_it() -> None:
    """Where the store can notify, what another process enqueues begins at once."""
    store = NotifyingStore()
    world = World(store)
    async with serving(world.runtime()):
        await world.clock.until_asleep()
        await world.runtime().start_run("greet", run_id="g", input="Ann", drive=False)
        store.news.set()
        await until(lambda: world.app.ran("g"))


@asynchronous
async def test_places_are_filled_as_they_become_free() -> None:
    """A slow run holds up its own place only: the others go on, up to the concurrency, without waiting for it."""
    world = World()
    runtime = world.runtime()
    release = world.app.blocks("reserve")
    await runtime.start_run("pay", run_id="slow", input={"order_id": "o"}, drive=False)
    for number in range(20):
        await runtime.start_run("greet", run_id=f"g{number}", input="Ann", drive=False)
    done: list[str] = []
    async with serving(runtime, concurrency=2, on_result=lambda result: done.append(result.run_id)):
        await until(lambda: len(done) == 20)
        assert "slow" not in done
        release.set()
    assert done[-1] == "slow"


@asynchronous
async def test_a_flood_of_new_work_does_not_starve_timers() -> None:
    """While new runs never end, a run whose time has come gets its turn within a few places."""
    world = World()
    runtime = world.runtime()
    await runtime.start_run("nap", run_id="n", input=60.0)
    for number in range(30):
        await runtime.start_run("greet", run_id=f"g{number}", input="Ann", drive=False)
    world.clock.advance(MINUTE)
    done: list[str] = []
    async with serving(runtime, concurrency=1, on_result=lambda result: done.append(result.run_id)):
        await until(lambda: len(done) == 31)
    assert done.index("n") <= 2


@asynchronous
async def test_a_workflow_keeps_to_its_own_limit() -> None:
    """No more runs of a limited workflow are driven than its limit; the free places serve the others."""
    world = World()
    runtime = world.runtime()
    release = world.app.blocks("reserve")
    for number in range(5):
        await runtime.start_run("pay", run_id=f"p{number}", input={"order_id": "o"}, drive=False)
    for number in range(5):
        await runtime.start_run("greet", run_id=f"g{number}", input="Ann", drive=False)
    async with serving(runtime, concurrency=4, per_workflow={"pay": 2}):
        await until(lambda: len(world.app.journal) == 7)
        for _ in range(50):
            await asyncio.sleep(0)
        assert sum(entry.step_id == "reserve" for entry in world.app.journal) == 2
        release.set()
        await until(lambda: sum(entry.step_id == "reserve" for entry in world.app.journal) == 5)


@asynchronous
async def test_a_run_that_yields_goes_on() -> None:
    """A run that gives way is taken up again by the same worker, behind the others."""
    world = World()

    @create_workflow(id="polite")
    async def polite(ctx: Context[None]) -> str:
        await ctx.step("one", world.app.work)
        await ctx.runtime.yield_now()
        return await ctx.step("two", world.app.work, "done")

    runtime = world.runtime(workflows=[polite])
    await runtime.start_run("polite", run_id="p", drive=False)
    async with serving(runtime) as worker:
        await until(lambda: world.app.ran("p") == ["one", "two"])
    assert worker.result().kinds == {"queued": 1, "completed": 1}


@asynchronous
async def test_asked_to_stop_it_lets_steps_end_and_no_other_begin() -> None:
    """A step under way is finished and recorded, the next one is left to another worker, and nothing is claimed."""
    world = World()
    runtime = world.runtime()
    release = world.app.blocks("reserve")
    await runtime.start_run("pay", run_id="p", input={"order_id": "o"}, drive=False)
    await runtime.deliver_signal(run_id="p", signal_id="s", name="paid", payload="card", drive=False)
    stop = asyncio.Event()
    worker = asyncio.create_task(runtime.serve(stop=stop, signals=False, concurrency=1))
    await world.app.entered["reserve"].wait()
    await runtime.start_run("greet", run_id="g", input="Ann", drive=False)
    stop.set()
    for _ in range(20):
        await asyncio.sleep(0)
    assert not worker.done()
    release.set()
    report = await worker
    assert (report.kinds, report.handed_back) == ({"queued": 1}, 0)
    assert world.app.ran("p") == ["reserve"]
    swept = await world.runtime().sweep()
    assert swept.summary.ready == {"completed": 2}
    assert world.app.ran("p") == ["reserve", "ship"]
    await world.check()


@asynchronous
async def test_after_the_grace_period_runs_are_handed_back() -> None:
    """A step that does not end in time is cancelled, and another worker takes the run at once, whatever its lease."""
    world = World()
    runtime = world.runtime()
    release = world.app.blocks("hello")
    await runtime.start_run("greet", run_id="g", input="Ann", drive=False)
    stop = asyncio.Event()
    worker = asyncio.create_task(runtime.serve(stop=stop, signals=False, grace=10))
    await world.app.entered["hello"].wait()
    stop.set()
    await until(lambda: START.replace(second=10) in world.clock.waiting_for)
    world.clock.advance(10)
    report = await worker
    assert (report.kinds, report.handed_back) == ({}, 1)
    assert await status(world, "g") == "queued"
    release.set()
    assert (await world.runtime().sweep()).summary.ready == {"completed": 1}
    await world.check()


@asynchronous
async def test_a_cancelled_worker_hands_back_at_once() -> None:
    """Cancelling the call, as a task group does, releases what it holds."""
    world = World()
    runtime = world.runtime()
    world.app.blocks("hello")
    await runtime.start_run("greet", run_id="g", input="Ann", drive=False)
    worker = asyncio.create_task(runtime.serve(signals=False))
    await world.app.entered["hello"].wait()
    worker.cancel()
    with pytest.raises(asyncio.CancelledError):
        await worker
    assert await status(world, "g") == "queued"


class SlowClaims(CrashingStore):
    """A store whose claims are answered when the test says so."""

    def __init__(self, store: Any) -> None:
        super().__init__(store)
        self.asked, self.answer = asyncio.Event(), asyncio.Event()

    async def claim_due(self, *args: Any, **options: Any) -> Any:
        claimed = await self.inner.claim_due(*args, **options)
        self.asked.set()
        await self.answer.wait()
        return claimed


@asynchronous
async def test_what_a_cancelled_claim_brings_is_handed_back() -> None:
    """A worker that is cancelled while it claims waits for the answer, and releases what came with it."""
    world = World()
    store = SlowClaims(world.store)
    runtime = world.runtime(store)
    await runtime.start_run("greet", run_id="g", input="Ann", drive=False)
    worker = asyncio.create_task(runtime.serve(signals=False))
    await store.asked.wait()
    worker.cancel()
    await asyncio.sleep(0)
    store.answer.set()
    with pytest.raises(asyncio.CancelledError):
        await worker
    assert await status(world, "g") in ("queued", "completed")


class Unreachable(CrashingStore):
    """A store that is away while `away` is set."""

    away: Exception | None = None

    async def next_due(self, workflow_ids: Collection[str]) -> datetime | None:
        if self.away is not None:
            raise self.away
        return await super().next_due(workflow_ids)

    async def claim_due(self, *args: Any, **options: Any) -> Any:
        if self.away is not None:
            raise self.away
        return await super().claim_due(*args, **options)


@asynchronous
async def test_a_store_that_goes_away_is_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    """While the store is away the worker tries again, rarer and rarer, says so once, and goes on when it is back."""
    caplog.set_level(logging.WARNING, logger="workflow.runtime")
    world = World()
    store = Unreachable(world.store)
    store.away = StoreError("The database is gone.")
    async with serving(world.runtime(store)):
        waits: list[float] = []
        for _ in range(8):
            at = await asleep(world)
            waits.append((at - world.clock.now()).total_seconds())
            world.clock.set(at)
        assert waits == [0.5, 1, 2, 4, 8, 15, 15, 15]
        assert [record.message for record in caplog.records] == [
            "The worker can't use its store, and goes on trying. StoreError: The database is gone."
        ]
        store.away = None
        await world.runtime().start_run("greet", run_id="g", input="Ann", drive=False)
        await until(lambda: world.app.ran("g"))
    assert caplog.records[-1].message == "The worker's store is back after 60.5 s."


@asynchronous
async def test_a_bad_run_does_not_stop_the_others(caplog: pytest.LogCaptureFixture) -> None:
    """A run that fails, and an `on_result` that fails, are no reason to stop."""
    world = World()
    runtime = world.runtime()
    seen: list[str] = []

    def on_result(result: Any) -> None:
        seen.append(result.kind)
        raise ValueError("no")

    async with serving(runtime, on_result=on_result) as worker:
        await runtime.start_run("fail", run_id="f", input="x", drive=False)
        await runtime.start_run("greet", run_id="g", input="Ann", drive=False)
        await until(lambda: len(seen) == 2)
        assert not worker.done()
    assert sorted(seen) == ["completed", "errored"]
    assert "on_result failed" in caplog.text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"concurrency": 0}, "concurrency"),
        ({"poll_interval": 0}, "poll_interval"),
        ({"per_workflow": {"nobody": 1}}, "'nobody'"),
        ({"per_workflow": 0}, "per_workflow"),
        ({"grace": -1}, "grace"),
    ],
)
@asynchronous
async def test_settings_that_make_no_sense_are_refused(options: dict[str, Any], message: str) -> None:
    """A worker with impossible settings does not start."""
    with pytest.raises(InvalidArgumentError, match=message):
        await World().runtime().serve(**options)
