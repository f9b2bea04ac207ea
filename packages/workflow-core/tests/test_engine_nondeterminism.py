"""Definitions that no longer fit a log: the run waits unharmed, and a fixed one completes it. DESIGN 4.1, rule 1."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest
from pydantic import BaseModel

from workflow.core import Context, create_workflow
from workflow.core.definition import Workflow

from .engine_kit import START, World, echo, play

Handler = Callable[[Context], Awaitable[Any]]


async def original(ctx: Context) -> str:
    await ctx.step("a", echo, 1)
    await ctx.now(id="t")
    await ctx.step("b", echo, 2)
    await ctx.sleep(1, id="nap")
    await ctx.wait_for_event("paid", id="payment")
    await ctx.approve("Ship it?", id="ship")
    return "done"


async def renamed_step(ctx: Context) -> None:
    await ctx.step("z", echo, 1)


async def other_kind(ctx: Context) -> None:
    await ctx.sleep(5, id="a")


async def recorded_as_step(ctx: Context) -> None:
    await ctx.step("a", echo, 1)
    await ctx.step("t", echo, 1)


async def uuid_for_now(ctx: Context) -> None:
    await ctx.step("a", echo, 1)
    await ctx.uuid(id="t")


async def without_now(ctx: Context) -> None:
    await ctx.step("a", echo, 1)
    await ctx.step("b", echo, 2)


async def removed_step(ctx: Context) -> None:
    await ctx.step("a", echo, 1)
    await ctx.now(id="t")
    await ctx.sleep(1, id="nap")


async def added_before(ctx: Context) -> None:
    await ctx.step("new", echo, 0)
    await original(ctx)


async def reordered(ctx: Context) -> None:
    await ctx.step("b", echo, 2)
    await ctx.step("a", echo, 1)


async def ends_early(ctx: Context) -> str:
    await ctx.step("a", echo, 1)
    await ctx.now(id="t")
    return "early"


async def fails_early(ctx: Context) -> None:
    raise ValueError("early")


async def step_for_timer(ctx: Context) -> None:
    await ctx.step("a", echo, 1)
    await ctx.now(id="t")
    await ctx.step("b", echo, 2)
    await ctx.step("nap", echo, 1)


async def other_event(ctx: Context) -> None:
    await ctx.step("a", echo, 1)
    await ctx.now(id="t")
    await ctx.step("b", echo, 2)
    await ctx.sleep(1, id="nap")
    await ctx.wait_for_event("refunded", id="payment")


async def approval_for_event(ctx: Context) -> None:
    await ctx.step("a", echo, 1)
    await ctx.now(id="t")
    await ctx.step("b", echo, 2)
    await ctx.sleep(1, id="nap")
    await ctx.approve("Pay?", id="payment")


CHANGES: dict[str, tuple[Handler, tuple[str, ...]]] = {
    "renamed step": (renamed_step, ("STEP_FINISHED", "'a'", "step 'z'")),
    "other kind": (other_kind, ("STEP_FINISHED", "'a'", "timer")),
    "value as step": (recorded_as_step, ("NOW_RECORDED", "'t'", "step")),
    "uuid for now": (uuid_for_now, ("NOW_RECORDED", "'t'", "another kind")),
    "without now": (without_now, ("NOW_RECORDED", "'t'", "has not asked")),
    "removed step": (removed_step, ("STEP_FINISHED", "'b'", "timer 'nap'")),
    "added before": (added_before, ("STEP_FINISHED", "'a'", "step 'new'")),
    "reordered": (reordered, ("STEP_FINISHED", "'a'", "step 'b'")),
    "ends early": (ends_early, ("STEP_FINISHED", "index 2", "has ended")),
    "fails early": (fails_early, ("STEP_FINISHED", "index 0", "ValueError('early')")),
    "step for timer": (step_for_timer, ("TIMER_STARTED", "'nap'", "step")),
    "other event": (other_event, ("'paid'", "'refunded'", "'payment'")),
    "approval for event": (approval_for_event, ("SIGNAL_AWAITED", "'payment'", "approval")),
}


def workflow(handler: Handler) -> Workflow[Any, Any]:
    return create_workflow(id="w")(handler)  # type: ignore[arg-type]


async def paused_run() -> World:
    world = World(workflow(original))
    await world.start()
    world.clock.advance(1)
    await world.drive()
    await world.signal("paid", "money")
    await world.drive()
    assert world.trace[-1] == "APPROVAL_REQUESTED ship"
    return world


@pytest.mark.parametrize("change", CHANGES)
def test_changed_definition_spares_the_run(change: str) -> None:
    """A changed handler pauses the run as blocked, with a message that shows both sides; the old one completes it."""
    handler, words = CHANGES[change]

    async def scenario() -> None:
        world = await paused_run()
        trace, waits = world.trace, world.run.waits
        outcome = await world.drive(workflow(handler), force=True)
        assert (outcome.kind, world.run.status) == ("paused", "paused")
        assert outcome.error is not None and outcome.error.code == "nondeterminism"
        for word in (*words, "previous_versions"):
            assert word in outcome.error.message, outcome.error.message
        assert world.trace == trace
        assert world.run.due_at == world.clock.now() + timedelta(seconds=60)
        assert world.run.waits[: len(waits)] == waits
        assert world.run.waits[-1].kind == "blocked" and world.run.waits[-1].detail == outcome.error.message
        assert outcome.run == world.run
        await world.decide("ship", True)
        outcome = await world.drive()
        assert (outcome.kind, outcome.output) == ("completed", "done")
        assert world.run.error is None

    play(scenario())


def test_blocked_run_starts_nothing() -> None:
    """No side effect of a definition that does not fit is ever started."""
    calls: list[str] = []

    async def call(name: str) -> None:
        calls.append(name)

    async def wrong(ctx: Context) -> None:
        await asyncio.gather(ctx.step("new", call, "new"), ctx.step("a", echo, 1))
        await ctx.step("b2", call, "b2")

    async def scenario() -> None:
        world = await paused_run()
        outcome = await world.drive(workflow(wrong), force=True)
        assert outcome.error is not None and outcome.error.code == "nondeterminism"
        assert calls == []

    play(scenario())


def test_blocked_run_is_looked_at_again_and_again() -> None:
    """A blocked run keeps its due time moving, one wait for the reason and not one more for each look."""

    async def scenario() -> None:
        world = await paused_run()
        for _ in range(3):
            world.clock.advance(60)
            await world.drive(workflow(renamed_step), force=True)
            assert [wait.kind for wait in world.run.waits] == ["approval", "blocked"]

    play(scenario())


def test_swallowed_mismatch_still_blocks() -> None:
    """A handler that catches everything can't hide that it does not fit its log."""

    async def wrong(ctx: Context) -> str:
        await ctx.step("a", echo, 1)
        try:
            await ctx.uuid(id="t")
        except BaseException:
            return "hidden"
        return "not noticed"

    async def scenario() -> None:
        world = await paused_run()
        outcome = await world.drive(workflow(wrong), force=True)
        assert outcome.kind == "paused" and outcome.error is not None

    play(scenario())


