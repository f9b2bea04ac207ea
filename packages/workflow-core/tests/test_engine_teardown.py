"""Nothing that a handler catches, swallows or leaves behind changes or outlives a pause: DESIGN 4.1, rule 4."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import warnings
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from workflow.core import Context, create_workflow
from workflow.core.definition import Workflow

from .engine_kit import World, echo, play

SEEN: list[str] = []


@pytest.fixture(autouse=True)
def _fresh() -> None:
    SEEN.clear()


def assert_pauses_and_goes_on(workflow: Workflow[Any, Any], seen: list[str], trace: list[str]) -> None:
    """Pause in an event named "go", then bring it; what the handler did last time round is `seen`."""

    async def scenario() -> None:
        world = World(workflow)
        outcome = await world.start()
        assert outcome.kind == "paused", outcome
        paused = world.trace
        SEEN.clear()
        await world.signal("go", "payload")
        outcome = await world.drive()
        assert (outcome.kind, outcome.error) == ("completed", None)
        assert seen == SEEN
        assert paused == trace

    play(scenario())


AWAITED = ["SIGNAL_AWAITED $event:go#1"]


def test_except_exception_does_not_see_a_pause() -> None:
    """`except Exception` around a wait never sees the suspension."""

    @create_workflow(id="w")
    async def w(ctx: Context) -> None:
        try:
            await ctx.wait_for_event("go")
        except Exception:
            SEEN.append("caught")
        SEEN.append("after")

    assert_pauses_and_goes_on(w, ["after"], AWAITED)


@pytest.mark.parametrize("bare", [True, False])
def test_swallowed_pause_is_still_a_pause(bare: bool) -> None:
    """A bare `except` and `except BaseException` can't make a result of the suspension, nor start steps."""

    @create_workflow(id="w")
    async def w(ctx: Context) -> str:
        if bare:
            try:
                await ctx.wait_for_event("go")
            except:  # noqa: E722 - the point
                SEEN.append("caught")
        else:
            try:
                await ctx.wait_for_event("go")
            except BaseException:
                SEEN.append("caught")
        await ctx.step("after", echo)
        SEEN.append("after")
        return "result"

    assert_pauses_and_goes_on(w, ["after"], AWAITED)


def test_finally_with_operations_starts_nothing() -> None:
    """Primitives called in a `finally` while the run pauses never start anything, and never come back."""

    @create_workflow(id="w")
    async def w(ctx: Context) -> None:
        try:
            await ctx.wait_for_event("go")
        finally:
            SEEN.append("cleanup")
            await ctx.step("cleanup", echo)
            await ctx.sleep(0)
            await ctx.now()
            await ctx.uuid()
            await asyncio.sleep(0)
            await asyncio.sleep(1)
            await ctx.runtime.yield_now()
            SEEN.append("cleaned")
        SEEN.append("after")

    async def scenario() -> None:
        world = World(w)
        outcome = await world.start()
        assert SEEN == ["cleanup"]
        SEEN.clear()
        await world.signal("go")
        outcome = await world.finish()
        assert outcome.kind == "completed"
        assert SEEN[-2:] == ["cleaned", "after"]

    play(scenario())


def test_finally_may_use_all_of_asyncio() -> None:
    """What needs the current task (timeouts, `wait_for`, groups) works in a `finally` while the run pauses, too."""

    async def numbers(ctx: Context) -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            await asyncio.wait_for(ctx.step("generator", echo), 5)
            SEEN.append("generator")

    @create_workflow(id="w")
    async def w(ctx: Context) -> None:
        kept = numbers(ctx)
        await anext(kept)
        try:
            try:
                try:
                    await ctx.wait_for_event("go")
                finally:
                    await asyncio.wait_for(ctx.step("waited for", echo), 5)
                    SEEN.append("waited for")
            finally:
                async with asyncio.timeout(5):
                    await ctx.step("timed", echo)
                    SEEN.append("timed")
        finally:
            async with asyncio.TaskGroup() as group:
                group.create_task(ctx.step("grouped", echo))
            await kept.aclose()
            SEEN.append("grouped")

    async def scenario() -> None:
        world = World(w)
        assert (await world.start()).kind == "paused"
        assert SEEN == []
        await world.signal("go")
        assert (await world.drive()).kind == "completed"
        assert SEEN == ["waited for", "timed", "generator", "grouped"]

    play(scenario())


