"""Order and places on the deterministic loop: the same in every process and on every Python."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from workflow.core import Context, HandlerError, create_workflow
from workflow.core.loop import DurableLoop, DurableTask, stepping

from .engine_kit import World, echo, play


def world_of(handler: Callable[[Context], Coroutine[Any, Any, Any]]) -> World:
    return World(create_workflow(id="w")(handler))


def test_tasks_and_futures_hash_by_their_creation() -> None:
    """Sets of tasks and of the loop's futures are ordered by creation, not by address."""

    async def w(ctx: Context) -> list[int]:
        loop = asyncio.get_running_loop()
        tasks: list[Any] = [asyncio.create_task(ctx.step(f"s{n}", echo, n)) for n in range(3)]
        futures = [loop.create_future() for _ in range(3)]
        hashes = [hash(item) for item in (*tasks, *futures)]
        await asyncio.gather(*tasks)
        return [number - hashes[0] for number in hashes]

    assert play(world_of(w).start()).output == [0, 1, 2, 3, 4, 5]


def test_done_sets_are_in_order() -> None:
    """What `asyncio.wait` returns is iterated in the order in which the tasks were created."""

    async def w(ctx: Context) -> list[str]:
        tasks = [asyncio.create_task(ctx.step(f"s{n}", echo, n), name=f"t{n}") for n in range(7)]
        done, _ = await asyncio.wait(tasks)
        return [task.get_name() for task in done]

    assert play(world_of(w).start()).output == [f"t{n}" for n in range(7)]


def test_automatic_ids_tell_kind_name_place_and_number() -> None:
    """An automatic id is made of kind, name, place among the branches, and a counter of its own for each of these."""

    async def branch(ctx: Context, depth: int) -> None:
        await ctx.now()
        if depth:
            await asyncio.gather(branch(ctx, depth - 1), branch(ctx, depth - 1))
        await ctx.now()

    async def w(ctx: Context) -> None:
        await ctx.uuid()
        await branch(ctx, 1)
        async with asyncio.TaskGroup() as group:
            group.create_task(branch(ctx, 0))
        await ctx.uuid()

    world = world_of(w)
    play(world.start())
    assert sorted(line.split()[1] for line in world.trace if " " in line) == sorted(
        [
            "$uuid#1",
            "$now#1",
            "$now@1#1",
            "$now@1#2",
            "$now@2#1",
            "$now@2#2",
            "$now#2",
            "$now@3#1",
            "$now@3#2",
            "$uuid#2",
        ]
    )


@pytest.mark.parametrize("timeout", [5, None])
def test_wait_for_does_not_change_places(timeout: float | None) -> None:
    """`wait_for` runs its coroutine at the caller's place, whether this Python makes a task of it or not."""

    async def inner(ctx: Context) -> None:
        await ctx.now()
        await asyncio.create_task(ctx.sleep(1))

    async def w(ctx: Context) -> None:
        await asyncio.wait_for(inner(ctx), timeout)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(inner(ctx), 0)
        await asyncio.create_task(ctx.sleep(1))

    world = world_of(w)
    play(world.finish())
    ids = [line.split()[1] for line in world.trace if line.startswith(("NOW", "TIMER_STARTED $sleep"))]
    assert ids == ["$now#1", "$sleep@1#1", "$sleep@2#1"]


def test_as_completed_runs_coroutines_in_the_given_order() -> None:
    """`as_completed` goes through a set of coroutines; the branches are made in the order of the list all the same."""
    order: list[int] = []

    async def branch(ctx: Context, number: int) -> int:
        order.append(number)
        await ctx.now()
        return await ctx.step(f"s{number}", echo, number)

    async def w(ctx: Context) -> list[int]:
        coroutines = [branch(ctx, number) for number in range(20)]
        return [await future for future in asyncio.as_completed([*coroutines, coroutines[0]])]

    world = world_of(w)
    outcome = play(world.start())
    assert order == list(range(20)) == outcome.output
    assert world.trace[:20] == [f"NOW_RECORDED $now@{n}#1" for n in range(1, 21)]


def test_as_completed_takes_tasks_in_any_collection() -> None:
    """Tasks have an order of their own, so any collection of them is fine."""

    async def w(ctx: Context) -> list[int]:
        tasks = {asyncio.create_task(ctx.step(f"s{n}", echo, n)) for n in range(5)}
        first = [await future for future in asyncio.as_completed(tasks)]
        more = dict.fromkeys(asyncio.create_task(ctx.step(f"m{n}", echo, n)) for n in range(5))
        return first + [await future for future in asyncio.as_completed(more, timeout=60)]

    assert play(world_of(w).start()).output == [*range(5), *range(5)]


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")
def test_as_completed_refuses_coroutines_without_an_order() -> None:
    """A set of coroutines has no order that a replay could repeat: the error says what to give instead."""

    async def w(ctx: Context) -> None:
        for future in asyncio.as_completed({ctx.step("s", echo)}):
            await future

    outcome = play(world_of(w).start())
    assert outcome.kind == "errored" and outcome.error is not None
    assert outcome.error.type == HandlerError.__name__
    assert "Give it a list" in outcome.error.message


def test_place_of_tasks_made_by_callbacks() -> None:
    """A task that a callback creates is a branch of the main one."""

    async def w(ctx: Context) -> str:
        loop = asyncio.get_running_loop()
        made = loop.create_future()
        loop.call_soon(lambda: made.set_result(asyncio.create_task(ctx.now())))
        task = await made
        assert isinstance(task, DurableTask)
        await task
        return task.path

    assert play(world_of(w).start()).output == "1"


def test_ended_tasks_are_let_go() -> None:
    """A long-lived handler with many short branches does not keep them all."""
    counts: list[int] = []

    async def w(ctx: Context) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, DurableLoop)
        for _ in range(1000):
            await asyncio.create_task(asyncio.sleep(0))
            counts.append(len(loop.tasks))

    assert play(world_of(w).start()).kind == "completed"
    assert max(counts) <= 128


def test_tasks_of_many_runs_do_not_collide() -> None:
    """A task's hash is its number within its run; asyncio's own set of all tasks must not see the same one for all."""
    known: Any = getattr(asyncio.tasks, "_scheduled_tasks", None) or getattr(asyncio.tasks, "_all_tasks", None)
    if not isinstance(known, weakref.WeakSet):
        pytest.skip("this Python keeps its tasks in a list")

    async def forever() -> None:
        await asyncio.get_running_loop().create_future()

    loops = [DurableLoop(0, lambda timer: None, lambda timer: None) for _ in range(50)]
    tasks: list[DurableTask] = []
    for loop in loops:
        with stepping(loop):
            tasks.append(loop.create_task(forever()))
    assert {hash(task) for task in tasks} == {1}
    hashes = {hash(reference) for reference in known.data if reference() in tasks}
    assert len(hashes) == len(tasks)
    for task in tasks:
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        coroutine: Any = task.get_coro()
        coroutine.close()
