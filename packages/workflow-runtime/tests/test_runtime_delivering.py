"""`deliver_signal` and `deliver_approval`: mail that is never lost and never doubled."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import pytest
from pydantic import BaseModel

from workflow.core import Context, InvalidArgumentError, PayloadError, create_workflow, middleware
from workflow.runtime import WorkflowRuntime

from .runtime_kit import DAY, START, Receipt, World, asynchronous

ORDER = {"order_id": "o"}


async def paid(runtime: WorkflowRuntime, signal_id: str = "s", run_id: str = "r", **options: Any) -> Any:
    options.setdefault("payload", "card")
    return await runtime.deliver_signal(run_id=run_id, signal_id=signal_id, name="paid", **options)


async def decide(runtime: WorkflowRuntime, approved: Any = True, **options: Any) -> Any:
    return await runtime.deliver_approval(run_id="r", approval_id="ship-it", approved=approved, **options)


async def seen(runtime: WorkflowRuntime, type: str) -> None:
    """Wait until there is such an event in the log of the run."""
    async for event in runtime.stream("r"):
        if event.type == type:  # type: ignore[attr-defined]
            return


async def paying(world: World) -> WorkflowRuntime:
    runtime = world.runtime()
    await runtime.start_run("pay", run_id="r", input=ORDER)
    return runtime


# Signals


@asynchronous
async def test_a_signal_that_is_awaited_drives_the_run() -> None:
    """A delivery to a run that waits for it goes on with the run at once."""
    world = World()
    result = await paid(await paying(world))
    assert (result.kind, result.created) == ("completed", False)
    assert result.output == Receipt(order_id="o", payment="card")
    assert world.app.ran("r") == ["reserve", "ship"]


@asynchronous
async def test_without_drive_a_signal_makes_the_run_ready() -> None:
    """`drive=False` leaves the run, which is due at once, to a sweep."""
    world = World()
    runtime = await paying(world)
    result = await paid(runtime, drive=False)
    assert (result.kind, world.app.ran("r")) == ("queued", ["reserve"])
    await world.check()
    assert (await runtime.sweep()).summary.ready == {"completed": 1}


@asynchronous
async def test_a_doubled_signal_counts_once() -> None:
    """A second delivery of one signal id is a `duplicate`: before the run has seen it, and after it has ended."""
    world = World()
    runtime = await paying(world)
    assert (await paid(runtime, drive=False)).kind == "queued"
    assert (await paid(runtime, payload="cash")).kind == "duplicate"
    await runtime.sweep()
    again = await paid(runtime, payload="cash")
    assert again.kind == "duplicate"
    assert again.output == Receipt(order_id="o", payment="card")
    assert world.app.ran("r") == ["reserve", "ship"]


@asynchronous
async def test_concurrent_deliveries_of_one_signal_count_once() -> None:
    """Of many deliveries of one signal at the same time, through several runtimes, one is accepted."""
    world = World()
    runtime = await paying(world)
    results = await asyncio.gather(*(paid(world.runtime() if n % 2 else runtime) for n in range(8)))
    assert sorted(result.kind for result in results) == ["completed"] + ["duplicate"] * 7


@asynchronous
async def test_an_early_signal_waits_in_the_inbox() -> None:
    """A signal that nobody asks for yet is `buffered`, changes nothing, and is there when the handler asks."""
    world = World()
    runtime = world.runtime()

    @create_workflow(id="late")
    async def late(ctx: Context[None]) -> list[str]:
        await ctx.sleep(DAY)
        return [await ctx.wait_for_event("paid", str), await ctx.wait_for_event("paid", str)]

    runtime = world.runtime(workflows=[late])
    before = (await runtime.start_run("late", run_id="r")).run
    assert before is not None
    first, second = await paid(runtime, "s1", payload="one"), await paid(runtime, "s2", payload="two")
    assert [first.kind, second.kind] == ["buffered", "buffered"]
    assert second.run is not None and (second.run.status, second.run.due_at) == ("paused", before.due_at)
    await world.check()
    world.clock.advance(DAY)
    assert [result.output for result in (await runtime.sweep()).timers] == [["one", "two"]]


@asynchronous
async def test_a_signal_of_another_name_is_buffered() -> None:
    """A signal that the run does not wait for leaves it paused."""
    world = World()
    runtime = await paying(world)
    result = await runtime.deliver_signal(run_id="r", signal_id="s", name="refunded")
    assert result.kind == "buffered"
    assert result.run is not None and result.run.status == "paused"


@asynchronous
async def test_signals_to_nobody() -> None:
    """Mail for an unknown run is `not_found`; for one that has ended `not_waiting`, with its state."""
    world = World()
    runtime = world.runtime()
    missing = await paid(runtime, run_id="nope")
    assert (missing.kind, missing.run, missing.run_id) == ("not_found", None, "nope")
    await runtime.start_run("greet", run_id="r", input="Ann")
    ended = await paid(runtime)
    assert (ended.kind, ended.output) == ("not_waiting", "Hello Ann")


@asynchronous
async def test_a_queued_run_is_driven_by_an_early_signal() -> None:
    """A delivery to a run that is ready anyway takes it up, and the signal is there when it asks."""
    world = World()
    runtime = world.runtime()
    await runtime.start_run("pay", run_id="r", input=ORDER, drive=False)
    assert (await paid(runtime)).kind == "completed"


@pytest.mark.parametrize("step", ["reserve", "ship"])
@asynchronous
async def test_a_run_that_is_driven_here_sees_its_signal_at_once(step: str) -> None:
    """A signal for a run under way in this process is in its log before the step in hand has ended."""
    world = World()
    runtime = world.runtime()

    @create_workflow(id="both")
    async def both(ctx: Context[None]) -> str:
        async with asyncio.TaskGroup() as group:
            group.create_task(ctx.step("reserve", world.app.work))
            payment = await ctx.wait_for_event("paid", str)
        return payment

    runtime = world.runtime(workflows=[both])
    release = world.app.blocks("reserve")
    drive = asyncio.create_task(runtime.start_run("both", run_id="r"))
    await world.app.entered["reserve"].wait()
    assert (await paid(runtime)).kind == "buffered"
    await seen(runtime, "SIGNAL_RESOLVED")
    assert not drive.done()
    release.set()
    assert (await drive).output == "card"


@asynchronous
async def test_a_signal_is_seen_that_came_while_middleware_prepared() -> None:
    """A signal that arrives before the handler has started is in the log before its first step has ended."""
    world = World()
    ready = asyncio.Event()

    @middleware
    async def slow(ctx: Context[Any], call_next: Any) -> Any:
        world.app.entered["middleware"].set()
        await ready.wait()
        return await call_next()

    @create_workflow(id="both", middleware=[slow])
    async def both(ctx: Context[None]) -> str:
        async with asyncio.TaskGroup() as group:
            group.create_task(ctx.step("reserve", world.app.work))
            return await ctx.wait_for_event("paid", str)

    runtime = world.runtime(workflows=[both])
    world.app.entered["middleware"] = asyncio.Event()
    release = world.app.blocks("reserve")
    drive = asyncio.create_task(runtime.start_run("both", run_id="r"))
    await world.app.entered["middleware"].wait()
    assert (await paid(runtime)).kind == "buffered"
    ready.set()
    await asyncio.wait_for(seen(runtime, "SIGNAL_RESOLVED"), 5)
    release.set()
    assert (await drive).output == "card"


@asynchronous
async def test_a_signal_in_the_moment_of_the_pause_is_seen() -> None:
    """A signal that arrives while the last step before the wait is under way is not slept through."""
    world = World()
    runtime = world.runtime()
    release = world.app.blocks("reserve")
    drive = asyncio.create_task(runtime.start_run("pay", run_id="r", input=ORDER))
    await world.app.entered["reserve"].wait()
    assert (await paid(world.runtime())).kind == "buffered"
    release.set()
    assert (await drive).kind == "completed"


@asynchronous
async def test_payloads_may_be_models() -> None:
    """A payload is plain JSON, or an instance of a type that pydantic knows."""

    class Payment(BaseModel):
        amount: int

    @dataclass
    class Same:
        amount: int

    for payload in ({"amount": 3}, Payment(amount=3), Same(3)):

        @create_workflow(id="model")
        async def model(ctx: Context[None]) -> int:
            return (await ctx.wait_for_event("paid", Payment)).amount

        runtime = World().runtime(workflows=[model])
        await runtime.start_run("model", run_id="r")
        assert (await paid(runtime, payload=payload)).output == 3


@asynchronous
async def test_a_payload_that_does_not_fit_is_the_handlers() -> None:
    """A payload that is not what the handler waits for is used up, and raises in the handler."""
    world = World()
    result = await paid(await paying(world), payload={"no": "string"})
    assert (result.kind, result.error.type) == ("errored", "PayloadError")


# Approvals


@asynchronous
async def test_a_decision_reaches_the_handler() -> None:
    """Approved or not, with the feedback, by the approval's id."""
    for approved, output in [(True, "yes: fine"), (False, "no: fine")]:
        runtime = World().runtime()
        await runtime.start_run("ask", run_id="r")
        assert (await decide(runtime, approved, feedback="fine")).output == output


