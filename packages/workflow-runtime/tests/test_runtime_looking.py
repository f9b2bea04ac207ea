"""`get_run`, `list_runs`, `get_timeline`, `stream`, `wait_for_run`, `purge`."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from workflow.core import Context, InvalidArgumentError, RunNotFoundError, create_workflow
from workflow.core.records import Commit, Committed, RunRecord
from workflow.runtime import MemoryStore, Run, WorkflowRuntime

from .runtime_kit import DAY, MINUTE, START, Order, Receipt, World, asynchronous

NAIVE = datetime(2026, 1, 1)  # noqa: DTZ001


async def look(runtime: WorkflowRuntime, run_id: str = "r") -> Run[Any]:
    run = await runtime.get_run(run_id)
    assert run is not None
    return run


def types(events: Any) -> list[str]:
    return [event.type for event in events]


@asynchronous
async def test_a_paused_run_shows_what_it_waits_for() -> None:
    """All fields of a run that waits: what for, since when, until when."""
    world = World()
    runtime = world.runtime()
    await runtime.start_run("ask", run_id="r")
    run = await look(runtime)
    assert (run.run_id, run.workflow_id, run.workflow_version, run.status) == ("r", "ask", None, "paused")
    (wait,) = run.waits
    assert (wait.kind, wait.id, wait.name, wait.until) == ("approval", "ship-it", "Ship it?", START + DAY)
    assert (run.due_at, run.created_at, run.updated_at) == (START + DAY, START, START)
    assert (run.completed_at, run.output, run.error, run.state, run.ended) == (None, None, None, None, False)


@asynchronous
async def test_a_failed_run_shows_why() -> None:
    """The error of a run has the type, the message and the code of what its handler raised."""
    world = World()
    runtime = world.runtime()
    result = await runtime.start_run("fail", run_id="r", input="no stock")
    run = await look(runtime)
    assert run.error is not None
    assert (run.error.type, run.error.code) == ("StepError", "step_failed")
    assert "ValueError: no stock" in run.error.message
    assert (run.ended, run.waits, run.due_at, run.completed_at) == (True, (), None, START)
    assert result.error == run.error
    with pytest.raises(Exception, match="Run 'r' failed: StepError"):
        result.raise_for_error()


@asynchronous
async def test_the_state_of_a_run_is_typed() -> None:
    """A run's state is an instance of the declared type, as it was last saved."""

    @create_workflow(id="counts", initialize=lambda _: Order(order_id="o"))
    async def counts(ctx: Context[None, Order]) -> None:
        ctx.state.amount += 1
        await ctx.wait_for_event("more")

    runtime = World().runtime(workflows=[counts])
    await runtime.start_run("counts", run_id="r")
    assert (await look(runtime)).state == Order(order_id="o", amount=2)


@asynchronous
async def test_a_process_without_the_workflow_sees_plain_json() -> None:
    """A runtime that does not have a workflow, or whose types have changed, shows its runs as plain JSON."""
    world = World()
    runtime = world.runtime()
    await runtime.start_run("pay", run_id="r", input=Order(order_id="o"))
    await runtime.deliver_signal(run_id="r", signal_id="s", name="paid", payload="card")

    @create_workflow(id="pay")
    async def pay(ctx: Context[int]) -> int: ...

    for workflows in ([], [pay]):
        run = await look(world.runtime(workflows=workflows))
        assert (run.input, run.output) == ({"order_id": "o", "amount": 1}, {"order_id": "o", "payment": "card"})


@asynchronous
async def test_an_unknown_run_is_none() -> None:
    """There is no run of that id: None from `get_run` and `wait_for_run`, an error from what needs one."""
    runtime = World().runtime()
    assert await runtime.get_run("nope") is None
    assert await runtime.wait_for_run("nope") is None
    with pytest.raises(RunNotFoundError, match="'nope'"):
        await runtime.get_timeline("nope")
    with pytest.raises(RunNotFoundError, match="'nope'"):
        await anext(runtime.stream("nope"))


# Lists


async def make_runs(world: World) -> WorkflowRuntime:
    runtime = world.runtime()
    for number in range(4):
        await runtime.start_run("greet", run_id=f"g{number}", input="Ann")
        await runtime.start_run("ask", run_id=f"a{number}")
        world.clock.advance(MINUTE)
    return runtime


