"""Bounded invocations: what a drive does about its budget. DESIGN 3 (`runtime`) and 4.5."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest

from workflow.core import Context, Retry, StepError, create_workflow

from .engine_kit import Gates, ManualClock, World, at, echo, play, settle

Handler = Callable[[Context], Coroutine[Any, Any, Any]]


def world_of(handler: Handler, **environment: Any) -> World:
    return World(create_workflow(id="w")(handler), **environment)


def test_any_length_of_time_may_be_asked_for() -> None:
    """`should_yield` takes lengths that no timedelta can hold."""
    seen = list[bool]()

    async def w(ctx: Context) -> None:
        seen.append(ctx.runtime.should_yield(1e300))

    play(world_of(w, deadline=at(30)).start())
    assert seen == [True]


def test_yield_now_ends_the_drive_once() -> None:
    """`yield_now` leaves the run ready to go on at once; the next drive passes it without stopping."""

    async def w(ctx: Context) -> str:
        await ctx.step("a", echo)
        await ctx.runtime.yield_now("enough")
        await ctx.step("b", echo)
        return "done"

    async def scenario() -> None:
        world = world_of(w)
        outcome = await world.start()
        assert (outcome.kind, outcome.run.due_at) == ("queued", world.clock.now())
        assert world.trace == ["STEP_FINISHED a"]
        assert (await world.drive()).output == "done"

    play(scenario())


@pytest.mark.parametrize("drives", [1, 2, 5])
def test_every_drive_gets_on(drives: int) -> None:
    """A handler that yields at every turn ends after as many drives as it has steps, and never stands still."""

    async def w(ctx: Context) -> int:
        for number in range(drives):
            await ctx.runtime.yield_now()
            await ctx.step(f"s{number}", echo)
        return drives

    async def scenario() -> None:
        world = world_of(w)
        outcome, count = await world.start(), 1
        while outcome.kind == "queued":
            outcome, count = await world.drive(), count + 1
        assert (outcome.output, count) == (drives, drives + 1)

    play(scenario())


def test_yield_lets_running_steps_end() -> None:
    """Steps under way when a branch yields end first, and are recorded; no new one starts."""
    gates = Gates()

    async def slow(ctx: Context) -> None:
        await ctx.step("slow", gates, "slow")
        await ctx.step("next", gates, "next")

    async def yielding(ctx: Context) -> None:
        await ctx.step("fast", echo)
        await ctx.runtime.yield_now()

    async def w(ctx: Context) -> None:
        await asyncio.gather(slow(ctx), yielding(ctx))

    async def scenario() -> None:
        world = world_of(w)
        drive = world.begin(await world.create())
        await settle()
        assert not drive.done()
        gates.open("slow")
        outcome = await drive
        assert (outcome.kind, gates.entered) == ("queued", ["slow"])
        assert world.trace == ["STEP_FINISHED fast", "STEP_FINISHED slow"]

    play(scenario())


def test_waiting_for_steps_while_yielding_does_not_spin() -> None:
    """A drive that holds back what is due, because it yields, waits for its steps without turning round."""
    gates = Gates()
    waits: list[Any] = []

    class CountingClock(ManualClock):
        async def sleep_until(self, when: Any, *, busy: bool) -> None:
            waits.append(when)
            await super().sleep_until(when, busy=busy)

    async def fail() -> None:
        raise ValueError("no")

    async def yielding(ctx: Context) -> None:
        await ctx.step("fast", echo)
        await ctx.runtime.yield_now()

    async def w(ctx: Context) -> None:
        await asyncio.gather(
            ctx.step("slow", gates, "slow"),
            ctx.step("retried", fail, retry=Retry(initial_delay=1, jitter=False)),
            ctx.sleep(1),
            yielding(ctx),
        )

    async def scenario() -> None:
        world = world_of(w, clock=CountingClock())
        drive = world.begin(await world.create())
        await settle()
        world.clock.advance(5)
        await settle()
        assert len(waits) < 5
        gates.open("slow")
        assert (await drive).kind == "queued"

    play(scenario())


def test_nearly_spent_budget_starts_no_fresh_step() -> None:
    """Before fresh durable work a drive looks at what is left of its budget, and yields by itself."""
    calls: list[str] = []

    async def work(name: str) -> None:
        calls.append(name)
        world.clock.advance(4)

    async def w(ctx: Context) -> str:
        for name in "abc":
            await ctx.step(name, work, name)
        return "done"

    world = world_of(w, deadline=at(10), margin=timedelta(seconds=3))

    async def scenario() -> None:
        outcome = await world.start()
        assert (outcome.kind, calls) == ("queued", ["a", "b"])
        assert world.trace == ["STEP_FINISHED a", "STEP_FINISHED b"]
        world.environment["deadline"] = at(100)
        assert (await world.drive()).output == "done"

    play(scenario())


def test_spent_budget_is_no_reason_not_to_end() -> None:
    """A handler that needs no more side effects ends or pauses, however little is left."""

    async def w(ctx: Context) -> str:
        await ctx.now()
        await ctx.wait_for_event("go")
        return "done"

    async def scenario() -> None:
        world = world_of(w, deadline=at(0))
        assert (await world.start()).kind == "paused"
        await world.signal("go")
        assert (await world.drive()).kind == "completed"

    play(scenario())


def test_slow_step_is_cancelled_at_the_deadline_and_tried_again() -> None:
    """A step under way at the deadline is cancelled; the run is ready, and another drive tries it again."""
    gates = Gates()

    async def w(ctx: Context) -> Any:
        return await asyncio.gather(ctx.step("fast", echo, 1), ctx.step("slow", gates, "slow"))

    async def scenario() -> None:
        world = world_of(w, deadline=at(10))
        drive = world.begin(await world.create())
        await settle()
        world.clock.advance(10)
        outcome = await drive
        assert (outcome.kind, outcome.run.due_at, gates.cancelled) == ("queued", at(10), ["slow"])
        assert world.trace == ["STEP_FINISHED fast"]
        world.environment["deadline"] = at(100)
        claimed = await world.claim()
        assert claimed is not None
        drive = world.begin(claimed)
        await settle()
        gates.open("slow", 2)
        assert (await drive).output == [1, 2]

    play(scenario())


def test_step_that_swallows_its_cancellation_is_left(caplog: pytest.LogCaptureFixture) -> None:
    """A step that can't be cancelled does not hold up the end of its drive; its late result counts for nothing."""
    stubborn = asyncio.Event()

    async def step() -> str:
        while not stubborn.is_set():
            with suppress(asyncio.CancelledError):
                await stubborn.wait()
        return "late"

    async def w(ctx: Context) -> Any:
        return await ctx.step("stubborn", step)

    async def scenario() -> None:
        world = world_of(w, deadline=at(10), grace=timedelta(0))
        drive = world.begin(await world.create())
        await settle()
        world.clock.advance(10)
        assert (await drive).kind == "queued"
        assert "Step 'stubborn' of run 'run-1' was cancelled and has not ended" in caplog.text
        stubborn.set()
        await settle()
        assert world.trace == []
        world.environment["deadline"] = at(100)
        assert (await world.drive()).output == "late"

    play(scenario())


