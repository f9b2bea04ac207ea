"""`start_run`: idempotent by run id, whatever else is said the second time."""

from __future__ import annotations

import asyncio
import copy
import pickle
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from workflow.core import InvalidArgumentError, PayloadError, create_workflow
from workflow.core.context import Context
from workflow.runtime import RunFilter, RunResult, WorkflowRuntime

from .runtime_kit import DAY, MINUTE, START, Order, Receipt, World, asynchronous


@asynchronous
async def test_a_run_is_driven_to_its_end() -> None:
    """A run that waits for nothing has ended when `start_run` returns, and the answer says all about it."""
    world = World()
    result = await world.runtime().start_run("greet", run_id="r", input="Ann")
    assert (result.kind, result.run_id, result.workflow_id, result.created) == ("completed", "r", "greet", True)
    assert result.output == "Hello Ann"
    assert [event.type for event in result.events] == ["RUN_STARTED", "STEP_STARTED", "STEP_FINISHED", "RUN_FINISHED"]  # type: ignore[attr-defined]
    assert (result.event_count, result.events_truncated, result.error) == (4, False, None)
    assert world.app.ran("r") == ["hello"]


@asynchronous
async def test_the_run_in_the_answer_is_the_run_in_the_store() -> None:
    """`RunResult.run` is what `get_run` gives, without having asked the store."""
    for workflow, input in [("greet", "Ann"), ("pay", {"order_id": "o"}), ("nap", 60.0), ("fail", "x"), ("ask", None)]:
        world = World()
        runtime = world.runtime()
        result = await runtime.start_run(workflow, run_id="r", input=input)
        assert result.run == await runtime.get_run("r")
        await world.check()


@asynchronous
async def test_a_workflow_object_starts_a_run() -> None:
    """The definition itself may be given instead of its id."""
    world = World()
    result = await world.runtime().start_run(world.app.workflows[0], input="Bob")
    assert result.output == "Hello Bob"
    assert result.run_id.startswith("greet:")


@asynchronous
async def test_run_ids_that_are_made_up_differ() -> None:
    """Without a run id, each start is a run of its own."""
    runtime = World().runtime()
    results = [await runtime.start_run("greet", input="Ann") for _ in range(2)]
    assert results[0].run_id != results[1].run_id
    assert all(result.created for result in results)


@asynchronous
async def test_a_second_start_answers_with_the_first_run() -> None:
    """A second start with the same run id tells the run's state, and executes nothing."""
    world = World()
    runtime = world.runtime()
    await runtime.start_run("greet", run_id="r", input="Ann")
    again = await runtime.start_run("greet", run_id="r", input="Bob")
    assert (again.kind, again.created, again.output) == ("completed", False, "Hello Ann")
    assert again.run is not None and again.run.input == "Ann"
    assert again.events == ()
    assert world.app.ran("r") == ["hello"]


@asynchronous
async def test_a_second_start_of_a_paused_run_leaves_it_alone() -> None:
    """Starting again what waits for an event neither drives nor changes it."""
    world = World()
    runtime = world.runtime()
    await runtime.start_run("pay", run_id="r", input=Order(order_id="o"))
    before = await world.store.get_run("r")
    again = await runtime.start_run("pay", run_id="r", input=Order(order_id="p"))
    assert (again.kind, again.created) == ("paused", False)
    assert await world.store.get_run("r") == before


@asynchronous
async def test_concurrent_starts_make_one_run() -> None:
    """Of many starts with one run id at the same time, one creates and drives; the others see it running."""
    world = World()
    release = world.app.blocks("hello")
    runtimes = [world.runtime() for _ in range(4)]
    starts = [asyncio.create_task(runtimes[n % 4].start_run("greet", run_id="r", input=f"{n}")) for n in range(8)]
    await world.app.entered["hello"].wait()
    done, _ = await asyncio.wait(starts, return_when=asyncio.FIRST_COMPLETED)
    release.set()
    results = [await start for start in starts]
    assert sorted(result.kind for result in results) == ["completed"] + ["running"] * 7
    assert [result.created for result in results].count(True) == 1
    assert len(done) == 7
    assert world.app.ran("r") == ["hello"]