async def listed(runtime: WorkflowRuntime, **filters: Any) -> list[str]:
    return [run.run_id for run in (await runtime.list_runs(**filters)).runs]


@asynchronous
async def test_lists_are_filtered() -> None:
    """By workflow, by one status or several, by the time of creation; newest first."""
    runtime = await make_runs(World())
    assert await listed(runtime) == ["g3", "a3", "g2", "a2", "g1", "a1", "g0", "a0"]
    assert await listed(runtime, workflow_id="ask") == ["a3", "a2", "a1", "a0"]
    assert await listed(runtime, status="completed") == ["g3", "g2", "g1", "g0"]
    assert len(await listed(runtime, status=["paused", "completed"])) == 8
    assert await listed(runtime, status=[]) == []
    span = {"created_from": START + MINUTE, "created_until": START + 2 * MINUTE}
    assert await listed(runtime, **span) == ["g1", "a1"]


@pytest.mark.parametrize("limit", [1, 3, 8, 9])
@asynchronous
async def test_pages_show_each_run_once(limit: int) -> None:
    """Following the cursor shows everything once and in order, though runs are added meanwhile."""
    world = World()
    runtime = await make_runs(world)
    seen: list[str] = []
    cursor: str | None = None
    while True:
        page = await runtime.list_runs(limit=limit, cursor=cursor)
        assert len(page.runs) <= limit
        seen += [run.run_id for run in page.runs]
        await runtime.start_run("greet", run_id=f"new{len(seen)}", input="Eve")
        if (cursor := page.next_cursor) is None:
            break
    assert seen == ["g3", "a3", "g2", "a2", "g1", "a1", "g0", "a0"]


CURSORS = ["", "x", "%%%", "bm8", "W10", "WzEsMl0", "é", "WyJ4IiwgInkiXQ", "WyIyMDI2LTAxLTAxVDAwOjAwOjAwIiwgInIiXQ"]


@pytest.mark.parametrize("cursor", [*CURSORS, 7])
@asynchronous
async def test_a_cursor_of_another_make_is_refused(cursor: Any) -> None:
    """A string that no page gave, or one without a time zone in it, is an error that says so."""
    with pytest.raises(InvalidArgumentError, match="is not a cursor"):
        await World().runtime().list_runs(cursor=cursor)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"limit": 0}, "limit"),
        ({"limit": "5"}, "limit"),
        ({"status": "done"}, "Unknown status 'done'"),
        ({"status": ["paused", 3]}, "Unknown status 3"),
        ({"created_from": NAIVE}, "created_from must be an aware"),
        ({"created_until": NAIVE}, "created_until must be an aware"),
    ],
)
@asynchronous
async def test_bad_filters_are_refused(wrong: dict[str, Any], says: str) -> None:
    """Each bad filter is an error that names it."""
    with pytest.raises(InvalidArgumentError, match=says):
        await World().runtime().list_runs(**wrong)


# Timelines


@asynchronous
async def test_a_timeline_is_the_log() -> None:
    """The events of the log, from any index on, with how the run ended put in."""
    world = World()
    runtime = world.runtime()
    await runtime.start_run("greet", run_id="r", input="Ann")
    events: Any = await runtime.get_timeline("r")
    assert types(events) == ["STEP_FINISHED", "RUN_FINISHED"]
    assert [event.index for event in events] == [0, 1]
    assert (events[0].result.value, events[1].output.value) == ("Hello Ann", "Hello Ann")
    assert types(await runtime.get_timeline("r", after=0)) == ["RUN_FINISHED"]
    assert types(await runtime.get_timeline("r", limit=1)) == ["STEP_FINISHED"]
    await runtime.start_run("fail", run_id="f", input="x")
    failed: Any = (await runtime.get_timeline("f"))[-1]
    assert failed.error.type == "StepError"


# Streams