def test_emit_and_logger_are_silent_while_torn_down(caplog: pytest.LogCaptureFixture) -> None:
    """What a `finally` tells observers or logs during a pause is not told: it will be told again when it counts."""

    @create_workflow(id="w")
    async def w(ctx: Context) -> None:
        try:
            await ctx.wait_for_event("go")
        finally:
            ctx.emit("progress", 1)
            ctx.logger.warning("leaving")

    async def scenario() -> None:
        world = World(w)
        await world.start()
        assert "CUSTOM" not in world.published_types()
        assert not caplog.messages
        await world.signal("go")
        await world.drive()
        assert world.published_types().count("CUSTOM") == 1
        assert caplog.messages == ["leaving"]

    play(scenario())


def test_async_with_leaves_at_a_pause() -> None:
    """Async context managers are left when the run pauses, with what they do after a durable wait left undone."""

    class Manager:
        async def __aenter__(self) -> None:
            SEEN.append("enter")

        async def __aexit__(self, kind: Any, *details: object) -> bool:
            SEEN.append("exit")
            return True  # swallows whatever it is

    @create_workflow(id="w")
    async def w(ctx: Context) -> str:
        async with Manager():
            await ctx.wait_for_event("go")
        await ctx.step("after", echo)
        return "result"

    assert_pauses_and_goes_on(w, ["enter", "exit"], AWAITED)


def test_contextmanagers_leave_at_a_pause() -> None:
    """Context managers made of generators, sync and async, are left in their order."""

    @contextlib.contextmanager
    def outer() -> Iterator[None]:
        try:
            yield
        finally:
            SEEN.append("outer")

    @contextlib.asynccontextmanager
    async def inner() -> AsyncIterator[None]:
        try:
            yield
        finally:
            SEEN.append("inner")

    @create_workflow(id="w")
    async def w(ctx: Context) -> None:
        with outer():
            async with inner():
                await ctx.wait_for_event("go")

    async def scenario() -> None:
        world = World(w)
        await world.start()
        assert SEEN == ["inner", "outer"]

    play(scenario())
    SEEN.clear()
    assert_pauses_and_goes_on(w, ["inner", "outer"], AWAITED)


@pytest.mark.parametrize("swallows", [False, True])
def test_half_iterated_generators_are_closed_at_a_pause(swallows: bool) -> None:
    """The `finally` of an async generator runs when the run pauses, not whenever garbage is collected."""

    async def numbers(ctx: Context) -> AsyncIterator[int]:
        try:
            yield 1
            yield 2
        except BaseException:
            if not swallows:
                raise
            yield 3
        finally:
            SEEN.append("closed")
            await ctx.step("close", echo)

    @create_workflow(id="w")
    async def w(ctx: Context) -> None:
        async for _ in numbers(ctx):
            break
        kept = numbers(ctx)
        await anext(kept)
        await ctx.wait_for_event("go")

    async def scenario() -> None:
        world = World(w)
        outcome = await world.start()
        assert (outcome.kind, world.trace) == ("paused", AWAITED)
        assert SEEN == ["closed", "closed"]
        await world.signal("go")
        assert (await world.drive()).kind == "completed"

    play(scenario())


def test_generator_in_the_middle_of_a_wait_is_closed() -> None:
    """A generator that itself waits when the run pauses is left like any other code."""

    async def events(ctx: Context) -> AsyncIterator[str]:
        try:
            while True:
                yield await ctx.wait_for_event("go", str)
        finally:
            SEEN.append("closed")

    @create_workflow(id="w")
    async def w(ctx: Context) -> str:
        async for event in events(ctx):
            return event
        return "nothing"

    assert_pauses_and_goes_on(w, ["closed"], AWAITED)


def test_tasks_that_were_made_while_torn_down_are_ended(caplog: pytest.LogCaptureFixture) -> None:
    """A task that a `finally` creates during a pause is ended too, however it was made."""

    async def branch(ctx: Context) -> None:
        try:
            await ctx.sleep(5)
        finally:
            SEEN.append("branch")

    @create_workflow(id="w")
    async def w(ctx: Context) -> None:
        try:
            await ctx.wait_for_event("go")
        finally:
            tasks = [asyncio.create_task(branch(ctx)) for _ in range(3)]
            await asyncio.gather(*tasks)

    async def scenario() -> None:
        world = World(w)
        outcome = await world.start()
        assert outcome.kind == "paused"

    play(scenario())
    assert not caplog.messages