@asynchronous
async def test_the_id_of_another_workflows_run_is_refused() -> None:
    """A run id that a run of another workflow has can't be used: nobody gets another workflow's output by mistake."""
    world = World()
    runtime = world.runtime()
    await runtime.start_run("greet", run_id="r", input="Ann")
    before = await world.store.get_run("r")
    with pytest.raises(InvalidArgumentError, match=r"'greet'.*another run_id"):
        await runtime.start_run("nap", run_id="r", input=1.0)
    assert await world.store.get_run("r") == before


@asynchronous
async def test_without_drive_a_run_is_only_enqueued() -> None:
    """`drive=False` writes the run and does nothing; a sweep does the rest."""
    world = World()
    runtime = world.runtime()
    result = await runtime.start_run("greet", run_id="r", input="Ann", drive=False)
    assert (result.kind, result.created, world.app.journal) == ("queued", True, [])
    assert result.run is not None and result.run.due_at == START
    await world.check()
    swept = await runtime.sweep()
    assert [(done.run_id, done.kind) for done in swept.ready] == [("r", "completed")]


@asynchronous
async def test_a_delay_starts_a_run_later() -> None:
    """A delayed run is enqueued, starts no earlier than that, and counts its own time from its start."""
    world = World()
    runtime = world.runtime()
    result = await runtime.start_run("nap", run_id="r", input=60.0, delay=DAY)
    assert result.kind == "queued"
    assert result.run is not None and result.run.due_at == START + DAY
    world.clock.advance(DAY - timedelta(seconds=1))
    assert (await runtime.sweep()).summary.total == 0
    world.clock.advance(1)
    (slept,) = (await runtime.sweep()).ready
    assert slept.kind == "paused"
    assert slept.run is not None and slept.run.due_at == START + DAY + MINUTE


@asynchronous
async def test_typed_output_comes_back_in_every_way() -> None:
    """The output is an instance of the return type: from the drive, a second start, `get_run`, another process."""
    world = World()
    runtime = world.runtime()
    await runtime.start_run("pay", run_id="r", input=Order(order_id="o"))
    result = await runtime.deliver_signal(run_id="r", signal_id="s", name="paid", payload="card")
    expected = Receipt(order_id="o", payment="card")
    again = await world.runtime().start_run("pay", run_id="r", input=Order(order_id="o"))
    seen = await world.runtime().get_run("r")
    assert seen is not None
    assert [result.output, again.output, seen.output] == [expected] * 3
    assert isinstance(seen.input, Order)


@asynchronous
async def test_max_duration_ends_a_drive() -> None:
    """A drive whose budget is over before it begins leaves a run that is ready for the next one."""
    world = World()
    runtime = world.runtime()
    result = await runtime.start_run("greet", run_id="r", input="Ann", max_duration=0)
    assert (result.kind, world.app.journal) == ("queued", [])
    await world.check()
    assert [done.kind for done in (await runtime.sweep()).ready] == ["completed"]


@asynchronous
async def test_now_begins_a_call_at_that_time() -> None:
    """`now=` is the time of the whole call: of the row, of the run's own clock and of its timers."""
    world = World()
    at = datetime(2030, 5, 5, tzinfo=UTC)
    result = await world.runtime().start_run("nap", run_id="r", input=60.0, now=at)
    assert result.run is not None
    assert (result.run.created_at, result.run.due_at) == (at, at + MINUTE)


@asynchronous
async def test_events_can_be_left_out() -> None:
    """`include_events=False` counts events and keeps none."""
    result = await World().runtime().start_run("greet", input="Ann", include_events=False)
    assert (result.events, result.event_count, result.events_truncated) == ((), 4, False)


@asynchronous
async def test_many_events_are_cut() -> None:
    """A result holds the first thousand events, and says that there were more."""

    @create_workflow(id="loud")
    async def loud(ctx: Context[None]) -> None:
        for number in range(1500):
            ctx.emit("tick", number)

    result = await World().runtime(workflows=[loud]).start_run("loud")
    assert (len(result.events), result.event_count, result.events_truncated) == (1000, 1502, True)