class Strict(BaseModel):
    number: int


def test_recorded_result_that_no_longer_fits_its_type_blocks() -> None:
    """A changed result type that can't read what is recorded blocks the run, naming the step."""

    async def strict() -> Strict:
        return Strict(number=1)

    async def wrong(ctx: Context) -> None:
        await ctx.step("a", strict)

    async def scenario() -> None:
        world = await paused_run()
        outcome = await world.drive(workflow(wrong), force=True)
        assert outcome.kind == "paused" and outcome.error is not None
        assert outcome.error.code == "payload"
        assert "'a'" in outcome.error.message and "Strict" in outcome.error.message

    play(scenario())


def test_input_that_no_longer_fits_blocks() -> None:
    """A changed input type that can't read the input blocks the run instead of failing it."""

    @create_workflow(id="w")
    async def wrong(ctx: Context[Strict]) -> None:
        return None

    async def scenario() -> None:
        world = await paused_run()
        outcome = await world.drive(wrong, force=True)
        assert outcome.kind == "paused" and outcome.error is not None
        assert "input" in outcome.error.message

    play(scenario())


def test_unknown_version_is_left_to_others() -> None:
    """A run of a version that this process does not have is put back with a delay and the reason, nothing written."""

    async def scenario() -> None:
        world = await paused_run()
        trace = world.trace
        newer = create_workflow(id="w", version="2")(original)
        outcome = await world.drive(newer, force=True)  # type: ignore[arg-type]
        assert outcome.kind == "postponed" and outcome.error is not None
        assert outcome.error.code == "version" and "'2'" in outcome.error.message
        assert (world.run.status, world.trace) == ("paused", trace)
        both: Any = create_workflow(id="w", version="2", previous_versions=[world.workflow])(original)
        await world.decide("ship", True)
        assert (await world.drive(both)).kind == "completed"

    play(scenario())


def test_added_at_the_end_is_fine() -> None:
    """What a new definition does behind the end of the log is simply new."""

    async def longer(ctx: Context) -> str:
        await original(ctx)
        return await ctx.step("more", echo, "more")

    async def scenario() -> None:
        world = await paused_run()
        await world.decide("ship", True)
        assert (await world.drive(workflow(longer))).output == "more"

    play(scenario())


def test_repeated_id_is_an_error_at_once() -> None:
    """A second operation with the same id fails where it is asked for, whatever its kind, and says what to do."""

    async def again(ctx: Context) -> str:
        await ctx.step("a", echo)
        found = []
        for operation in (ctx.step("a", echo), ctx.sleep(1, id="a"), ctx.now(id="a"), ctx.approve("x", id="a")):
            try:
                await operation
            except ValueError as error:
                found.append("part of the id" in str(error))
        return str(found)

    world = World(workflow(again))
    assert play(world.start()).output == "[True, True, True, True]"
    assert world.run.created_at == START


def test_foreign_log_entry_blocks() -> None:
    """A log entry that this version can't read blocks the run, and does not fail it."""

    async def scenario() -> None:
        world = await paused_run()
        stored = world.store._runs["run-1"]
        stored.log[0] = type(stored.log[0])(0, '{"type":"FROM_THE_FUTURE"}')
        outcome = await world.drive(force=True)
        assert outcome.kind == "paused" and outcome.error is not None
        assert outcome.error.code == "store" and "index 0" in outcome.error.message

    play(scenario())