def test_all_branches_are_ended_when_the_run_pauses(caplog: pytest.LogCaptureFixture) -> None:
    """Tasks of groups, gathers and tasks that nobody awaits are all gone after a pause."""

    async def branch(ctx: Context, number: int) -> None:
        try:
            await ctx.wait_for_event(f"e{number}")
        finally:
            SEEN.append(f"end {number}")

    @create_workflow(id="w")
    async def w(ctx: Context) -> None:
        loose = asyncio.create_task(branch(ctx, 1))
        async with asyncio.TaskGroup() as group:
            group.create_task(branch(ctx, 2))
            await asyncio.gather(branch(ctx, 3), asyncio.shield(branch(ctx, 4)))
        await loose

    async def scenario() -> None:
        outcome = await World(w).start()
        assert outcome.kind == "paused"

    play(scenario())
    assert sorted(SEEN) == ["end 1", "end 2", "end 3", "end 4"]
    assert not caplog.messages


def test_branches_left_over_at_the_end_are_ended() -> None:
    """When the handler returns, what it has left running is ended, and its operations are not waited for."""

    async def branch(ctx: Context) -> None:
        try:
            await ctx.sleep(1000)
        finally:
            SEEN.append("ended")

    @create_workflow(id="w")
    async def w(ctx: Context) -> str:
        kept = asyncio.create_task(branch(ctx))
        await ctx.step("a", echo)
        return kept.get_name()

    async def scenario() -> None:
        world = World(w)
        outcome = await world.start()
        assert (outcome.kind, SEEN) == ("completed", ["ended"])

    play(scenario())


def test_errors_of_forgotten_branches_are_told(caplog: pytest.LogCaptureFixture) -> None:
    """The error of a branch that nobody awaited is logged when the run has ended, with the branch and the run."""

    async def branch() -> None:
        raise ValueError("forgotten")

    @create_workflow(id="w")
    async def w(ctx: Context) -> None:
        task = asyncio.create_task(branch(), name="odd one")
        await ctx.step("a", echo)
        assert task.done()

    play(World(w).start())
    (record,) = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert "odd one" in record.getMessage() and "run-1" in record.getMessage()


def test_handler_that_can_not_be_ended_still_pauses(caplog: pytest.LogCaptureFixture) -> None:
    """A handler that catches everything in a loop is given up, with a message that says what to write instead."""

    @create_workflow(id="w")
    async def w(ctx: Context) -> None:
        while True:
            try:
                await ctx.wait_for_event("go")
                return
            except BaseException:
                continue

    async def scenario() -> None:
        world = World(w)
        assert (await world.start()).kind == "paused"
        await world.signal("go")
        assert (await world.drive()).kind == "completed"

    play(scenario())
    assert any("except Exception" in message for message in caplog.messages)


def test_coroutine_that_never_ran_is_ended_quietly() -> None:
    """A task that has not had its first turn when the handler ends is closed, and not reported as never awaited."""

    @create_workflow(id="w")
    async def w(ctx: Context) -> str:
        await ctx.step("a", echo)
        task = asyncio.create_task(ctx.sleep(5))
        return task.get_name()

    async def scenario() -> None:
        assert (await World(w).start()).kind == "completed"

    play(scenario())


def test_steps_that_are_awaited_later_are_no_news_at_a_pause() -> None:
    """Coroutines that the handler has made and not awaited yet are no reason to warn when the run pauses."""

    async def helper(ctx: Context) -> None:
        await ctx.sleep(1)

    @create_workflow(id="w")
    async def w(ctx: Context) -> int:
        first, later = ctx.sleep(1), ctx.step("later", echo, 1)
        more = {"listed": [helper(ctx)], "own": helper(ctx)}
        (listed,), own = more["listed"], more["own"]
        await first
        await listed
        await own
        return await later

    async def scenario() -> None:
        world = World(w)
        await world.start()
        world.clock.advance(10)
        outcome = await world.finish()
        assert (outcome.kind, outcome.output) == ("completed", 1)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        play(scenario())