@pytest.mark.parametrize("elsewhere", [False, True], ids=["here", "elsewhere"])
@asynchronous
async def test_a_stream_tails_a_run_to_its_end(elsewhere: bool) -> None:
    """A stream gives each logged event once and in order, wherever the run goes on; with the run it ends."""
    world = World()
    runtime = world.runtime()
    watcher = world.runtime() if elsewhere else runtime
    await runtime.start_run("pay", run_id="r", input=Order(order_id="o"))
    seen: list[Any] = []
    half = asyncio.Event()

    async def watch() -> None:
        async for event in watcher.stream("r"):
            seen.append(event)
            half.set()

    watching = asyncio.create_task(watch())
    await half.wait()
    assert types(seen)[:1] == ["STEP_FINISHED"]
    await runtime.deliver_signal(run_id="r", signal_id="s", name="paid", payload="card")
    await asyncio.wait_for(watching, 5)
    assert seen == list(await runtime.get_timeline("r"))
    assert seen[-1].output.value == {"order_id": "o", "payment": "card"}


@asynchronous
async def test_a_stream_of_an_ended_run_ends_at_once() -> None:
    """What has ended is given from the index that was asked for, and the stream is over."""
    runtime = World().runtime()
    await runtime.start_run("greet", run_id="r", input="Ann")
    assert types([event async for event in runtime.stream("r")]) == ["STEP_FINISHED", "RUN_FINISHED"]
    assert types([event async for event in runtime.stream("r", after=0)]) == ["RUN_FINISHED"]


class EndsBetween(MemoryStore):
    """Ends the run between the two questions that a reader asks."""

    ending: Commit | None = None

    async def get_run(self, run_id: str) -> RunRecord | None:
        run = await super().get_run(run_id)
        if self.ending is not None:
            ending, self.ending = self.ending, None
            await super().commit(ending)
        return run

    async def commit(self, commit: Commit) -> Committed:
        if commit.transition is not None and commit.transition.status == "completed" and self.ending is None:
            self.ending = commit
            return Committed(released=True)
        return await super().commit(commit)


@pytest.mark.parametrize("how", ["stream", "timeline"])
@asynchronous
async def test_the_end_of_a_run_is_told_with_its_output(how: str) -> None:
    """A run that ends between two looks at it: its end is still told with its output."""
    store = EndsBetween()
    runtime = World(store).runtime()
    starting = runtime.start_run("greet", run_id="r", input="Ann")
    await starting
    if how == "stream":
        events: Any = [event async for event in runtime.stream("r")]
    else:
        events = await runtime.get_timeline("r")
    assert types(events) == ["STEP_FINISHED", "RUN_FINISHED"]
    assert events[-1].output is not None and events[-1].output.value == "Hello Ann"


@asynchronous
async def test_a_stream_that_is_left_leaves_nothing() -> None:
    """Closing a stream early forgets its watcher."""
    world = World()
    runtime = world.runtime()
    await runtime.start_run("pay", run_id="r", input=Order(order_id="o"))
    stream: Any = runtime.stream("r")
    await anext(stream)
    await stream.aclose()
    assert runtime._publisher._watchers == {}


# Waiting


@pytest.mark.parametrize("elsewhere", [False, True], ids=["here", "elsewhere"])
@asynchronous
async def test_waiting_for_a_run(elsewhere: bool) -> None:
    """`wait_for_run` returns when the run has ended, whoever drives it, and gives it typed."""
    world = World()
    runtime = world.runtime()
    await runtime.start_run("pay", run_id="r", input=Order(order_id="o"))
    waiting = asyncio.create_task((world.runtime() if elsewhere else runtime).wait_for_run("r", timeout=5))
    await asyncio.sleep(0)
    await runtime.deliver_signal(run_id="r", signal_id="s", name="paid", payload="card")
    run = await waiting
    assert run is not None and run.output == Receipt(order_id="o", payment="card")


@asynchronous
async def test_waiting_has_its_time() -> None:
    """After the timeout it is a `TimeoutError` that names the run; the run is left as it is."""
    world = World()
    runtime = world.runtime()
    await runtime.start_run("pay", run_id="r", input=Order(order_id="o"))
    for timeout in (0, 0.03):
        with pytest.raises(TimeoutError, match="Run 'r' has not ended within"):
            await runtime.wait_for_run("r", timeout=timeout)
    assert (await look(runtime)).status == "paused"
    with pytest.raises(InvalidArgumentError, match="timeout"):
        await runtime.wait_for_run("r", timeout=-1)


class SlowToAnswer(MemoryStore):
    async def get_run(self, run_id: str) -> RunRecord | None:
        raise TimeoutError("the database did not answer")


