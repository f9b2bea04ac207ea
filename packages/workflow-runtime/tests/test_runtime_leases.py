"""Leases: renewed for all runs at once, from where user code can't starve it; lost ones stop their drive."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
from collections.abc import AsyncGenerator, Collection, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from workflow.core import Context, create_workflow
from workflow.core.records import Lease
from workflow.runtime import ExecutionStore, HeldLease, MemoryStore, Renewal, WorkflowRuntime
from workflow.runtime.testing import CrashingStore, CrashPoint, SimulatedCrash

from .runtime_kit import DAY, START, World, asynchronous

LEASE = timedelta(seconds=30)


class Renewals(MemoryStore):
    """Remembers each call of `renew`, and may refuse it."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[set[str], datetime]] = []
        self.fails = False

    async def renew(self, held: Collection[HeldLease], *, until: datetime, now: datetime) -> Sequence[Renewal]:
        self.calls.append(({lease.run_id for lease in held}, until))
        if self.fails:
            raise ConnectionError("no connection")
        return await super().renew(held, until=until, now=now)


@asynccontextmanager
async def driving(world: World, *run_ids: str, **options: Any) -> AsyncGenerator[list[asyncio.Task[Any]]]:
    """Runs that hang in their step; in the end they are let go and awaited."""
    runtime = options.pop("runtime", None) or world.runtime()
    release = world.app.blocks("hello")
    drives = [
        asyncio.create_task(runtime.start_run("greet", run_id=run_id, input="Ann", **options)) for run_id in run_ids
    ]
    while len(world.app.journal) < len(run_ids):
        await asyncio.sleep(0)
    yield drives
    release.set()
    await asyncio.gather(*drives, return_exceptions=True)


@asynchronous
async def test_one_statement_renews_all_runs() -> None:
    """All runs of a process are renewed together, to the time of the clock and the length of a lease."""
    store = Renewals()
    world = World(store)
    runtime = world.runtime()
    async with driving(world, "a", "b", "c", runtime=runtime):
        world.clock.advance(10)
        await runtime._keeper.renew_once()
        until = START + timedelta(seconds=10) + LEASE
        assert store.calls == [({"a", "b", "c"}, until)]
        assert [(await runtime.get_run(id)).due_at for id in "abc"] == [until] * 3  # type: ignore[union-attr]
        await world.check()
    await runtime._keeper.renew_once()
    assert len(store.calls) == 1, "nothing is held, so nothing is renewed"


@asynchronous
async def test_a_lease_is_renewed_by_the_clock_of_its_call() -> None:
    """A run that is driven at another time (`now=`) is renewed at that time."""
    store = Renewals()
    world = World(store)
    runtime = world.runtime()
    async with driving(world, "r", runtime=runtime, now=START + DAY):
        await runtime._keeper.renew_once()
        assert store.calls == [({"r"}, START + DAY + LEASE)]


@asynchronous
async def test_a_renewed_run_is_not_recovered() -> None:
    """While its lease is renewed, nobody takes a run, however long its step takes."""
    world = World()
    runtime, other = world.runtime(), world.runtime()
    async with driving(world, "r", runtime=runtime):
        for _ in range(10):
            world.clock.advance(20)
            await runtime._keeper.renew_once()
            assert (await other.sweep()).summary.total == 0
    assert world.app.ran("r") == ["hello"]


@asynchronous
async def test_a_lost_lease_cancels_the_drive() -> None:
    """A drive whose run somebody else has taken is stopped in its step, writes nothing, and tells the run's state."""
    world = World()
    runtime = world.runtime()
    async with driving(world, "r", runtime=runtime) as drives:
        world.clock.advance(31)
        stolen = await world.store.claim_run("r", Lease("thief", world.clock.now() + LEASE), now=world.clock.now())
        assert stolen is not None
        await runtime._keeper.renew_once()
        result = await drives[0]
        assert (result.kind, result.event_count) == ("running", 2)
        row = await world.store.get_run("r")
        assert row is not None and (row.owner, row.log_length) == ("thief", 0)


