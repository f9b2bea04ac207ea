"""Cancel requests: delivered at the next wait, recorded, with room to compensate. DESIGN 4.5."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from workflow.core import Context, Retry, create_workflow

from .engine_kit import Gates, World, echo, play, settle

Handler = Callable[[Context], Coroutine[Any, Any, Any]]


def world_of(handler: Handler) -> World:
    return World(create_workflow(id="w")(handler))


async def cancelled_while_paused(world: World, reason: str | None = None) -> Any:
    """Pause, cancel, drive; then again from every prefix of the log, to the same end."""
    assert (await world.start()).kind == "paused"
    await world.cancel(reason)
    outcome = await world.drive()
    while not outcome.run.ended:
        world.clock.set(max(world.clock.now(), outcome.run.due_at or world.clock.now()))
        outcome = await world.drive()
    for length in range(world.trace.index("CANCEL_REQUESTED") + 1, len(world.log)):
        again = await world.cut(length).finish()
        assert (again.kind, again.run.output, again.run.error) == (outcome.kind, outcome.run.output, outcome.run.error)
    return outcome


def test_cancelled_at_its_wait() -> None:
    """A paused run that is cancelled gets `CancelledError` at its wait, and ends `cancelled`."""
    seen: list[str] = []

    async def w(ctx: Context) -> None:
        try:
            await ctx.wait_for_event("go")
        except asyncio.CancelledError as error:
            seen.append(str(error))
            raise

    async def scenario() -> None:
        world = world_of(w)
        outcome = await cancelled_while_paused(world, "customer asked")
        assert outcome.kind == "cancelled"
        assert world.trace == ["SIGNAL_AWAITED $event:go#1", "CANCEL_REQUESTED", "RUN_CANCELLED"]
        assert set(seen) == {"customer asked"}

    play(scenario())


def test_compensation_runs_further_steps() -> None:
    """A cancelled handler may run steps and sleep to compensate; the run ends `cancelled` after that."""

    async def w(ctx: Context) -> None:
        await ctx.step("book", echo)
        try:
            await ctx.sleep(1000)
        except asyncio.CancelledError:
            await ctx.step("refund", echo)
            await ctx.sleep(10)
            async with asyncio.timeout(5):
                await ctx.step("notify", echo)
            raise

    async def scenario() -> None:
        world = world_of(w)
        outcome = await cancelled_while_paused(world)
        assert outcome.kind == "cancelled"
        assert [line for line in world.trace if line.startswith("STEP")] == [
            "STEP_FINISHED book",
            "STEP_FINISHED refund",
            "STEP_FINISHED notify",
        ]

    play(scenario())


@pytest.mark.parametrize("how", ["gather", "group"])
def test_cancelled_branches_compensate(how: str) -> None:
    """Each branch of a gather or TaskGroup gets the cancellation and may compensate."""

    async def branch(ctx: Context, name: str) -> None:
        await ctx.step(name, echo)
        try:
            await ctx.wait_for_event("never")
        except asyncio.CancelledError:
            await ctx.step(f"undo {name}", echo)
            raise

    async def w(ctx: Context) -> None:
        if how == "gather":
            await asyncio.gather(branch(ctx, "a"), branch(ctx, "b"))
        else:
            async with asyncio.TaskGroup() as group:
                for name in "ab":
                    group.create_task(branch(ctx, name))

    async def scenario() -> None:
        world = world_of(w)
        outcome = await cancelled_while_paused(world)
        assert outcome.kind == "cancelled"
        if how == "group":  # a gather is left as soon as it is cancelled, and its branches with the handler
            assert {"STEP_FINISHED undo a", "STEP_FINISHED undo b"} <= set(world.trace)

    play(scenario())


def test_swallowed_cancellation_still_ends_cancelled() -> None:
    """A handler that catches the cancellation and returns has been cancelled all the same."""

    async def w(ctx: Context) -> str:
        try:
            await ctx.sleep(1000)
        except asyncio.CancelledError:
            await ctx.step("undo", echo)
        await ctx.step("more", echo)
        return "result"

    async def scenario() -> None:
        outcome = await cancelled_while_paused(world_of(w))
        assert (outcome.kind, outcome.run.output) == ("cancelled", None)

    play(scenario())


def test_failing_compensation_ends_errored() -> None:
    """An error while compensating is not hidden behind `cancelled`."""

    async def fail() -> None:
        raise ValueError("refund failed")

    async def w(ctx: Context) -> None:
        try:
            await ctx.sleep(1000)
        except asyncio.CancelledError:
            await ctx.step("refund", fail)

    async def scenario() -> None:
        outcome = await cancelled_while_paused(world_of(w))
        assert outcome.kind == "errored" and "refund failed" in str(outcome.error)

    play(scenario())


def test_cancelled_before_the_first_drive() -> None:
    """A run that is cancelled before anybody drove it starts no step that it does not ask for in compensation."""
    calls: list[str] = []

    async def call(name: str) -> None:
        calls.append(name)

    async def w(ctx: Context) -> None:
        try:
            await ctx.step("work", call, "work")
        except asyncio.CancelledError:
            await ctx.step("undo", call, "undo")
            raise

    async def scenario() -> None:
        world = world_of(w)
        await world.create()
        await world.cancel()
        outcome = await world.drive(force=True)
        assert (outcome.kind, calls) == ("cancelled", ["undo"])

    play(scenario())


def test_cancel_request_interrupts_a_running_step() -> None:
    """A cancel request that arrives while a step runs cancels the step, and tells it so by its flag."""
    gates = Gates()

    async def w(ctx: Context) -> None:
        await ctx.step("slow", gates, "slow")

    async def scenario() -> None:
        world = world_of(w)
        drive = world.begin(await world.create())
        await settle()
        await world.cancel()
        assert world.drive_now is not None
        world.drive_now.tell_news()
        outcome = await drive
        assert (outcome.kind, gates.cancelled) == ("cancelled", ["slow"])
        assert world.trace == ["CANCEL_REQUESTED", "RUN_CANCELLED"]

    play(scenario())


def test_cancelling_twice_is_once() -> None:
    """A second request is a duplicate: the compensation is not interrupted by it."""
    gates = Gates()

    async def w(ctx: Context) -> None:
        try:
            await ctx.sleep(1000)
        finally:
            await ctx.step("undo", gates, "undo")

    async def scenario() -> None:
        world = world_of(w)
        await world.start()
        await world.cancel("one")
        claimed = await world.claim()
        assert claimed is not None
        drive = world.begin(claimed)
        await settle()
        assert (await world.cancel("two")).outcome == "duplicate"
        assert world.drive_now is not None
        world.drive_now.tell_news()
        await settle()
        gates.open("undo")
        assert (await drive).kind == "cancelled"
        assert world.trace.count("CANCEL_REQUESTED") == 1

    play(scenario())


def test_step_that_ends_before_the_request_is_seen_keeps_its_result() -> None:
    """A result that is there when the request is looked at comes first: the log decides, in one order."""
    gates = Gates()

    async def w(ctx: Context) -> None:
        await ctx.step("a", gates, "a")
        await ctx.step("b", gates, "b")

    async def scenario() -> None:
        world = world_of(w)
        drive = world.begin(await world.create())
        await settle()
        await world.cancel()
        gates.open("a")
        await settle()
        outcome = await drive
        assert outcome.kind == "cancelled"
        assert world.trace == ["STEP_FINISHED a", "CANCEL_REQUESTED", "RUN_CANCELLED"]
        assert gates.entered == ["a"]

    play(scenario())


def test_request_that_races_with_the_end_loses() -> None:
    """A request that comes with the last commit changes nothing any more: the run has completed."""

    async def w(ctx: Context) -> str:
        return "done"

    async def scenario() -> None:
        world = world_of(w)

        async def cancel(commit: Any) -> None:
            await world.cancel()

        world.store.before_commit = cancel
        assert (await world.start()).kind == "completed"
        assert (await world.cancel()).outcome == "duplicate"

    play(scenario())


def test_cancelled_during_a_backoff() -> None:
    """A step that waits for its next attempt is given up at once."""
    calls: list[int] = []

    async def fail() -> None:
        calls.append(1)
        raise ValueError("no")

    async def w(ctx: Context) -> None:
        await ctx.step("a", fail, retry=Retry(initial_delay=60, jitter=False))

    async def scenario() -> None:
        outcome = await cancelled_while_paused(world_of(w))
        assert (outcome.kind, calls) == ("cancelled", [1])

    play(scenario())


def test_cancelled_without_a_request_is_an_error() -> None:
    """A handler that raises `CancelledError` by itself has failed: nobody has cancelled the run."""

    async def w(ctx: Context) -> None:
        raise asyncio.CancelledError("by itself")

    outcome = play(world_of(w).start())
    assert outcome.kind == "errored" and outcome.error is not None
    assert outcome.error.type == "CancelledError"
