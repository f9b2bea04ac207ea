"""`publish`: every event after it was committed, in order, and nothing that a crash undoes."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from workflow.core import Context, create_workflow, event_adapter
from workflow.core.records import Commit, Committed
from workflow.runtime import MemoryStore
from workflow.runtime.testing import CrashingStore, LostConnection, SimulatedCrash, crash_points, skip_time

from .runtime_kit import World, asynchronous

ORDER = {"order_id": "o"}
LIVE = {"RUN_STARTED", "STEP_STARTED", "STATE_DELTA", "CUSTOM"}


async def pay(world: World, runtime: Any, run_id: str = "r") -> None:
    await runtime.start_run("pay", run_id=run_id, input=ORDER)
    await runtime.deliver_signal(run_id=run_id, signal_id="s", name="paid", payload="card")


@pytest.mark.parametrize("kind", ["sync", "async"])
@asynchronous
async def test_each_event_is_published_once_in_order(kind: str) -> None:
    """The publisher, sync or async, gets the logged events in the order of the log, with the live ones in between."""
    seen: list[Any] = []

    async def later(event: Any) -> None:
        await asyncio.sleep(0)
        seen.append(event)

    world = World()
    runtime = world.runtime(publish=seen.append if kind == "sync" else later)
    await pay(world, runtime)
    assert [event.type for event in seen] == [
        "RUN_STARTED",
        "STEP_STARTED",
        "STEP_FINISHED",
        "SIGNAL_AWAITED",
        "SIGNAL_RESOLVED",
        "STEP_STARTED",
        "STEP_FINISHED",
        "RUN_FINISHED",
    ]
    logged = [event for event in seen if event.type not in LIVE]
    assert [event.index for event in logged] == list(range(5))
    assert {event.run_id for event in seen} == {"r"}
    assert [event_adapter.validate_json(event.model_dump_json()) for event in seen] == seen


@asynchronous
async def test_live_events_are_published_and_not_logged() -> None:
    """What a handler emits and how its state changes is published, once, and silent on replay."""

    @create_workflow(id="loud")
    async def loud(ctx: Context[None, dict[str, int]]) -> None:
        ctx.emit("began", {"n": 1})
        ctx.state["n"] = 1
        await ctx.wait_for_event("go")
        ctx.state["n"] = 2
        ctx.emit("ended")

    seen: list[Any] = []
    runtime = World().runtime(workflows=[loud], publish=seen.append)
    await runtime.start_run("loud", run_id="r")
    await runtime.deliver_signal(run_id="r", signal_id="s", name="go")
    assert [event.name for event in seen if event.type == "CUSTOM"] == ["began", "ended"]
    assert len([event for event in seen if event.type == "STATE_DELTA"]) == 2
    assert not {event.type for event in await runtime.get_timeline("r")} & LIVE  # type: ignore[attr-defined]


@pytest.mark.parametrize("fatal", [True, False], ids=["dies", "loses the answer"])
@asynchronous
async def test_nothing_is_published_that_is_not_in_the_store(fatal: bool) -> None:
    """Die at any boundary: what was published as an entry of the log is in the log, at its index."""
    world = World()
    recording = CrashingStore(world.store)
    await pay(world, world.runtime(recording))
    for point in crash_points(recording.trace, fatal=fatal):
        published: list[Any] = []
        run_id = f"r-{point}"
        dying = world.runtime(CrashingStore(world.store, point), publish=published.append)
        with pytest.raises((SimulatedCrash, LostConnection)):
            await pay(world, dying, run_id)
        exists = await world.store.get_run(run_id) is not None
        log: Any = await world.runtime().get_timeline(run_id) if exists else []
        logged = {event.index: event.type for event in log}
        told = {event.index: event.type for event in published if event.index is not None}
        assert told.items() <= logged.items()
        assert exists or not published
        world.clock.advance(31)
        await world.runtime().sweep()


@asynchronous
async def test_a_publisher_that_fails_fails_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """What a publisher raises is logged with the run's id; the run goes on, and so do the events."""
    seen: list[Any] = []

    def fails(event: Any) -> None:
        seen.append(event)
        raise RuntimeError("no bus")

    world = World()
    with caplog.at_level(logging.ERROR, "workflow.runtime"):
        result = await world.runtime(publish=fails).start_run("greet", run_id="r", input="Ann")
    assert (result.kind, len(seen), result.event_count) == ("completed", 4, 4)
    assert "The publisher failed on an event of run 'r'" in caplog.text
    swept_world = World()
    runtime = swept_world.runtime(publish=fails)
    await runtime.start_run("greet", input="Ann", drive=False)
    assert (await runtime.sweep()).summary.ready == {"completed": 1}


class TellingStore(MemoryStore):
    """Tells what had been committed when."""

    def __init__(self) -> None:
        super().__init__()
        self.committed = 0

    async def commit(self, commit: Commit) -> Committed:
        await asyncio.sleep(0)
        answer = await super().commit(commit)
        self.committed = commit.expected_index + len(commit.records)
        return answer


@asynchronous
async def test_events_are_published_after_their_commit() -> None:
    """When an entry of the log is published it is committed already."""
    store = TellingStore()
    world = World(store)
    behind: list[Any] = []

    def publish(event: Any) -> None:
        if event.index is not None and event.index >= store.committed:
            behind.append(event)

    await pay(world, world.runtime(publish=publish))
    assert behind == []


@asynchronous
async def test_a_publisher_may_use_the_runtime() -> None:
    """A publisher that looks at the run it hears of sees at least what it was told."""
    world = World()
    lengths: list[int] = []

    async def look(event: Any) -> None:
        if event.index is not None:
            lengths.append(len(await runtime.get_timeline(event.run_id)) - event.index)

    runtime = world.runtime(publish=look)
    await pay(world, runtime)
    assert len(lengths) == 5
    assert min(lengths) >= 1


@asynchronous
async def test_attempts_are_published_as_they_happen() -> None:
    """Each failed attempt is an event with its error and the time of the next one."""
    world = World()
    seen: list[Any] = []
    runtime = world.runtime(publish=seen.append)
    await runtime.start_run("retry", run_id="r", input=3600.0)
    await skip_time(runtime, world.clock)
    retrying = [event for event in seen if event.type == "STEP_RETRYING"]
    assert [(event.attempt, event.error.type) for event in retrying] == [(1, "ConnectionError"), (2, "ConnectionError")]
    assert [event.attempt for event in seen if event.type == "STEP_STARTED"] == [1, 2, 3]