@asynchronous
async def test_a_process_that_takes_a_run_from_itself_drives_it_once() -> None:
    """A process that had stalled and recovers its own run stops the old drive at once."""
    world = World()
    runtime = world.runtime()
    async with driving(world, "r", runtime=runtime) as drives:
        world.clock.advance(31)
        sweep = asyncio.create_task(runtime.sweep())
        result = await drives[0]
        assert result.kind == "running"
        world.app.hold["hello"].set()
        assert (await sweep).summary.recovered == {"completed": 1}
    assert world.app.ran("r") == ["hello", "hello"]


@asynchronous
async def test_news_from_elsewhere_come_with_the_renewal() -> None:
    """A drive learns of mail that another process has delivered when its lease is renewed."""
    world = World()

    @create_workflow(id="both")
    async def both(ctx: Context[None]) -> str:
        async with asyncio.TaskGroup() as group:
            group.create_task(ctx.step("hang", world.app.work))
            return await ctx.wait_for_event("go", str)

    runtime, other = world.runtime(workflows=[both]), world.runtime(workflows=[both])
    release = world.app.blocks("hang")
    drive = asyncio.create_task(runtime.start_run("both", run_id="r"))
    await world.app.entered["hang"].wait()
    await other.deliver_signal(run_id="r", signal_id="s", name="go", payload="now")
    await runtime._keeper.renew_once()
    async for event in other.stream("r"):
        if event.type == "SIGNAL_RESOLVED":  # type: ignore[attr-defined]
            break
    release.set()
    assert (await drive).output == "now"


@asynchronous
async def test_a_renewal_that_fails_is_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    """A store that can't be reached is logged, and stops neither the renewing nor the drive."""
    store = Renewals()
    world = World(store)
    runtime = world.runtime()
    async with driving(world, "r", runtime=runtime) as drives:
        store.fails = True
        with caplog.at_level(logging.WARNING, "workflow.runtime"):
            await runtime._keeper._renew_safely()
        assert "could not be renewed" in caplog.text
        store.fails = False
        await runtime._keeper._renew_safely()
        assert not drives[0].done()
    assert drives[0].result().kind == "completed"


@asynchronous
async def test_a_process_that_dies_while_it_renews() -> None:
    """Dying before or after a renewal leaves a run that is recovered when that lease has run out."""
    for when in ("before", "after"):
        world = World()
        dying = CrashingStore(world.store, CrashPoint("renew", 1, when))
        runtime = world.runtime(dying)
        async with driving(world, "r", runtime=runtime):
            world.clock.advance(20)
            with pytest.raises(SimulatedCrash):
                await runtime._keeper.renew_once()
            world.clock.advance(31)
            world.app.hold.clear()
            assert (await world.runtime().sweep()).summary.recovered == {"completed": 1}
            await world.check()


# With real time


class Watched(CrashingStore):
    """Any store, with a sign for each renewal."""

    def __init__(self, inner: ExecutionStore) -> None:
        super().__init__(inner)
        self.renewed = 0
        self.twice_more = threading.Event()
        self.threads: set[str] = set()

    async def renew(self, *args: Any, **kwargs: Any) -> Any:
        renewals = await super().renew(*args, **kwargs)
        self.threads.add(threading.current_thread().name)
        self.renewed += len(renewals)
        if self.renewed >= 2:
            self.twice_more.set()
        return renewals


def open_sqlite(path: Path) -> Any:
    sqlite = pytest.importorskip("workflow.store.sqlite")
    return sqlite.SQLiteStore(path / "w.db", synchronous="NORMAL")


_others: set[threading.Thread] = set()


@pytest.fixture(autouse=True)
def _remember_threads() -> None:
    """Other tests kill runtimes without closing them: what those leave is not counted."""
    _others.update(threading.enumerate())


def lease_threads() -> list[threading.Thread]:
    return [thread for thread in set(threading.enumerate()) - _others if thread.name == "workflow leases"]