@asynchronous
async def test_the_first_decision_counts() -> None:
    """A second decision on an approval is a `duplicate`, whatever it says."""
    world = World()
    runtime = world.runtime()
    await runtime.start_run("ask", run_id="r")
    assert (await decide(runtime, True, drive=False)).kind == "queued"
    assert (await decide(runtime, False)).kind == "duplicate"
    (result,) = (await runtime.sweep()).ready
    assert result.output == "yes: None"


@asynchronous
async def test_an_approval_has_its_time() -> None:
    """A decision after the timeout does not count: the log has decided."""
    world = World()
    runtime = world.runtime()
    await runtime.start_run("ask", run_id="r")
    world.clock.advance(DAY)
    (result,) = (await runtime.sweep()).timers
    assert result.output == "nobody cared"
    assert (await decide(runtime)).kind == "not_waiting"


@asynchronous
async def test_a_decision_before_its_timeout_beats_it() -> None:
    """A decision that was sent in time counts, though nobody has looked until after the timeout."""
    world = World()
    runtime = world.runtime()
    await runtime.start_run("ask", run_id="r")
    world.clock.advance(DAY - timedelta(seconds=1))
    await decide(runtime, drive=False)
    world.clock.advance(DAY)
    assert [result.output for result in (await runtime.sweep()).ready] == ["yes: None"]


