"""Queues and limits as apps see them: at a registration or at a start, over sweeps, workers, deliveries."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from workflow.core import Context, DefinitionError, InvalidArgumentError, Workflow, create_workflow
from workflow.core.events import StepFinished
from workflow.runtime import MemoryStore, Queue, RateLimit, Registration, WorkflowRuntime
from workflow.runtime.testing import skip_time

from .runtime_kit import DAY, MINUTE, START, World, asynchronous


class Gauge:
    """A workflow of one step, which counts how many of it are at work at once."""

    def __init__(self) -> None:
        self.now = 0
        self.most = 0
        self.order: list[str] = []
        gauge = self

        async def work(name: str) -> None:
            gauge.now += 1
            gauge.most = max(gauge.most, gauge.now)
            for _ in range(5):
                await asyncio.sleep(0)
            gauge.order.append(name)
            gauge.now -= 1

        @create_workflow(id="count")
        async def count(ctx: Context[str]) -> str:
            await ctx.step("work", work, ctx.input)
            return ctx.input

        self.workflow: Workflow[Any, Any] = count


async def enqueue(runtime: WorkflowRuntime, workflow: str, *inputs: Any, **options: Any) -> None:
    for number, input in enumerate(inputs):
        run_id = f"{options.get('queue', 'q')}-{input}-{number}"
        await runtime.start_run(workflow, run_id=run_id, input=input, drive=False, **options)


@asynchronous
async def test_a_registration_limits_its_workflow() -> None:
    """No more runs of a workflow are driven at once than its registration says, and all come to their end."""
    gauge, world = Gauge(), World()
    runtime = world.runtime(workflows=[Registration(gauge.workflow, concurrency=2)])
    await enqueue(runtime, "count", *"abcdefg")
    swept = await runtime.sweep()
    assert gauge.most == 2
    assert swept.summary.ready == {"completed": 7}
    assert not swept.remaining_may_exist


@asynchronous
async def test_without_limits_runs_go_side_by_side() -> None:
    """The same runs without a limit do overlap, so that the test above means something."""
    gauge, world = Gauge(), World()
    runtime = world.runtime(workflows=[gauge.workflow])
    await enqueue(runtime, "count", *"abcdefg")
    await runtime.sweep()
    assert gauge.most == 7


@asynchronous
async def test_a_worker_keeps_to_the_limits() -> None:
    """A worker drives no more of a queue at once either, and works it off."""
    gauge, world = Gauge(), World()
    runtime = world.runtime(workflows=[Registration(gauge.workflow, concurrency=2)])
    await enqueue(runtime, "count", *"abcdefg")
    stop = asyncio.Event()

    def ended(_: Any) -> None:
        if len(gauge.order) == 7:
            stop.set()

    report = await runtime.serve(stop=stop, signals=False, on_result=ended)
    assert gauge.most == 2
    assert report.kinds == {"completed": 7}


@asynchronous
async def test_two_processes_share_a_limit() -> None:
    """What one process drives counts for the other."""
    gauge, world = Gauge(), World()
    runtimes = [world.runtime(workflows=[Registration(gauge.workflow, concurrency=3)]) for _ in range(2)]
    await enqueue(runtimes[0], "count", *"abcdefghijkl")
    await asyncio.gather(*(runtime.sweep() for runtime in runtimes))
    assert gauge.most == 3
    assert len(gauge.order) == 12


@asynchronous
async def test_a_named_queue_is_shared_by_workflows() -> None:
    """Runs of several workflows in one queue share its slots; runs outside of it don't wait for them."""
    gauge, world = Gauge(), World()
    runtime = world.runtime(
        workflows=[Registration(gauge.workflow, queue="mail"), *world.app.workflows],
        queues=[Queue("mail", concurrency=1)],
    )
    blocked = world.app.blocks("hello")
    first = asyncio.create_task(runtime.start_run("greet", run_id="g", input="Ann", queue="mail"))
    await world.app.entered["hello"].wait()
    second = await runtime.start_run("count", run_id="c", input="x")
    assert (second.kind, second.created) == ("queued", True)
    assert (await runtime.start_run("nap", run_id="n", input=0.0)).kind == "completed"
    blocked.set()
    assert (await first).kind == "completed"
    assert (await runtime.sweep()).summary.ready == {"completed": 1}


@asynchronous
async def test_each_key_goes_by_itself() -> None:
    """With a limit per key, the runs of one key come one after another, and others are not held up."""
    gauge, world = Gauge(), World()
    registration = Registration(gauge.workflow, concurrency_per_key=1, key=lambda input: input[0])
    runtime = world.runtime(workflows=[registration])
    await enqueue(runtime, "count", "a1", "a2", "a3", "b1")
    swept = await runtime.sweep()
    assert gauge.most == 2
    assert swept.summary.ready == {"completed": 4}