@pytest.mark.parametrize("kind", ["blocks the loop", "in a thread", "waits"])
@asynchronous
async def test_a_step_that_takes_longer_than_its_lease_keeps_it(kind: str, tmp_path: Path) -> None:
    """On SQLite the lease is renewed from a thread: not even a step that blocks the main loop can lose it."""
    store = Watched(open_sqlite(tmp_path))

    async def blocks() -> None:
        assert store.twice_more.wait(20)  # nothing else of this loop moves meanwhile

    def in_thread() -> None:
        assert store.twice_more.wait(20)

    async def waits() -> None:
        await asyncio.to_thread(in_thread)

    step = {"blocks the loop": blocks, "in a thread": in_thread, "waits": waits}[kind]

    @create_workflow(id="long")
    async def long(ctx: Context[None]) -> int:
        await ctx.step("long", step)
        return store.renewed

    async with WorkflowRuntime(store, [long], lease=0.3, telemetry=False) as runtime:
        result = await runtime.start_run("long", run_id="r")
        assert (result.kind, result.output) == ("completed", store.renewed)
    assert store.threads == {"workflow leases"}
    assert lease_threads() == []


@asynchronous
async def test_without_threads_a_task_renews() -> None:
    """A store that renews on one loop only is renewed by a task of that loop, which ends with the last drive."""
    store = Watched(MemoryStore())

    async def waits() -> None:
        await asyncio.to_thread(store.twice_more.wait, 20)

    @create_workflow(id="long")
    async def long(ctx: Context[None]) -> None:
        await ctx.step("long", waits)

    runtime = WorkflowRuntime(store, [long], lease=0.3, telemetry=False)
    assert (await runtime.start_run("long", run_id="r")).kind == "completed"
    await asyncio.sleep(0)
    assert [task for task in asyncio.all_tasks() if task.get_name() == "workflow leases"] == []
    await runtime.close()


@asynchronous
async def test_close_leaves_nothing(tmp_path: Path) -> None:
    """After `close()` no thread and no task of the runtime is left; it may be closed again."""
    world = World(open_sqlite(tmp_path))
    before = set(threading.enumerate())
    runtime = world.runtime()
    await runtime.start_run("greet", input="Ann")
    await runtime.start_run("pay", run_id="r", input={"order_id": "o"})
    assert lease_threads()
    await runtime.close()
    await runtime.close()
    left = [thread for thread in set(threading.enumerate()) - before if not thread.name.startswith("asyncio")]
    assert left == []


@asynchronous
async def test_close_while_a_run_is_driven(tmp_path: Path) -> None:
    """Closing under a drive stops the renewing; the run goes on in another process when its lease has run out."""
    world = World(open_sqlite(tmp_path))
    runtime = world.runtime()
    async with driving(world, "r", runtime=runtime) as drives:
        await runtime.close()
        assert lease_threads() == []
    with pytest.raises(Exception, match="closed"):
        drives[0].result()
    world.clock.advance(31)
    async with world.runtime(open_sqlite(tmp_path)) as other:
        assert (await other.sweep()).summary.recovered == {"completed": 1}


@asynchronous
async def test_an_idle_thread_retires_and_comes_back(tmp_path: Path) -> None:
    """A thread that has nothing to renew ends by itself, and where there is something again another one begins."""
    world = World(open_sqlite(tmp_path))
    async with world.runtime(lease=0.03) as runtime:
        for _ in range(3):
            await runtime.start_run("greet", input="Ann")
            (thread,) = lease_threads()
            await asyncio.to_thread(thread.join, 20)
            assert not thread.is_alive()
        assert lease_threads() == []


def test_a_runtime_serves_several_loops_one_after_the_other(tmp_path: Path) -> None:
    """A host that makes a new event loop for each invocation can keep its runtime."""
    world = World(open_sqlite(tmp_path))
    runtime = world.runtime()
    for number in range(3):
        assert asyncio.run(runtime.start_run("greet", input=str(number))).kind == "completed"
    asyncio.run(runtime.close())
    memory = World().runtime()
    for number in range(3):
        assert asyncio.run(memory.start_run("greet", input=str(number))).kind == "completed"
    gc.collect()
