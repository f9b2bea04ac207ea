"""Ordinary asyncio in a handler, durable and deterministic: DESIGN 4.1."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest

from workflow.core import Context, create_workflow
from workflow.core.engine import DriveOutcome

from .engine_kit import Gates, World, echo, play, settle

Handler = Callable[[Context], Coroutine[Any, Any, Any]]


def world_of(handler: Handler) -> World:
    return World(create_workflow(id="w")(handler))


def finished(handler: Handler) -> World:
    """Run it to its end, and then from every prefix of its log: all must end alike."""

    async def scenario() -> World:
        world = world_of(handler)
        outcome = await world.finish()
        assert outcome.kind == "completed", outcome
        for length in range(len(world.log)):
            again = await world.cut(length).finish()
            assert (again.kind, again.run.output) == ("completed", world.run.output), length
        return world

    return play(scenario())


def output(handler: Handler) -> Any:
    world = finished(handler)
    return world.workflow.output_type.decode(str(world.run.output), "the output")


def test_gather_keeps_order_and_runs_beside_each_other() -> None:
    """`gather` starts all its steps together and returns their results in the order of its arguments."""
    gates = Gates()

    async def w(ctx: Context) -> list[str]:
        return await asyncio.gather(*(ctx.step(name, gates, name) for name in "abc"))

    async def scenario() -> None:
        world = world_of(w)
        drive = world.begin(await world.create())
        await settle()
        assert sorted(gates.waiting) == ["a", "b", "c"]
        for name in "cab":
            gates.open(name, name.upper())
            await settle()
        assert (await drive).output == ["A", "B", "C"]
        assert world.trace[:3] == ["STEP_FINISHED c", "STEP_FINISHED a", "STEP_FINISHED b"]
        assert (await world.cut(3).drive()).output == ["A", "B", "C"]

    play(scenario())


def test_gather_with_errors() -> None:
    """`gather` raises the first error of the log, or returns errors among the results if asked to."""

    async def fail(name: str) -> None:
        raise ValueError(name)

    async def w(ctx: Context) -> list[str]:
        found = await asyncio.gather(ctx.step("a", echo, 1), ctx.step("b", fail, "b"), return_exceptions=True)
        try:
            await asyncio.gather(ctx.step("c", fail, "c"), ctx.step("d", fail, "d"))
        except Exception as error:
            found.append(str(error))
        return [str(item) for item in found]

    assert output(w) == [
        "1",
        "Step 'b' failed after 1 attempt: ValueError: b",
        "Step 'c' failed after 1 attempt: ValueError: c",
    ]


def test_task_group_cancels_siblings() -> None:
    """A failing branch of a TaskGroup cancels the others: their steps are cancelled too, and may compensate."""
    gates = Gates()

    async def fail() -> None:
        raise ValueError("no")

    async def slow(ctx: Context) -> None:
        try:
            await ctx.step("slow", gates, "slow")
        except asyncio.CancelledError:
            await ctx.step("undo", echo)
            raise

    async def w(ctx: Context) -> str:
        found = "fine"
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(slow(ctx))
                group.create_task(ctx.step("fail", fail))
        except* Exception as errors:
            found = str(errors.exceptions[0])
        return found

    world = finished(w)
    assert gates.cancelled[0] == "slow"
    assert world.trace == ["STEP_FAILED fail", "STEP_FINISHED undo", "RUN_FINISHED"]


def test_race_cancels_its_losers() -> None:
    """After `wait(FIRST_COMPLETED)` the loser's step is cancelled, and its late result is no part of the run."""
    gates = Gates()

    async def w(ctx: Context) -> str:
        tasks = [asyncio.create_task(ctx.step(name, gates, name), name=name) for name in ("a", "b")]
        done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()
        (winner,) = done
        await ctx.step("after", echo)
        return winner.get_name()

    async def scenario() -> None:
        world = world_of(w)
        drive = world.begin(await world.create())
        await settle()
        gates.open("b")
        outcome = await drive
        assert (outcome.output, gates.cancelled) == ("b", ["a"])
        for length in (1, 2):
            assert (await world.cut(length).drive()).output == "b"

    play(scenario())


def test_loser_of_a_race_does_not_hold_the_run_open() -> None:
    """A timer or wait that lost a race is not waited for, and does not wake the run."""

    async def w(ctx: Context) -> str:
        event = asyncio.create_task(ctx.wait_for_event("go"))
        timer = asyncio.create_task(ctx.sleep(1000))
        await asyncio.wait([event, timer], return_when=asyncio.FIRST_COMPLETED)
        for task in (event, timer):
            task.cancel()
        await ctx.sleep(5)
        return "done"

    async def scenario() -> None:
        world = world_of(w)
        assert (await world.start()).kind == "paused"
        await world.signal("go")
        outcome = await world.drive()
        assert [wait.id for wait in outcome.run.waits] == ["$sleep#1"]
        world.clock.advance(5)
        assert (await world.drive()).output == "done"

    play(scenario())


def test_asyncio_sleep_and_timeouts_are_durable_timers() -> None:
    """`asyncio.sleep`, `asyncio.timeout` and `wait_for` pause the run until their time, as `ctx.sleep` does."""

    async def w(ctx: Context) -> list[str]:
        found = []
        await asyncio.sleep(60)
        try:
            async with asyncio.timeout(60):
                await ctx.wait_for_event("never")
        except TimeoutError:
            found.append("timeout")
        try:
            await asyncio.wait_for(ctx.sleep(1000), 60)
        except TimeoutError:
            found.append("wait_for")
        async with asyncio.timeout(60):
            found.append(await ctx.step("in time", echo, "in time"))
        async with asyncio.timeout(None) as timeout:  # noqa: ASYNC100 - it is only looked at
            timeout.reschedule(asyncio.get_running_loop().time() + 10**12)
        return found

    world = finished(w)
    assert world.run.output == '["timeout","wait_for","in time"]'
    assert world.trace.count("TIMER_FIRED $timer#1") == 1
    assert (world.run.updated_at - world.run.created_at).total_seconds() == 180


