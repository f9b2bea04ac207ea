"""A middleware that cuts its handler off: a time limit around `call_next` is an error of the run, not of its host."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from workflow.core import Context, Workflow, create_workflow, middleware
from workflow.core.records import Commit

from .engine_kit import Gates, World, echo, play, settle


class Limit:
    """A middleware with a time limit that strikes when the test says so."""

    def __init__(self) -> None:
        self._timeout: asyncio.Timeout | None = None

        @middleware
        async def limited(ctx: Any, call_next: Any) -> Any:
            async with asyncio.timeout(None) as self._timeout:
                return await call_next()

        self.middleware = limited

    def strike(self) -> None:
        assert self._timeout is not None
        self._timeout.reschedule(asyncio.get_running_loop().time())


def two_steps(gates: Gates, limit: Limit) -> Workflow[Any, Any]:
    @create_workflow(id="w", middleware=[limit.middleware])
    async def w(ctx: Context) -> None:
        await ctx.step("a", echo, 1)
        await ctx.step("b", gates, "b")
        await ctx.wait_for_event("go")

    return w


def test_a_time_limit_around_the_handler() -> None:
    """The run ends with its error, keeps what was done, and the step under way is cancelled. The host hears nothing."""
    gates, limit = Gates(), Limit()

    async def scenario() -> None:
        world = World(two_steps(gates, limit))
        drive = world.begin(await world.create())
        await settle()
        limit.strike()
        outcome = await drive
        assert (outcome.kind, type(outcome.exception)) == ("errored", TimeoutError)
        assert (world.run.status, world.run.owner) == ("errored", None)
        assert world.trace == ["STEP_FINISHED a", "RUN_ERRORED"]
        assert gates.cancelled == ["b"]

    play(scenario())


@pytest.mark.parametrize("applied", [False, True], ids=["before it is applied", "before its answer"])
@pytest.mark.parametrize("end", ["middle", "pause"])
def test_a_time_limit_in_the_middle_of_a_commit(end: str, applied: bool) -> None:
    """The commit on its way happens once: in the middle of the run before its error; a pause has released the run."""
    gates, limit = Gates(), Limit()

    async def scenario() -> None:
        world = World(two_steps(gates, limit))
        held: list[Commit] = []

        async def hold(commit: Commit) -> None:
            if (commit.transition is not None) == (end == "pause"):
                world.store.before_commit = world.store.after_commit = None
                held.append(commit)
                await asyncio.get_running_loop().create_future()

        setattr(world.store, "after_commit" if applied else "before_commit", hold)
        drive = world.begin(await world.create())
        await settle()
        if end == "pause":
            gates.open("b")
            await settle()
        assert len(held) == 1
        limit.strike()
        outcome = await drive
        if end == "pause":
            assert (outcome.kind, world.run.status) == ("paused", "paused")
            assert world.trace == ["STEP_FINISHED a", "STEP_FINISHED b", "SIGNAL_AWAITED $event:go#1"]
        else:
            assert (outcome.kind, world.run.status) == ("errored", "errored")
            assert world.trace == ["STEP_FINISHED a", "RUN_ERRORED"]

    play(scenario())


def test_a_middleware_that_cancels_and_says_nothing() -> None:
    """It is told what to do instead: without an error of its own nobody could tell why the run ended."""
    gates = Gates()

    @middleware
    async def impatient(ctx: Any, call_next: Any) -> Any:
        task = asyncio.ensure_future(call_next())
        await settle()
        task.cancel()
        await asyncio.wait([task])
        return "enough"

    @create_workflow(id="w", middleware=[impatient])
    async def w(ctx: Context) -> None:
        await ctx.step("b", gates, "b")

    async def scenario() -> None:
        outcome = await World(w).start()
        assert (outcome.kind, outcome.error and outcome.error.code) == ("errored", "middleware")
        assert "cancelled the call_next that it had begun" in str(outcome.exception)

    play(scenario())


def test_a_host_that_cancels_is_not_a_time_limit() -> None:
    """A middleware that turns the host's cancellation into an error of its own does not end the run."""
    gates = Gates()

    @middleware
    async def translating(ctx: Any, call_next: Any) -> Any:
        try:
            return await call_next()
        except asyncio.CancelledError:
            raise ConnectionError("the pool is gone") from None

    @create_workflow(id="w", middleware=[translating])
    async def w(ctx: Context) -> None:
        await ctx.step("b", gates, "b")

    async def scenario() -> None:
        world = World(w)
        drive = world.begin(await world.create())
        await settle()
        drive.cancel()
        with pytest.raises(asyncio.CancelledError):
            await drive
        assert world.run.status == "queued"

    play(scenario())
