"""`cancel_run`: a request that reaches the handler wherever the run is, once, and lets it compensate."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Any

import pytest

from workflow.core import Context, InvalidArgumentError, PayloadError, create_workflow

from .runtime_kit import DAY, World, asynchronous

NAIVE = datetime(2026, 1, 1)  # noqa: DTZ001


@asynchronous
async def test_a_paused_run_is_cancelled_with_compensation() -> None:
    """The handler gets `CancelledError`, may compensate with steps, and the run ends `cancelled`."""
    world = World()
    runtime = world.runtime()
    await runtime.start_run("book", run_id="r")
    result = await runtime.cancel_run("r", reason="changed my mind")
    assert (result.kind, world.app.ran("r")) == ("cancelled", ["book", "unbook"])
    events = await runtime.get_timeline("r")
    assert [event.reason for event in events if event.type == "CANCEL_REQUESTED"] == ["changed my mind"]  # type: ignore[attr-defined]
    await world.check()


@asynchronous
async def test_a_queued_run_is_cancelled() -> None:
    """A run that has not begun ends `cancelled` without executing a step."""
    world = World()
    runtime = world.runtime()
    await runtime.start_run("greet", run_id="r", input="Ann", drive=False)
    assert (await runtime.cancel_run("r")).kind == "cancelled"
    assert world.app.journal == []


@asynchronous
async def test_a_delayed_run_is_cancelled_now() -> None:
    """A run that is to start in a year does not have to start first."""
    world = World()
    runtime = world.runtime()
    await runtime.start_run("greet", run_id="r", input="Ann", delay=365 * DAY)
    assert (await runtime.cancel_run("r")).kind == "cancelled"
    assert world.app.journal == []


@asynchronous
async def test_a_running_run_is_cancelled_in_its_step() -> None:
    """A request to a run under way in this process interrupts the step in hand, and what it compensates still runs."""
    world = World()
    runtime = world.runtime()

    @create_workflow(id="long")
    async def long(ctx: Context[None]) -> None:
        try:
            await ctx.step("hang", world.app.work)
        finally:
            await ctx.step("tidy", world.app.work)

    runtime = world.runtime(workflows=[long])
    world.app.blocks("hang")
    drive = asyncio.create_task(runtime.start_run("long", run_id="r"))
    await world.app.entered["hang"].wait()
    assert (await runtime.cancel_run("r")).kind == "running"
    assert (await drive).kind == "cancelled"
    assert world.app.ran("r") == ["hang", "tidy"]


@asynchronous
async def test_cancelling_an_ended_run_tells_its_state() -> None:
    """What has ended stays as it is, and the answer says how it is."""
    world = World()
    runtime = world.runtime()
    await runtime.start_run("greet", run_id="g", input="Ann")
    await runtime.start_run("fail", run_id="f", input="x")
    assert (await runtime.cancel_run("g")).kind == "completed"
    assert (await runtime.cancel_run("f")).kind == "errored"
    assert (await runtime.cancel_run("nope")).kind == "not_found"


@asynchronous
async def test_cancelling_twice_cancels_once() -> None:
    """A second request is a `duplicate`, before and after the first has been seen; compensation runs once."""
    world = World()
    runtime = world.runtime()
    await runtime.start_run("book", run_id="r")
    assert (await runtime.cancel_run("r", drive=False)).kind == "queued"
    assert (await runtime.cancel_run("r")).kind == "duplicate"
    assert (await runtime.sweep()).summary.ready == {"cancelled": 1}
    assert (await runtime.cancel_run("r")).kind == "duplicate"
    assert world.app.ran("r") == ["book", "unbook"]


@pytest.mark.parametrize("wrong", [{"reason": 5}, {"reason": "\ud800"}, {"reason": object()}, {"now": NAIVE}])
@asynchronous
async def test_bad_cancellations_are_refused(wrong: dict[str, Any]) -> None:
    """A reason that is no text is refused, and the run is not cancelled."""
    world = World()
    runtime = world.runtime()
    await runtime.start_run("book", run_id="r")
    before = await world.store.get_run("r")
    with pytest.raises((InvalidArgumentError, PayloadError)):
        await runtime.cancel_run("r", **wrong)
    assert await world.store.get_run("r") == before