@asynchronous
async def test_a_start_is_driven_when_there_is_room() -> None:
    """A start in a limited queue is driven at once if a slot is free, and again by its timer."""
    world = World()
    runtime = world.runtime(queues=[Queue("q", concurrency=1)])
    assert (await runtime.start_run("nap", run_id="a", input=60.0, queue="q")).kind == "paused"
    assert (await runtime.start_run("greet", run_id="b", input="Ann", queue="q")).kind == "completed"
    world.clock.advance(MINUTE)
    assert (await runtime.sweep()).summary.timers == {"completed": 1}


@asynchronous
async def test_a_started_run_may_hold_its_slot() -> None:
    """With `holds="started"` the next run waits until the one before has ended, sleep included."""
    world = World()
    registrations = [Registration(w, concurrency=1, holds="started") for w in world.app.workflows if w.id == "nap"]
    runtime = world.runtime(workflows=registrations)
    assert (await runtime.start_run("nap", run_id="a", input=60.0)).kind == "paused"
    assert (await runtime.start_run("nap", run_id="b", input=0.0)).kind == "queued"
    assert (await runtime.sweep()).summary.total == 0
    world.clock.advance(MINUTE)
    await runtime.sweep()
    await runtime.sweep()
    assert [entry.run_id for entry in world.app.journal] == ["a", "b"]


@asynchronous
async def test_a_run_that_waits_for_a_slot_can_be_cancelled() -> None:
    """A run that has not begun is cancelled at once, however full its queue is."""
    world = World()
    runtime = world.runtime(queues=[Queue("q", concurrency=1, holds="started")])
    await runtime.start_run("nap", run_id="a", input=86400.0, queue="q")
    await runtime.start_run("nap", run_id="b", input=0.0, queue="q")
    assert (await runtime.cancel_run("b")).kind == "cancelled"
    assert world.app.ran("b") == []
    assert await skip_time(runtime, world.clock) == START + DAY


@asynchronous
async def test_time_is_skipped_past_a_full_queue() -> None:
    """Where a slot is held for a day, the clock gets there, and the run that waits for it goes on."""
    world = World()
    runtime = world.runtime(queues=[Queue("q", concurrency=1, holds="started")])
    await runtime.start_run("nap", run_id="a", input=86400.0, queue="q")
    await runtime.start_run("greet", run_id="b", input="Ann", queue="q")
    assert await skip_time(runtime, world.clock) < START + 2 * DAY
    assert (await runtime.get_run("b")).status == "completed"  # type: ignore[union-attr]


@asynchronous
async def test_deliveries_keep_to_the_limits() -> None:
    """A signal makes a run ready; it is driven when its queue has room, and found by a sweep otherwise."""
    world = World()
    runtime = world.runtime(queues=[Queue("q", concurrency=1)])
    await runtime.start_run("pay", run_id="p", input={"order_id": "o"}, queue="q")
    blocked = world.app.blocks("hello")
    holding = asyncio.create_task(runtime.start_run("greet", run_id="g", input="Ann", queue="q"))
    await world.app.entered["hello"].wait()
    assert (await runtime.deliver_signal(run_id="p", signal_id="s", name="paid", payload="x")).kind == "queued"
    assert (await runtime.sweep()).summary.total == 0
    blocked.set()
    await holding
    assert (await runtime.sweep()).summary.ready == {"completed": 1}
    await runtime.start_run("pay", run_id="p2", input={"order_id": "o"}, queue="q")
    delivered = await runtime.deliver_signal(run_id="p2", signal_id="s", name="paid", payload="x")
    assert delivered.kind == "completed"


@asynchronous
async def test_higher_priority_goes_first_and_nobody_starves() -> None:
    """Priority decides who goes first, and every fourth claim is by age alone."""
    gauge, world = Gauge(), World()
    runtime = world.runtime(workflows=[gauge.workflow], queues=[Queue("q", concurrency=1)], concurrency=1)
    await runtime.start_run("count", run_id="old", input="old", queue="q", drive=False)
    world.clock.advance(1)
    for number in range(8):
        priority = 1 if number else 5
        await runtime.start_run(
            "count", run_id=f"r{number}", input=str(number), queue="q", priority=priority, drive=False
        )
    await runtime.sweep()
    assert gauge.order[0] == "0"
    assert gauge.order.index("old") < 5