@asynchronous
async def test_a_timeout_that_nobody_fired_beats_a_late_decision() -> None:
    """A decision sent after the timeout comes too late, though nobody has swept in between."""
    world = World()
    runtime = world.runtime()
    await runtime.start_run("ask", run_id="r")
    world.clock.advance(DAY * 2)
    assert (await decide(runtime)).output == "nobody cared"


# Time and bad input


@asynchronous
async def test_now_is_the_time_of_a_delivery() -> None:
    """The drive that follows a delivery sees the time that was given for it."""
    world = World()
    later = START + 3 * DAY
    result = await paid(await paying(world), now=later)
    assert result.run.completed_at == later
    await world.runtime().start_run("book", run_id="b", now=START)
    cancelled = await world.runtime().cancel_run("b", now=later)
    assert cancelled.run is not None and cancelled.run.completed_at == later


NAIVE = datetime(2026, 1, 1)  # noqa: DTZ001
BAD_SIGNALS: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"run_id": ""}, InvalidArgumentError, "run_id must not be empty"),
    ({"signal_id": ""}, InvalidArgumentError, "signal_id must not be empty"),
    ({"signal_id": None}, InvalidArgumentError, "signal_id must be a string"),
    ({"name": "a\nb"}, InvalidArgumentError, "signal name"),
    ({"payload": float("nan")}, PayloadError, "nan"),
    ({"payload": {"when": NAIVE}}, PayloadError, "payload of signal 'paid'"),
    ({"payload": {1: 2}}, PayloadError, "keys of type int"),
    ({"payload": object()}, Exception, "object"),
    ({"payload": "x" * (16 * 1024 * 1024)}, PayloadError, "at most 16,777,216"),
    ({"now": NAIVE}, InvalidArgumentError, "now must be an aware datetime"),
    ({"max_duration": -1}, InvalidArgumentError, "max_duration"),
]


@pytest.mark.parametrize(("wrong", "error", "says"), BAD_SIGNALS)
@asynchronous
async def test_bad_signals_are_refused(wrong: dict[str, Any], error: type[Exception], says: str) -> None:
    """Each bad argument is an error that names it; nothing is delivered."""
    world = World()
    runtime = await paying(world)
    before = await world.store.get_run("r")
    arguments: dict[str, Any] = {"run_id": "r", "signal_id": "s", "name": "paid", "payload": "card"} | wrong
    with pytest.raises(error, match=says):
        await runtime.deliver_signal(**arguments)
    assert await world.store.get_run("r") == before


@pytest.mark.parametrize("approved", ["no", 0, None, 1])
@asynchronous
async def test_a_decision_is_a_boolean(approved: Any) -> None:
    """Nothing but True approves: a form's "no" must not."""
    runtime = World().runtime()
    await runtime.start_run("ask", run_id="r")
    with pytest.raises(InvalidArgumentError, match="approved must be"):
        await decide(runtime, approved)


@pytest.mark.parametrize("wrong", [{"feedback": 5}, {"meta": {"a": float("inf")}}, {"meta": [1]}, {"now": NAIVE}])
@asynchronous
async def test_bad_decisions_are_refused(wrong: dict[str, Any]) -> None:
    """A decision that could not be read back is refused, and the approval is still open."""
    world = World()
    runtime = world.runtime()
    await runtime.start_run("ask", run_id="r")
    before = await world.store.get_run("r")
    with pytest.raises((InvalidArgumentError, PayloadError)):
        await decide(runtime, **wrong)
    assert await world.store.get_run("r") == before
