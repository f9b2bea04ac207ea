"""Results that replay gives back without a turn of the loop: nobody can tell the difference."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

from workflow.core import Context, NonDeterminismError, create_workflow
from workflow.core.events import StepFinished
from workflow.core.journal import Result, read_events, read_history, write_event, write_result
from workflow.core.payload import Json
from workflow.core.records import LogRecord

from .engine_kit import START, Gates, World, at, echo, play, settle

AT = START + timedelta(microseconds=123456)


def test_a_result_is_written_as_its_event_would_be() -> None:
    """The record of a step's result is the one of the event that stands for it."""
    event = StepFinished(run_id="r", index=3, at=AT, id='é"\\\n', attempt=2, result=Json("[1]"))
    assert write_result(3, AT, 'é"\\\n', 2, "[1]") == write_event(event, 3)


def test_results_are_read_as_they_are_written() -> None:
    """Replay sees id, time and text of a result; whatever is written otherwise is validated as ever."""
    usual = write_result(0, AT, "a", 1, "1")
    others = [
        LogRecord(1, '{"type":"STEP_FINISHED","at":"2026-01-01T00:00:00+00:00","id":"b","attempt":1}', "2"),
        LogRecord(2, '{"type":"STEP_FINISHED","at":"2026-01-01T00:00:00Z","id":"c","attempt":1,"new":1}', "3"),
        LogRecord(3, '{"type":"TIMER_FIRED","at":"2026-01-01T00:00:00Z","id":"d"}'),
    ]
    history = read_history("r", [usual, *others])
    first = history[0]
    assert isinstance(first, Result)
    assert (first.id, first.at, first.index, first.text, first.type) == ("a", AT, 0, "1", "STEP_FINISHED")
    assert history[1:] == read_events("r", others)
    assert read_history("r", []) == []


def test_branches_see_results_in_the_order_of_the_log() -> None:
    """What runs beside a step that is given back is not overtaken."""
    gates, seen = Gates(), list[list[str]]()

    @create_workflow(id="w")
    async def w(ctx: Context) -> None:
        order = list[str]()
        seen.append(order)

        async def branch(name: str) -> None:
            for number in range(2):
                await ctx.step(f"{name}{number}", gates, f"{name}{number}")
                order.append(f"{name}{number}")

        await asyncio.gather(branch("a"), branch("b"))
        await ctx.wait_for_event("go")

    async def scenario() -> None:
        world = World(w)
        drive = world.begin(await world.create())
        for name in ("b0", "b1", "a0", "a1"):
            await settle()
            gates.open(name)
        await drive
        await world.drive(force=True)
        assert seen == [["b0", "b1", "a0", "a1"]] * 2

    play(scenario())


def test_time_stands_where_the_result_came() -> None:
    """A sleep after a replayed step counts from the time of its result, as it did live."""
    times = list[float]()

    @create_workflow(id="w")
    async def w(ctx: Context) -> None:
        for name in "ab":
            await ctx.step(name, gates, name)
            times.append(asyncio.get_running_loop().time() - START.timestamp())
        await ctx.wait_for_event("go")

    gates = Gates()

    async def scenario() -> None:
        world = World(w)
        drive = world.begin(await world.create())
        for name, seconds in (("a", 10), ("b", 25)):
            await settle()
            world.clock.set(at(seconds))
            gates.open(name)
        await drive
        world.clock.set(at(1000))
        await world.drive(force=True)
        assert times == [10, 25, 10, 25]

    play(scenario())


def test_a_task_that_has_cancelled_itself_does_not_get_its_result() -> None:
    """Code that has changed so that it no longer waits for a step is told of it, as without the shortcut."""
    changed = False

    @create_workflow(id="w")
    async def w(ctx: Context) -> None:
        if changed:
            task: Any = asyncio.current_task()
            task.cancel()
        await ctx.step("a", echo)
        await ctx.wait_for_event("go")

    async def scenario() -> None:
        nonlocal changed
        world = World(w)
        await world.start()
        changed = True
        outcome = await world.drive(force=True)
        assert isinstance(outcome.exception, NonDeterminismError)
        assert world.trace[0] == "STEP_FINISHED a"

    play(scenario())