@asynchronous
async def test_a_timeout_of_the_store_is_the_stores() -> None:
    """A `TimeoutError` of the store is not taken for the end of the waiting time."""
    with pytest.raises(TimeoutError, match="did not answer"):
        await World(SlowToAnswer()).runtime().wait_for_run("r")


# Purging


@asynchronous
async def test_only_what_has_ended_is_purged() -> None:
    """Ended runs older than that are deleted, with their logs; others never; how many is the answer."""
    world = World()
    runtime = await make_runs(world)
    assert await runtime.purge(START + 2 * MINUTE) == 2
    assert await listed(runtime, workflow_id="greet") == ["g3", "g2"]
    assert await runtime.purge(timedelta(minutes=1, seconds=1), limit=1) == 1
    world.clock.advance(DAY)
    assert await runtime.purge(timedelta(0), workflow_id="ask") == 0
    assert await runtime.purge(timedelta(0)) == 1
    assert await listed(runtime) == ["a3", "a2", "a1", "a0"]
    with pytest.raises(RunNotFoundError):
        await runtime.get_timeline("g0")
    await world.check()


@asynchronous
async def test_purging_goes_by_the_time_that_is_given() -> None:
    """An age is counted back from `now`."""
    runtime = await make_runs(World())
    assert await runtime.purge(DAY, now=START + DAY) == 0
    assert await runtime.purge(DAY, now=START + DAY + 2 * MINUTE) == 2


@asynchronous
async def test_purging_goes_on_in_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """More than one batch is deleted in one call, up to the limit."""
    monkeypatch.setattr("workflow.runtime.verbs.operating._PURGE_BATCH", 3)
    world = World()
    runtime = world.runtime()
    for number in range(11):
        await runtime.start_run("greet", run_id=f"r{number}", input="Ann")
    world.clock.advance(1)
    assert await runtime.purge(timedelta(0), limit=7) == 7
    assert await runtime.purge(timedelta(0), limit=0) == 0
    assert await runtime.purge(timedelta(0)) == 4


@pytest.mark.parametrize(
    "wrong", [{"older_than": NAIVE}, {"older_than": 5}, {"limit": -1}, {"now": NAIVE, "older_than": DAY}]
)
@asynchronous
async def test_bad_purges_delete_nothing(wrong: dict[str, Any]) -> None:
    """A bad argument is an error, and nothing is deleted."""
    runtime = await make_runs(World())
    with pytest.raises(InvalidArgumentError):
        arguments: dict[str, Any] = {"older_than": datetime(2100, 1, 1, tzinfo=UTC)} | wrong
        await runtime.purge(**arguments)
    assert len(await listed(runtime)) == 8


@asynchronous
async def test_a_run_that_ended_twice_is_purged_once() -> None:
    """A run that was retried and failed again at the same moment does not come up again when it is gone."""
    world = World()
    runtime = world.runtime()
    await runtime.start_run("fail", run_id="f", input="x")
    await runtime.retry_run("f")
    world.clock.advance(60)
    assert await runtime.purge(timedelta(0), limit=1) == 1
    assert await runtime.purge(timedelta(0)) == 0


@asynchronous
async def test_events_are_told_apart_by_type() -> None:
    """`event.type` tells a type checker (which reads this test too) the fields that an event has."""
    runtime = World().runtime()
    started = await runtime.start_run("fail", run_id="r", input="no stock")
    async for event in runtime.stream("r"):
        if event.type == "STEP_FAILED":
            assert event.step_id and event.error is not None
    assert [event.type for event in await runtime.get_timeline("r")] == ["STEP_FAILED", "RUN_ERRORED"]
    assert [event.type for event in started.events][-1] == "RUN_ERRORED"


@asynchronous
async def test_bounds_are_seconds_or_timedeltas() -> None:
    """Whatever takes a time to stay within takes a timedelta as well as seconds."""
    runtime = World().runtime()
    bound = timedelta(seconds=5)
    assert (await runtime.start_run("fail", run_id="r", input="no stock", max_duration=bound)).kind == "errored"
    assert (await runtime.cancel_run("r", max_duration=bound)).kind == "errored"
    assert (await runtime.sweep(max_duration=bound)).timers == []
    run = await runtime.wait_for_run("r", bound)
    assert run is not None and run.status == "errored"