@asynchronous
async def test_nobody_starves_where_each_sweep_gets_one() -> None:
    """Age has its turn in sweeps as well that start one run each, by a rate, in processes that remember nothing."""
    gauge, world = Gauge(), World()
    limited = Registration(gauge.workflow, rate_limit=RateLimit(1, per=60))
    await world.runtime(workflows=[limited]).start_run("count", run_id="old", input="old", drive=False)
    for number in range(40):
        runtime = world.runtime(workflows=[limited])
        await runtime.start_run("count", run_id=f"r{number}", input=str(number), priority=1, drive=False)
        world.clock.advance(61)
        assert (await runtime.sweep()).summary.total == 1
    assert "old" in gauge.order
    assert gauge.order.index("old") > 0


@asynchronous
async def test_a_rate_is_kept() -> None:
    """No more runs start in a period than the limit; the rest start when there is room again."""
    gauge, world = Gauge(), World()
    registration = Registration(gauge.workflow, rate_limit=RateLimit(2, per=60))
    runtime = world.runtime(workflows=[registration])
    await enqueue(runtime, "count", *"abcde")
    assert (await runtime.sweep()).summary.total == 2
    world.clock.advance(59)
    assert (await runtime.sweep()).summary.total == 0
    world.clock.advance(1)
    assert (await runtime.sweep()).summary.total == 2
    assert await skip_time(runtime, world.clock) <= START + timedelta(seconds=125)
    assert gauge.order == list("abcde")


@asynchronous
async def test_a_queue_without_a_name_in_the_code_is_refused() -> None:
    """A start can't name a queue that this runtime doesn't have: its runs would have no limits."""
    runtime = World().runtime(queues=[Queue("mail", concurrency=1)])
    with pytest.raises(InvalidArgumentError, match=r"no queue 'post' \(it has: 'mail'\)"):
        await runtime.start_run("greet", input="Ann", queue="post")
    with pytest.raises(InvalidArgumentError, match="priority"):
        await runtime.start_run("greet", input="Ann", priority=2**40)
    with pytest.raises(InvalidArgumentError, match="key"):
        await runtime.start_run("greet", input="Ann", key="")


@asynchronous
async def test_runs_of_a_queue_that_is_gone_go_on() -> None:
    """When a deploy removes a queue, the runs in it are driven without limits."""
    world = World()
    await world.runtime(queues=[Queue("q", concurrency=1)]).start_run("greet", input="A", queue="q", drive=False)
    assert (await world.runtime().sweep()).summary.ready == {"completed": 1}


def test_bad_limits_fail_where_they_are_written() -> None:
    """What can't be meant is refused when the app starts."""
    workflow = Gauge().workflow
    for bad in (
        {"concurrency": 0},
        {"concurrency_per_key": -1},
        {"holds": "dreaming"},
        {"timeout": -1},
        {"timeout": 0},
    ):
        with pytest.raises((DefinitionError, InvalidArgumentError)):
            Registration(workflow, **bad)  # type: ignore[arg-type]
    with pytest.raises((DefinitionError, InvalidArgumentError)):
        RateLimit(0)
    with pytest.raises(DefinitionError, match="longer than nothing"):
        RateLimit(1, per=0)
    for wrong in ("rate_limit", "rate_limit_per_key"):
        with pytest.raises(DefinitionError, match="write RateLimit"):
            Registration(workflow, **{wrong: 5})  # type: ignore[arg-type]
    with pytest.raises(DefinitionError, match="limits of its own"):
        Registration(workflow, queue="q", concurrency=1)
    with pytest.raises(DefinitionError, match="not among queues="):
        WorkflowRuntime(MemoryStore(), [Registration(workflow, queue="q")])
    with pytest.raises(DefinitionError, match="two queues named 'count'"):
        WorkflowRuntime(MemoryStore(), [Registration(workflow, concurrency=1)], queues=[Queue("count")])


@asynchronous
async def test_the_own_queue_of_a_workflow_is_for_its_runs() -> None:
    """No claim would look there for the runs of another one."""
    world, gauge = World(), Gauge()
    greet = world.app.workflows[0]
    with pytest.raises(DefinitionError, match="own one of the workflow"):
        world.runtime(workflows=[Registration(greet, queue="count"), Registration(gauge.workflow, concurrency=1)])
    with pytest.raises(DefinitionError, match="own one of the workflow"):
        world.runtime(workflows=[Registration(greet, queue="count"), gauge.workflow], queues=[Queue("count")])
    runtime = world.runtime(workflows=[greet, Registration(gauge.workflow, concurrency=1)])
    with pytest.raises(InvalidArgumentError, match="own one of workflow 'count'"):
        await runtime.start_run(greet, input="Ann", queue="count", drive=False)
    assert await world.store.next_due(["greet", "count"]) is None


