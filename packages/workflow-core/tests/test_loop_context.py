"""The host's loop, current task and context around the handler's: DESIGN 4.1, rule 3."""

from __future__ import annotations

import asyncio
import sys
import threading
from contextvars import ContextVar
from typing import Any

import pytest

from workflow.core import Context, create_workflow, middleware
from workflow.core.loop import DurableLoop, DurableTimer, run_until_idle, stepping

from .engine_kit import START, World, at, echo, play

HOST: ContextVar[str] = ContextVar("host", default="unset")
HANDLER: ContextVar[str] = ContextVar("handler", default="unset")


def ignore(timer: DurableTimer) -> None:
    """A loop under test has no timers."""


def a_loop() -> DurableLoop:
    return DurableLoop(0.0, ignore, ignore)


def test_stepping_restores_loop_task_and_hooks() -> None:
    """Stepping puts back the host's running loop, its current task and its hooks, also after an error."""

    async def scenario() -> None:
        loop, task, hooks = asyncio.get_running_loop(), asyncio.current_task(), sys.get_asyncgen_hooks()
        ours = a_loop()
        for error in (None, ValueError("x")):
            try:
                with stepping(ours):
                    assert asyncio.get_running_loop() is ours
                    assert asyncio.current_task() is None
                    if error is not None:
                        raise error
            except ValueError:
                pass
            assert asyncio.get_running_loop() is loop
            assert asyncio.current_task() is task
            assert sys.get_asyncgen_hooks() == hooks
        await asyncio.sleep(0)

    play(scenario())


def test_stepping_works_without_a_host() -> None:
    """The loop can be stepped where no loop runs, and leaves none behind."""
    ours = a_loop()
    seen: list[str] = []

    async def main() -> None:
        await asyncio.sleep(0)
        seen.append("ran")

    with stepping(ours):
        task = ours.create_task(main())
    run_until_idle(ours)
    assert seen == ["ran"] and task.done()
    with pytest.raises(RuntimeError):
        asyncio.get_running_loop()


def test_stepping_works_in_an_eager_task() -> None:
    """A drive may run in an eager task of the host, or in one inside another loop's task."""
    if sys.version_info < (3, 12):
        pytest.skip("eager tasks are new in Python 3.12")

    @create_workflow(id="w")
    async def w(ctx: Context) -> int:
        return await ctx.step("a", echo, 1)

    async def scenario() -> Any:
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
        return (await asyncio.create_task(World(w).start())).output

    assert play(scenario()) == 1


def test_host_goes_on_beside_a_failing_handler() -> None:
    """After a handler has failed, the host's task is the current one and its loop works as before."""

    @create_workflow(id="w")
    async def w(ctx: Context) -> None:
        raise ValueError("no")

    async def scenario() -> None:
        task = asyncio.current_task()
        assert (await World(w).start()).kind == "errored"
        assert asyncio.current_task() is task
        async with asyncio.timeout(1), asyncio.TaskGroup() as group:
            group.create_task(asyncio.sleep(0))

    play(scenario())


def test_host_variables_do_not_leak_into_the_handler() -> None:
    """The handler starts in an empty context: what the host has set (and may differ next time) is not seen."""

    @create_workflow(id="w")
    async def w(ctx: Context) -> list[str]:
        HANDLER.set("by handler")
        return [HOST.get(), await asyncio.create_task(seen_in_branch())]

    async def seen_in_branch() -> str:
        return HOST.get() + HANDLER.get()

    async def scenario() -> Any:
        HOST.set("by host")
        outcome = await World(w).start()
        assert HANDLER.get() == "unset"
        return outcome.output

    assert play(scenario()) == ["unset", "unsetby handler"]