@asynchronous
async def test_a_result_is_made_when_it_is_looked_at() -> None:
    """What the drive left is shown as it was then, as often as one looks, and copies of the result know it too."""
    result = await World().runtime().start_run("greet", run_id="r", input="Ann")
    copies = pickle.loads(pickle.dumps(result)), copy.copy(result), replace(result, created=False)
    assert all((each.run, each.events) == (result.run, result.events) for each in copies)
    assert result.run is result.run
    assert result.events is result.events
    assert copies[0] == result
    assert RunResult("not_found", "r").run is None
    assert RunResult("not_found", "r").events == ()


BAD_STARTS: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"workflow": "nope"}, InvalidArgumentError, "'nope' is not registered.*ask, book"),
    ({"run_id": ""}, InvalidArgumentError, "run_id must not be empty"),
    ({"run_id": "x" * 513}, InvalidArgumentError, "at most 512"),
    ({"run_id": "a\x00b"}, InvalidArgumentError, "control characters"),
    ({"run_id": "\ud800"}, InvalidArgumentError, "lone surrogates"),
    ({"run_id": 7}, InvalidArgumentError, "must be a string"),
    ({"input": 5}, PayloadError, "The input of run 'r' of workflow 'greet'"),
    ({"input": "\ud800"}, PayloadError, "input of run 'r'"),
    ({"input": "x" * (16 * 1024 * 1024)}, PayloadError, "16,777,218 bytes"),
    ({"delay": -1}, InvalidArgumentError, "delay must be"),
    ({"delay": float("nan")}, InvalidArgumentError, "delay must be"),
    ({"delay": 1e15}, InvalidArgumentError, "delay"),
    ({"delay": "1h"}, InvalidArgumentError, "delay must be"),
    ({"max_duration": -1}, InvalidArgumentError, "max_duration must be"),
    ({"max_duration": float("inf")}, InvalidArgumentError, "max_duration must be"),
    ({"max_duration": 1e15}, InvalidArgumentError, "max_duration"),
    ({"now": datetime(2026, 1, 1)}, InvalidArgumentError, "now must be an aware datetime"),  # noqa: DTZ001
    ({"now": "today"}, InvalidArgumentError, "now must be a datetime"),
]


@pytest.mark.parametrize(("wrong", "error", "says"), BAD_STARTS)
@asynchronous
async def test_bad_arguments_are_refused(wrong: dict[str, Any], error: type[Exception], says: str) -> None:
    """Each bad argument is an error of our own that names it, and nothing is written."""
    world = World()
    arguments: dict[str, Any] = {"workflow": "greet", "run_id": "r", "input": "Ann"} | wrong
    with pytest.raises(error, match=says):
        await world.runtime().start_run(arguments.pop("workflow"), **arguments)
    assert await world.store.list_runs(RunFilter()) == []


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"concurrency": 0}, "concurrency"),
        ({"lease": 0}, "lease"),
        ({"lease": -5}, "lease"),
        ({"lease": float("inf")}, "lease"),
        ({"lease": 1e15}, "lease"),
        ({"max_recoveries": -1}, "max_recoveries"),
    ],
)
def test_bad_options_are_refused(options: dict[str, Any], says: str) -> None:
    """A runtime that could not work can't be made."""
    with pytest.raises(InvalidArgumentError, match=says):
        World().runtime(**options)


@asynchronous
async def test_another_definition_of_a_registered_id_is_refused() -> None:
    """A definition that is not the registered one can't be started, though it has its id."""
    world, other = World(), World()
    with pytest.raises(InvalidArgumentError, match="another definition of this id"):
        await world.runtime().start_run(other.app.workflows[0], input="Ann")


@asynchronous
async def test_a_runtime_is_a_context() -> None:
    """`async with` gives the runtime, and closes its store."""
    world = World()
    async with world.runtime() as runtime:
        assert isinstance(runtime, WorkflowRuntime)
        assert (await runtime.start_run("greet", input="Ann")).kind == "completed"