def test_timeout_around_a_slow_step_cancels_it() -> None:
    """`asyncio.timeout` strikes while a step runs: the step is cancelled, the handler goes on."""
    gates = Gates()

    async def w(ctx: Context) -> str:
        try:
            async with asyncio.timeout(10):
                await ctx.step("slow", gates, "slow")
        except TimeoutError:
            return "too slow"
        return "in time"

    async def scenario() -> None:
        world = world_of(w)
        drive = world.begin(await world.create())
        await settle()
        world.clock.advance(10)
        outcome: DriveOutcome = await drive
        assert (outcome.output, gates.cancelled) == ("too slow", ["slow"])
        assert (await world.cut(2).drive()).output == "too slow"

    play(scenario())


def test_as_completed_yields_in_the_order_of_the_log() -> None:
    """`as_completed` gives results in the order in which they were recorded."""
    gates = Gates()

    async def w(ctx: Context) -> list[str]:
        coroutines = [ctx.step(name, gates, name) for name in "abc"]
        return [await future for future in asyncio.as_completed(coroutines, timeout=1000)]

    async def scenario() -> None:
        world = world_of(w)
        drive = world.begin(await world.create())
        await settle()
        for name in "bca":
            gates.open(name, name)
            await settle()
        assert (await drive).output == ["b", "c", "a"]
        assert (await world.cut(4).drive()).output == ["b", "c", "a"]

    play(scenario())


def test_shield_outlives_its_waiter() -> None:
    """A shielded operation goes on when the wait for it is cancelled, and can be awaited again."""

    async def w(ctx: Context) -> str:
        kept = asyncio.create_task(ctx.sleep(100))
        try:
            await asyncio.wait_for(asyncio.shield(kept), 10)
        except TimeoutError:
            await kept
        return "kept"

    world = finished(w)
    assert (world.run.updated_at - world.run.created_at).total_seconds() == 100


def test_locks_queues_events_between_branches() -> None:
    """Lock, Semaphore, Event, Condition, Queue and Barrier work between branches, in the order of the log."""

    async def w(ctx: Context) -> list[str]:
        found: list[str] = []
        lock, semaphore, event = asyncio.Lock(), asyncio.Semaphore(2), asyncio.Event()
        condition, barrier = asyncio.Condition(), asyncio.Barrier(3)
        queue: asyncio.Queue[str | None] = asyncio.Queue(maxsize=1)

        async def worker(number: int) -> None:
            async with semaphore:
                await ctx.sleep(number + 1)
            async with lock:
                found.append(f"lock {number}")
                await ctx.step(f"locked {number}", echo)
            await queue.put(f"item {number}")
            await barrier.wait()
            async with condition:
                found.append(f"waits {number}")
                await condition.wait()
            await event.wait()
            found.append(f"end {number}")

        async def consumer() -> None:
            for _ in range(3):
                found.append(str(await queue.get()))
                await ctx.sleep(1)
            async with condition:
                condition.notify_all()
            await ctx.sleep(1)
            event.set()

        async with asyncio.TaskGroup() as group:
            for number in range(3):
                group.create_task(worker(number))
            group.create_task(consumer())
        return found

    found = output(w)
    assert found[:2] == ["lock 0", "item 0"]
    assert sorted(found) == sorted(
        f"{what} {number}" for what in ("lock", "item", "waits", "end") for number in range(3)
    )


def test_events_go_from_branch_to_branch() -> None:
    """A value that one branch waits for can come from another one's durable wait."""

    async def w(ctx: Context) -> Any:
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        async def receive() -> None:
            future.set_result(await ctx.wait_for_event("value"))

        async with asyncio.TaskGroup() as group:
            group.create_task(receive())
            return await future

    async def scenario() -> None:
        world = world_of(w)
        await world.start()
        await world.signal("value", 5)
        assert (await world.drive()).output == 5

    play(scenario())


def test_async_generators_and_context_managers() -> None:
    """Async generators and context managers with durable operations in them behave as anywhere else."""
    left: list[str] = []

    @asynccontextmanager
    async def reserved(ctx: Context, name: str) -> AsyncIterator[str]:
        await ctx.step(f"reserve {name}", echo)
        try:
            yield name
        finally:
            await ctx.step(f"release {name}", echo)

    async def numbers(ctx: Context) -> AsyncIterator[int]:
        for number in range(3):
            await ctx.sleep(10)
            yield number
        left.append("exhausted")

    async def w(ctx: Context) -> int:
        async with reserved(ctx, "seat"):
            return sum([number async for number in numbers(ctx)])

    world = finished(w)
    assert (world.run.output, left[0]) == ("3", "exhausted")
    assert "STEP_FINISHED release seat" in world.trace


@pytest.mark.parametrize("delay", [0, 0.0, -1])
def test_turns_cost_nothing(delay: float) -> None:
    """`asyncio.sleep(0)` lets other branches run and is no timer."""

    async def w(ctx: Context) -> list[int]:
        found: list[int] = []

        async def branch(number: int) -> None:
            for _ in range(2):
                found.append(number)
                await asyncio.sleep(delay)

        await asyncio.gather(branch(1), branch(2))
        return found

    world = finished(w)
    assert (world.run.output, world.trace) == ("[1,2,1,2]", ["RUN_FINISHED"])
