"""`run_workflow`: one drive of one run over a `RunStore`, as an iterator of events."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Any

import pytest

from workflow.core import Context, InMemoryRunStore, WorkflowError, create_workflow, run_workflow
from workflow.core.errors import InvalidArgumentError, PayloadError, RunNotFoundError
from workflow.core.events import event_adapter
from workflow.core.run import ApprovalDelivery, SignalDelivery

from .engine_kit import Gates, ManualClock, at, echo, play, settle


@create_workflow(id="order")
async def order(ctx: Context[int]) -> int:
    number = await ctx.step("double", echo, 2 * ctx.input)
    paid = await ctx.wait_for_event("paid", int)
    approval = await ctx.approve("Ship?", id="ship")
    return number + paid if approval.approved else 0


async def types(**options: Any) -> list[str]:
    return [event.type async for event in run_workflow(order, run_id="r", **options)]


def test_a_run_from_start_to_end() -> None:
    """Input starts a run, a signal and an approval drive it on, `attach` tells first what the log already holds."""

    async def scenario() -> None:
        store = InMemoryRunStore()
        assert await types(store=store, input=4) == ["RUN_STARTED", "STEP_STARTED", "STEP_FINISHED", "SIGNAL_AWAITED"]
        assert await types(store=store, input=4) == []
        assert await types(store=store) == []
        signal = SignalDelivery("s1", "paid", 1)
        assert await types(store=store, signal=signal) == ["SIGNAL_RESOLVED", "APPROVAL_REQUESTED"]
        assert await types(store=store, signal=signal) == []
        approval = ApprovalDelivery("ship", True)
        assert await types(store=store, approval=approval, attach=True) == [
            "STEP_FINISHED",
            "SIGNAL_AWAITED",
            "SIGNAL_RESOLVED",
            "APPROVAL_REQUESTED",
            "APPROVAL_RESOLVED",
            "RUN_FINISHED",
        ]
        run = await store.get_run("r")
        assert run is not None and run.output == "9"

    play(scenario())


def test_deliveries_may_be_mappings() -> None:
    """A signal or an approval can be given as a mapping of its fields; anything else is an error that says so."""

    async def scenario() -> None:
        store = InMemoryRunStore()
        await types(store=store, input=4)
        signal = {"signal_id": "s1", "name": "paid", "payload": 1}
        assert await types(store=store, signal=signal) == ["SIGNAL_RESOLVED", "APPROVAL_REQUESTED"]
        assert await types(store=store, approval={"approval_id": "ship", "approved": True}) == [
            "APPROVAL_RESOLVED",
            "RUN_FINISHED",
        ]
        for wrong in ("paid", {"id": "s1"}, {}, 5):
            with pytest.raises(InvalidArgumentError, match=r"signal takes a SignalDelivery\(...\)"):
                await types(store=store, signal=wrong)

    play(scenario())


def test_events_are_json_on_the_wire() -> None:
    """Every event that comes out goes through its JSON and back unchanged."""

    async def scenario() -> None:
        async for event in run_workflow(order, store=InMemoryRunStore(), input=1):
            assert event_adapter.validate_json(event.model_dump_json()) == event

    play(scenario())


def test_recover_takes_over_from_a_dead_owner() -> None:
    """`recover` drives a run whose owner is gone, before its lease runs out."""
    gates = Gates()

    @create_workflow(id="slow")
    async def slow(ctx: Context) -> Any:
        return await ctx.step("a", gates, "a")

    async def take(store: InMemoryRunStore, **options: Any) -> list[str]:
        return [event.type async for event in run_workflow(slow, store=store, run_id="r", **options)]

    async def scenario() -> None:
        store = InMemoryRunStore()
        first = asyncio.create_task(take(store, input=None))
        await settle()
        assert await take(store) == []
        second = asyncio.create_task(take(store, recover=True))
        await settle()
        gates.open("a", 1)
        await settle()
        assert (await second)[-1] == "RUN_FINISHED"
        first.cancel()
        await asyncio.wait([first])
        run = await store.get_run("r")
        assert run is not None and (run.status, run.output) == ("completed", "1")

    play(scenario())


def test_closing_the_iterator_releases_the_run() -> None:
    """Who stops listening cancels the drive: the run is ready for somebody else, with what was done."""
    gates = Gates()

    @create_workflow(id="slow")
    async def slow(ctx: Context) -> Any:
        await ctx.step("fast", echo)
        return await ctx.step("a", gates, "a")

    async def scenario() -> None:
        store = InMemoryRunStore()
        events = run_workflow(slow, store=store, run_id="r", input=None)
        async for event in events:
            if event.type == "STEP_STARTED" and event.id == "a":
                break
        await events.aclose()  # type: ignore[attr-defined]
        run = await store.get_run("r")
        assert run is not None and (run.status, run.log_length) == ("queued", 1)
        assert gates.cancelled == gates.entered

    play(scenario())


def test_failing_publish_does_not_stop_the_run(caplog: pytest.LogCaptureFixture) -> None:
    """An observer that fails is logged; the run goes on, and the iterator misses nothing."""
    heard: list[str] = []

    async def publish(event: Any) -> None:
        heard.append(event.type)
        raise RuntimeError("observer is down")

    async def scenario() -> None:
        assert (await types(store=InMemoryRunStore(), input=1, publish=publish))[-1] == "SIGNAL_AWAITED"

    play(scenario())
    assert len(heard) == len(caplog.messages) == 4


def test_bad_calls() -> None:
    """Unknown runs, other workflows' runs, inputs that don't fit, naive deadlines: each is an error of its own."""

    @create_workflow(id="other")
    async def other(ctx: Context) -> None:
        await ctx.sleep(5)

    async def scenario() -> None:
        store = InMemoryRunStore()
        for options, error in (
            ({}, RunNotFoundError),
            ({"signal": SignalDelivery("s", "paid")}, RunNotFoundError),
            ({"input": "many"}, PayloadError),
            ({"input": 1, "deadline": datetime(2026, 1, 1)}, InvalidArgumentError),  # noqa: DTZ001
            ({"signal": SignalDelivery("s", "n"), "approval": ApprovalDelivery("a", True)}, InvalidArgumentError),
        ):
            with pytest.raises(error):
                await types(store=store, **options)
        assert await store.get_run("r") is None
        assert [event.type async for event in run_workflow(other, store=store, run_id="r", input=None)]
        before = await store.get_run("r")
        with pytest.raises(WorkflowError, match="belongs to workflow 'other'"):
            await types(store=store, recover=True)
        assert await store.get_run("r") == before

    play(scenario())


def test_deadline_bounds_the_drive() -> None:
    """A drive with a deadline that is over leaves the run ready for the next one."""

    async def scenario() -> None:
        store = InMemoryRunStore()
        await types(store=store, input=1, clock=ManualClock(), deadline=at(-1))
        run = await store.get_run("r")
        assert run is not None and run.status == "queued"
        assert "SIGNAL_AWAITED" in await types(store=store, clock=ManualClock())

    play(scenario())