# Time limits


@asynchronous
async def test_a_run_that_takes_too_long_is_cancelled() -> None:
    """A run that waits when its time is over is asked to cancel, and may compensate."""
    world = World()
    runtime = world.runtime()
    await runtime.start_run("book", run_id="b", timeout=DAY)
    world.clock.advance(DAY - MINUTE)
    assert (await runtime.sweep()).summary.total == 0
    world.clock.advance(MINUTE)
    (result,) = (await runtime.sweep()).timers
    assert result.kind == "cancelled"
    assert world.app.ran("b") == ["book", "unbook"]
    (request,) = [event for event in await runtime.get_timeline("b") if event.type == "CANCEL_REQUESTED"]  # type: ignore[attr-defined]
    assert "time limit" in request.reason  # type: ignore[attr-defined]
    await world.check()


@asynchronous
async def test_a_step_under_way_is_cut_off_at_the_limit() -> None:
    """A step that is at work when the time is over is cancelled with the run."""
    world = World()
    runtime = world.runtime()
    world.app.blocks("hello")
    driving = asyncio.create_task(runtime.start_run("greet", run_id="g", input="Ann", timeout=60))
    await world.app.entered["hello"].wait()
    await world.clock.until_asleep()
    world.clock.advance(MINUTE)
    assert (await driving).kind == "cancelled"


@asynchronous
async def test_a_run_in_time_knows_nothing_of_its_limit() -> None:
    """The limit of a run that ends in time leaves no trace."""
    world = World()
    runtime = world.runtime(workflows=[Registration(w, timeout=DAY) for w in world.app.workflows])
    await runtime.start_run("nap", run_id="n", input=3600.0)
    assert (await runtime.get_run("n")).due_at == START + timedelta(hours=1)  # type: ignore[union-attr]
    world.clock.advance(3600)
    assert (await runtime.sweep()).summary.timers == {"completed": 1}
    assert all(event.type != "CANCEL_REQUESTED" for event in await runtime.get_timeline("n"))  # type: ignore[attr-defined]


@asynchronous
async def test_a_cancelled_run_is_not_cancelled_again_by_its_limit() -> None:
    """The limit is lifted by a request to cancel: compensation may take its time."""
    world = World()
    runtime = world.runtime()
    await runtime.start_run("book", run_id="b", timeout=60)
    blocked = world.app.blocks("unbook")
    cancelling = asyncio.create_task(runtime.cancel_run("b"))
    await world.app.entered["unbook"].wait()
    world.clock.advance(DAY)
    blocked.set()
    assert (await cancelling).kind == "cancelled"
    events = await runtime.get_timeline("b")
    assert sum(event.type == "CANCEL_REQUESTED" for event in events) == 1  # type: ignore[attr-defined]
    assert world.app.ran("b") == ["book", "unbook"]


@asynchronous
async def test_a_second_request_does_not_disturb_compensation() -> None:
    """A person who cancels what its time limit has cancelled already does not interrupt what it undoes."""
    world = World()
    runtime = world.runtime()
    await runtime.start_run("book", run_id="b", timeout=60)
    blocked = world.app.blocks("unbook")
    world.clock.advance(60)
    sweeping = asyncio.create_task(runtime.sweep())
    await world.app.entered["unbook"].wait()
    assert (await runtime.cancel_run("b")).kind == "running"
    for _ in range(10):
        await asyncio.sleep(0)
    blocked.set()
    assert (await sweeping).summary.timers == {"cancelled": 1}
    done = [event.id for event in await runtime.get_timeline("b") if isinstance(event, StepFinished)]
    assert done == ["book", "unbook"]


# Debounce


@asynchronous
async def test_of_many_starts_one_run_comes() -> None:
    """Each debounced start puts the run off and replaces its input; the last one is executed, once."""
    world = World()
    runtime = world.runtime()
    for number in range(3):
        result = await runtime.start_run("greet", run_id="g", input=str(number), debounce=60)
        assert (result.kind, result.created) == ("queued", number == 0)
        world.clock.advance(30)
    assert (await runtime.sweep()).summary.total == 0
    world.clock.advance(30)
    (result,) = (await runtime.sweep()).ready
    assert result.output == "Hello 2"
    again = await runtime.start_run("greet", run_id="g", input="late", debounce=60)
    assert (again.kind, again.created, again.output) == ("completed", False, "Hello 2")
    with pytest.raises(InvalidArgumentError, match="not both"):
        await runtime.start_run("greet", debounce=1, delay=1, input="x")