@pytest.mark.parametrize("at_most_once", [False, True])
def test_zero_budget_is_no_livelock(at_most_once: bool) -> None:
    """Hosts that leave no time at all still bring a run to its end: each drive does one round of steps."""
    gates = Gates()
    retry = Retry.at_most_once() if at_most_once else None

    async def w(ctx: Context) -> list[Any]:
        first = await ctx.step("a", gates, "a", retry=retry)
        await ctx.now()
        return [first, await ctx.step("b", gates, "b", retry=retry)]

    async def scenario() -> None:
        world = world_of(w, deadline=at(-5), margin=timedelta(seconds=1))
        outcome = await world.start()
        for _ in range(10):
            if outcome.run.ended:
                break
            claimed = await world.claim()
            assert claimed is not None
            drive = world.begin(claimed)
            await settle()
            for name in list(gates.waiting):
                gates.open(name, name)
            outcome = await drive
        assert outcome.output == ["a", "b"]
        assert gates.entered == ["a", "b"]

    play(scenario())


def test_at_most_once_step_cut_at_the_deadline_is_not_repeated() -> None:
    """An at-most-once step that the deadline cancels is interrupted for good: it may have had its effect."""
    gates = Gates()

    async def w(ctx: Context) -> str:
        try:
            await ctx.step("charge", gates, "charge", retry=Retry.at_most_once())
        except StepError as error:
            return error.code
        return "charged"

    async def scenario() -> None:
        world = world_of(w, deadline=at(10))
        drive = world.begin(await world.create())
        await settle()
        world.clock.advance(10)
        assert (await drive).kind == "queued"
        assert (await world.drive()).output == "step_interrupted"

    play(scenario())


def test_stubborn_step_does_not_hide_what_happens() -> None:
    """While a cancelled step is still undoing its work, news, timers and the lease are looked at as always."""
    gates = Gates()
    seen: list[str] = []

    async def stubborn() -> None:
        try:
            await gates("work")
        except asyncio.CancelledError:
            await gates("undo")
            raise

    async def w(ctx: Context) -> str:
        task = asyncio.create_task(ctx.step("stubborn", stubborn))
        await ctx.step("fast", echo)
        task.cancel()
        await asyncio.wait([task])
        try:
            await ctx.step("next", gates, "next")
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise
        return "done"

    async def scenario() -> None:
        world = world_of(w)
        drive = world.begin(await world.create())
        await settle()
        assert gates.entered == ["work", "undo"]
        await world.cancel()
        assert world.drive_now is not None
        world.drive_now.tell_news()
        await settle()
        assert seen == ["cancelled"]
        gates.open("undo")
        assert (await drive).kind == "cancelled"
        assert "next" not in gates.entered

    play(scenario())


def test_what_a_handler_sees_of_its_budget() -> None:
    """`deadline`, `time_remaining()` and `should_yield()` tell the host's budget; without one there is all the time."""
    seen: list[Any] = []

    async def w(ctx: Context) -> None:
        runtime = ctx.runtime
        seen.append((runtime.deadline, runtime.time_remaining()))
        seen.append((runtime.should_yield(), runtime.should_yield(min_remaining=60)))

    play(world_of(w).start())
    play(world_of(w, deadline=at(30), margin=timedelta(seconds=5)).start())
    assert seen == [(None, None), (False, False), (at(30), timedelta(seconds=30)), (False, True)]


def test_should_yield_is_false_during_replay() -> None:
    """A replay takes the path that the log was written on, whatever its own budget is."""

    async def w(ctx: Context) -> int:
        for number in range(3):
            if ctx.runtime.should_yield():
                await ctx.runtime.yield_now()
            await ctx.step(f"s{number}", echo)
        await ctx.wait_for_event("go")
        return 3

    async def scenario() -> None:
        world = world_of(w)
        await world.start()
        world.environment.update(deadline=at(-100), margin=timedelta(seconds=5))
        await world.signal("go")
        assert (await world.drive()).output == 3

    play(scenario())