@pytest.mark.parametrize("sync", [False, True])
def test_variables_reach_steps(sync: bool) -> None:
    """A step sees the host's variables, those that middleware has set, and over them the handler's at the call."""

    def look() -> list[str]:
        return [HOST.get(), HANDLER.get()]

    async def look_async() -> list[str]:
        return look()

    @middleware
    async def sets(ctx: Any, call_next: Any) -> Any:
        HOST.set("by middleware")
        return await call_next()

    step: Any = look if sync else look_async

    @create_workflow(id="w", middleware=[sets])
    async def w(ctx: Context) -> list[list[str]]:
        first = await ctx.step("a", step)
        HANDLER.set("one")

        async def branch() -> list[str]:
            HANDLER.set("two")
            return await ctx.step("b", step)

        return [first, await asyncio.create_task(branch()), await ctx.step("c", step)]

    outcome = play(World(w).start())
    assert outcome.output == [["by middleware", "unset"], ["by middleware", "two"], ["by middleware", "one"]]


def test_sync_steps_run_in_threads() -> None:
    """A `def` does not block the host's loop: it runs in a thread, and coroutines it returns run on the loop."""
    threads: list[threading.Thread] = []

    def blocking() -> str:
        threads.append(threading.current_thread())
        return "done"

    @create_workflow(id="w")
    async def w(ctx: Context) -> list[Any]:
        return [await ctx.step("a", blocking), await ctx.step("b", lambda: echo("awaited"))]

    assert play(World(w).start()).output == ["done", "awaited"]
    assert threads[0] is not threading.main_thread()


def test_time_of_the_loop_is_the_runs() -> None:
    """`loop.time()` is the time of the run's start, then of the event that woke the handler: the same on replay."""
    times: list[list[float]] = []

    @create_workflow(id="w")
    async def w(ctx: Context) -> None:
        loop = asyncio.get_running_loop()
        seen = [loop.time()]
        times.append(seen)
        await ctx.sleep(10)
        seen.append(loop.time())
        await asyncio.sleep(5)
        seen.append(loop.time())
        await ctx.wait_for_event("go")
        seen.append(loop.time())

    async def scenario() -> None:
        world = World(w)
        await world.start()
        world.clock.set(at(11))
        await world.drive()
        world.clock.set(at(17))
        await world.drive()
        await world.signal("go")
        world.clock.set(at(20))
        await world.drive()

    play(scenario())
    first = START.timestamp()
    assert times[-1] == [first, first + 11, first + 17, first + 20]
    assert all(times[-1][: len(seen)] == seen for seen in times)


def test_time_never_goes_back() -> None:
    """A host whose clock is behind does not turn the run's time back."""

    @create_workflow(id="w")
    async def w(ctx: Context) -> list[str]:
        first = await ctx.now()
        await ctx.wait_for_event("go")
        return [first.isoformat(), (await ctx.now()).isoformat()]

    async def scenario() -> Any:
        world = World(w)
        world.clock.set(at(100))
        await world.start()
        await world.signal("go")
        world.clock.time = at(5)
        return (await world.drive(force=True)).output

    assert play(scenario()) == [at(100).isoformat()] * 2


def test_many_runs_in_one_loop_do_not_mix() -> None:
    """Drives of many runs on one host loop keep their tasks, variables and times apart."""

    @create_workflow(id="w")
    async def w(ctx: Context[int]) -> list[int]:
        HANDLER.set(str(ctx.input))

        async def branch(number: int) -> int:
            await ctx.step(f"s{number}", asyncio.sleep, 0)
            return int(HANDLER.get()) + number

        return await asyncio.gather(*(branch(number) for number in range(3)))

    async def scenario() -> list[Any]:
        worlds = [World(w, run_id=f"run-{n}") for n in range(20)]
        outcomes = await asyncio.gather(*(world.start(n) for n, world in enumerate(worlds)))
        return [outcome.output for outcome in outcomes]

    assert play(scenario()) == [[n, n + 1, n + 2] for n in range(20)]


def test_handler_has_asyncio_as_usual() -> None:
    """What asks for the running loop or the current task in a handler gets the deterministic ones."""

    @create_workflow(id="w")
    async def w(ctx: Context) -> list[bool]:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None
        return [isinstance(loop, DurableLoop), task in asyncio.all_tasks(), loop.is_running(), not loop.is_closed()]

    assert play(World(w).start()).output == [True] * 4
