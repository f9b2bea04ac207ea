"""Retrying runs that have failed, and going on from a step in a new run."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from workflow.core import (
    Context,
    InvalidArgumentError,
    PayloadError,
    Retry,
    RunNotFoundError,
    StepError,
    Workflow,
    create_workflow,
)
from workflow.core.context import Context as AnyContext
from workflow.runtime import Queue, Registration, RunResult, Schedule, WorkflowRuntime, every
from workflow.runtime.testing import CrashingStore, CrashPoint, LostConnection

from .runtime_kit import DAY, MINUTE, World, asynchronous


class Chain:
    """A workflow of three steps, a signal and a fourth step, of which those in `broken` fail."""

    def __init__(self) -> None:
        self.broken: set[str] = set()
        self.ran: list[str] = []
        self.workflow: Workflow[Any, Any] = create_workflow(id="chain")(self.handle)

    async def work(self, name: str) -> str:
        self.ran.append(name)
        if name in self.broken:
            raise ValueError(f"{name} is broken")
        return name.upper()

    async def handle(self, ctx: AnyContext[None]) -> list[Any]:
        one = await ctx.step("one", self.work, "one")
        told = await ctx.wait_for_event("go", str)
        two = await ctx.step("two", self.work, "two")
        try:
            three = await ctx.step("three", self.work, "three")
        except StepError:
            await ctx.step("undo", self.work, "undo")
            raise
        return [one, told, two, three, str(await ctx.uuid())]

    async def run_to_failure(self, runtime: WorkflowRuntime, *broken: str) -> RunResult[Any]:
        self.broken = set(broken)
        await runtime.start_run("chain", run_id="r")
        return await runtime.deliver_signal(run_id="r", signal_id="s", name="go", payload="now")


@asynchronous
async def test_a_failed_run_goes_on_from_the_step_that_failed() -> None:
    """What had finished is not executed again; the failed step and what comes after it is."""
    chain, world = Chain(), World()
    runtime = world.runtime(workflows=[chain.workflow])
    assert (await chain.run_to_failure(runtime, "two")).kind == "errored"
    chain.broken.clear()
    result = await runtime.retry_run("r", reason="two is repaired")
    assert (result.kind, result.created) == ("completed", False)
    assert result.output is not None
    assert result.output[:4] == ["ONE", "now", "TWO", "THREE"]
    assert chain.ran == ["one", "two", "two", "three"]
    await world.check()


@asynchronous
async def test_the_log_keeps_what_was() -> None:
    """Nothing is erased: the failure, the retry with its reason and the old error, and what came then."""
    chain, world = Chain(), World()
    runtime = world.runtime(workflows=[chain.workflow])
    await chain.run_to_failure(runtime, "two")
    chain.broken.clear()
    await runtime.retry_run("r", reason="repaired")
    events: Any = await runtime.get_timeline("r")
    types = [event.type for event in events]
    assert types == [
        "STEP_FINISHED",
        "SIGNAL_AWAITED",
        "SIGNAL_RESOLVED",
        "STEP_FAILED",
        "RUN_ERRORED",
        "RUN_RETRIED",
        "STEP_FINISHED",
        "STEP_FINISHED",
        "UUID_RECORDED",
        "RUN_FINISHED",
    ]
    retried = events[5]
    assert (retried.voided, retried.reason, retried.error.type) == ((3, 4), "repaired", "StepError")


@asynchronous
async def test_a_run_may_be_retried_again_and_again() -> None:
    """Each retry that fails can be followed by another."""
    chain, world = Chain(), World()
    runtime = world.runtime(workflows=[chain.workflow])
    await chain.run_to_failure(runtime, "two")
    for _ in range(3):
        assert (await runtime.retry_run("r")).kind == "errored"
    chain.broken.clear()
    assert (await runtime.retry_run("r")).kind == "completed"
    assert chain.ran == ["one", *["two"] * 5, "three"]


@asynchronous
async def test_compensation_is_void() -> None:
    """What the handler did after the failure is of no account: it is done again if it fails again."""
    chain, world = Chain(), World()
    runtime = world.runtime(workflows=[chain.workflow])
    await chain.run_to_failure(runtime, "three")
    assert (await runtime.retry_run("r")).kind == "errored"
    chain.broken.clear()
    assert (await runtime.retry_run("r")).kind == "completed"
    assert chain.ran == ["one", "two", *["three", "undo"] * 2, "three"]


@asynchronous
async def test_going_back_further_brings_the_mail_again() -> None:
    """From an earlier step on everything is void; a signal that was received since is received again."""
    chain, world = Chain(), World()
    runtime = world.runtime(workflows=[chain.workflow])
    await chain.run_to_failure(runtime, "two")
    chain.broken.clear()
    result = await runtime.retry_run("r", from_step="one")
    assert result.kind == "completed"
    assert result.output is not None
    assert result.output[1] == "now"
    assert chain.ran == ["one", "two", "one", "two", "three"]
    duplicate = await runtime.deliver_signal(run_id="r", signal_id="s", name="go", payload="now")
    assert duplicate.kind == "duplicate"


@asynchronous
async def test_attempts_begin_anew() -> None:
    """A step that had used up its attempts has all of them again."""
    world = World()
    runtime = world.runtime()
    attempts: list[int] = []

    @create_workflow(id="flaky")
    async def flaky(ctx: Context[None]) -> int:
        from workflow.core import Retry, current_step

        def work() -> int:
            attempts.append(current_step().attempt)
            if len(attempts) < 5:
                raise ValueError("not yet")
            return len(attempts)

        return await ctx.step("work", work, retry=Retry(max_attempts=3, initial_delay=0.1, jitter=False))

    runtime = world.runtime(workflows=[flaky])
    assert (await runtime.start_run("flaky", run_id="r")).kind == "errored"
    assert (await runtime.retry_run("r")).output == 5
    assert attempts == [1, 2, 3, 1, 2]


@asynchronous
async def test_an_error_of_the_handler_goes_on_where_it_was() -> None:
    """Where no step has failed, the repaired handler goes on with everything that was recorded."""
    world, ran = World(), list[str]()

    def make(broken: bool) -> Workflow[Any, Any]:
        def work(name: str) -> str:
            ran.append(name)
            return name

        @create_workflow(id="w")
        async def w(ctx: Context[None]) -> str:
            name = await ctx.step("a", work, "a")
            if broken:
                raise KeyError("a mistake")
            return await ctx.step("b", work, f"{name}b")

        return w

    assert (await world.runtime(workflows=[make(True)]).start_run("w", run_id="r")).kind == "errored"
    result = await world.runtime(workflows=[make(False)]).retry_run("r")
    assert (result.kind, result.output) == ("completed", "ab")
    assert ran == ["a", "ab"]


@asynchronous
async def test_a_cancelled_run_goes_on_before_its_cancellation() -> None:
    """A run that was cancelled by mistake waits again for what it waited for, and can be cancelled again."""
    world = World()
    runtime = world.runtime()
    await runtime.start_run("book", run_id="b")
    assert (await runtime.cancel_run("b")).kind == "cancelled"
    assert (await runtime.retry_run("b")).kind == "paused"
    assert (await runtime.cancel_run("b")).kind == "cancelled"
    await runtime.retry_run("b")
    confirmed = await runtime.deliver_signal(run_id="b", signal_id="c", name="confirmed")
    assert (confirmed.kind, confirmed.output) == ("completed", "booked")
    assert world.app.ran("b") == ["book", "unbook", "unbook"]


@asynchronous
async def test_a_time_limit_begins_anew() -> None:
    """A run that was cancelled by its time limit has the whole time again."""
    world = World()
    runtime = world.runtime()
    await runtime.start_run("book", run_id="b", timeout=DAY)
    world.clock.advance(DAY)
    await runtime.sweep()
    assert (await runtime.retry_run("b")).kind == "paused"
    world.clock.advance(DAY - MINUTE)
    assert (await runtime.sweep()).summary.total == 0
    world.clock.advance(MINUTE)
    assert (await runtime.sweep()).summary.timers == {"cancelled": 1}


@asynchronous
async def test_a_time_limit_does_not_grow() -> None:
    """Of a run that is retried days later, and again, the limit is as far away as at first; of its rerun too."""
    world = World()
    runtime = world.runtime()
    await runtime.start_run("fail", run_id="f", input="x", timeout=60)
    for _ in range(3):
        world.clock.advance(DAY)
        assert (await runtime.retry_run("f")).kind == "errored"
        run = await runtime.get_run("f")
        assert run is not None
        assert run.expires_at == world.clock.now() + MINUTE
    world.clock.advance(DAY)
    rerun = await runtime.rerun_from("f", "broken")
    assert rerun.run is not None
    assert rerun.run.expires_at == world.clock.now() + MINUTE


@asynchronous
async def test_a_delay_is_no_part_of_the_time_limit() -> None:
    """The limit that a registration gives counts from when a run is first due: so it does when it begins anew."""
    world = World()
    workflows = [Registration(workflow, timeout=60) for workflow in world.app.workflows]
    runtime = world.runtime(workflows=workflows)
    await runtime.start_run("fail", run_id="f", input="x", delay=DAY)
    world.clock.advance(DAY + timedelta(seconds=20))  # nobody was there in time
    await runtime.sweep()
    for _ in range(2):
        world.clock.advance(DAY)
        await runtime.retry_run("f")
        run = await runtime.get_run("f")
        assert run is not None and run.expires_at == world.clock.now() + MINUTE
    rerun = await runtime.rerun_from("f", "broken")
    assert rerun.run is not None and rerun.run.expires_at == world.clock.now() + MINUTE


@asynchronous
async def test_a_limit_of_its_own_is_not_taken_for_the_usual_one() -> None:
    """A start that gave a longer limit than the registration's keeps it in a retry."""
    world = World()
    runtime = world.runtime(workflows=[Registration(workflow, timeout=60) for workflow in world.app.workflows])
    await runtime.start_run("fail", run_id="f", input="x", timeout=DAY)
    world.clock.advance(DAY)
    await runtime.retry_run("f")
    run = await runtime.get_run("f")
    assert run is not None and run.expires_at == world.clock.now() + DAY


@asynchronous
async def test_of_several_failures_the_one_that_was_raised_is_repaired() -> None:
    """Where a handler looks at all outcomes before it raises one, what failed after that one is void too."""
    world, broken = World(), {"a", "b"}

    def work(name: str) -> str:
        if name in broken:
            raise ValueError(name)
        return name

    @create_workflow(id="both")
    async def both(ctx: Context[None]) -> list[str]:
        steps = (ctx.step(name, work, name) for name in "ab")
        results: list[str | BaseException] = await asyncio.gather(*steps, return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result
        return [str(result) for result in results]

    runtime = world.runtime(workflows=[both])
    failed = await runtime.start_run(both, run_id="r")
    assert failed.error is not None
    assert "'a'" in failed.error.message
    broken.clear()
    assert (await runtime.retry_run("r")).output == ["a", "b"]


@asynchronous
async def test_a_step_that_is_tried_once_gets_its_attempt_anew() -> None:
    """A step with `Retry.at_most_once` is executed once more by a retry, and not taken for one that was interrupted."""
    world, broken = World(), True

    def work() -> str:
        if broken:
            raise ValueError("declined")
        return "charged"

    @create_workflow(id="once")
    async def once(ctx: Context[None]) -> str:
        return await ctx.step("charge", work, retry=Retry.at_most_once())

    runtime = world.runtime(workflows=[once])
    assert (await runtime.start_run(once, run_id="r")).kind == "errored"
    broken = False
    assert (await runtime.retry_run("r")).output == "charged"


@asynchronous
async def test_a_retry_keeps_to_the_limits_of_its_queue() -> None:
    """A retried run waits for a slot as any other."""
    world = World()
    runtime = world.runtime(queues=[Queue("q", concurrency=1)])
    await runtime.start_run("fail", run_id="f", input="x", queue="q")
    blocked = world.app.blocks("hello")
    holding = asyncio.create_task(runtime.start_run("greet", run_id="g", input="Ann", queue="q"))
    await world.app.entered["hello"].wait()
    assert (await runtime.retry_run("f")).kind == "queued"
    blocked.set()
    await holding
    assert (await runtime.sweep()).summary.ready == {"errored": 1}


@asynchronous
async def test_of_two_retries_one_happens() -> None:
    """Two people who retry at once do it once."""
    chain, world = Chain(), World()
    runtime = world.runtime(workflows=[chain.workflow])
    await chain.run_to_failure(runtime, "two")
    chain.broken.clear()
    answers = await asyncio.gather(*(runtime.retry_run("r") for _ in range(2)), return_exceptions=True)
    kinds = [answer.kind for answer in answers if isinstance(answer, RunResult)]
    assert "completed" in kinds
    assert all(isinstance(answer, (RunResult, InvalidArgumentError)) for answer in answers)
    assert chain.ran == ["one", "two", "two", "three"]
    assert sum(event.type == "RUN_RETRIED" for event in await runtime.get_timeline("r")) == 1  # type: ignore[attr-defined]


@asynchronous
async def test_a_lost_answer_loses_nothing() -> None:
    """A retry whose answer was lost has happened: a sweep goes on with the run."""
    chain, world = Chain(), World()
    runtime = world.runtime(workflows=[chain.workflow])
    await chain.run_to_failure(runtime, "two")
    chain.broken.clear()
    lossy = CrashingStore(world.store, CrashPoint("reopen", fatal=False))
    with pytest.raises(LostConnection):
        await world.runtime(lossy, workflows=[chain.workflow]).retry_run("r")
    with pytest.raises(InvalidArgumentError, match="has not ended"):
        await runtime.retry_run("r")
    assert (await runtime.sweep()).summary.ready == {"completed": 1}


@asynchronous
async def test_what_can_not_be_retried() -> None:
    """A run that is not there, has completed, or goes on; a step that the run has not had."""
    chain, world = Chain(), World()
    runtime = world.runtime(workflows=[chain.workflow, *world.app.workflows])
    with pytest.raises(RunNotFoundError):
        await runtime.retry_run("nobody")
    await runtime.start_run("greet", run_id="g", input="Ann")
    with pytest.raises(InvalidArgumentError, match="has completed"):
        await runtime.retry_run("g")
    await runtime.start_run("nap", run_id="n", input=60.0)
    with pytest.raises(InvalidArgumentError, match="has not ended"):
        await runtime.retry_run("n")
    await chain.run_to_failure(runtime, "two")
    with pytest.raises(InvalidArgumentError, match="Its steps are: 'one', 'two'"):
        await runtime.retry_run("r", from_step="three")


# In a new run


@pytest.mark.parametrize("reason", [5, "\ud800"])
@asynchronous
async def test_a_reason_that_is_no_text_is_refused(reason: Any) -> None:
    """Nothing is written that could not be shown to the next person who looks, of runs and schedules alike."""
    world = World()
    greet = Registration(world.app.workflows[0], schedules=[Schedule("s", every.hours(1), input="Ann")])
    runtime = world.runtime(workflows=[greet, *world.app.workflows[1:]])
    await runtime.start_run("fail", run_id="f", input="x")
    for call in (runtime.retry_run("f", reason=reason), runtime.pause_schedule("s", reason=reason)):
        with pytest.raises((InvalidArgumentError, PayloadError)):
            await call
    run = await runtime.get_run("f")
    assert run is not None
    assert (run.status, [info.paused for info in await runtime.list_schedules()]) == ("errored", [False])


@asynchronous
async def test_a_new_run_goes_on_from_a_step() -> None:
    """It has what was before the step, and executes the step and what follows; the old run stays as it is."""
    chain, world = Chain(), World()
    runtime = world.runtime(workflows=[chain.workflow])
    assert (await chain.run_to_failure(runtime)).kind == "completed"
    before = await runtime.get_run("r")
    world.clock.advance(DAY)
    result = await runtime.rerun_from("r", "three", new_run_id="r2")
    assert (result.kind, result.created, result.run_id) == ("completed", True, "r2")
    assert result.output is not None
    assert result.output[:4] == ["ONE", "now", "TWO", "THREE"]
    assert chain.ran == ["one", "two", "three", "three"]
    assert await runtime.get_run("r") == before
    again = await runtime.rerun_from("r", "three", new_run_id="r2")
    assert (again.kind, again.created) == ("completed", False)
    assert chain.ran.count("three") == 2
    await world.check()


@asynchronous
async def test_a_new_run_of_a_retried_one() -> None:
    """What a retry has voided is no part of the history of a new run either."""
    chain, world = Chain(), World()
    runtime = world.runtime(workflows=[chain.workflow])
    await chain.run_to_failure(runtime, "three")
    chain.broken.clear()
    await runtime.retry_run("r")
    result = await runtime.rerun_from("r", "three")
    assert result.kind == "completed"
    assert result.run_id.startswith("chain:")
    assert chain.ran == ["one", "two", "three", "undo", "three", "three"]
    with pytest.raises(InvalidArgumentError, match="no step 'undo'"):
        await runtime.rerun_from("r", "undo")
    with pytest.raises(RunNotFoundError):
        await runtime.rerun_from("nobody", "x")


@asynchronous
async def test_a_new_run_waits_for_its_own_mail() -> None:
    """From a step before a wait on, the new run waits; it has keys of its own."""
    chain, world = Chain(), World()
    runtime = world.runtime(workflows=[chain.workflow])
    await chain.run_to_failure(runtime)
    result = await runtime.rerun_from("r", "one", new_run_id="r2")
    assert result.kind == "paused"
    done = await runtime.deliver_signal(run_id="r2", signal_id="s", name="go", payload="later")
    assert done.kind == "completed"


@asynchronous
async def test_the_id_of_another_workflows_run_is_refused() -> None:
    """A new run can't take the id of a run of another workflow: nobody gets that one's output by mistake."""
    chain, world = Chain(), World()
    runtime = world.runtime(workflows=[chain.workflow, *world.app.workflows])
    await chain.run_to_failure(runtime)
    await runtime.start_run("greet", run_id="g", input="Ann")
    with pytest.raises(InvalidArgumentError, match=r"'greet'.*another run_id"):
        await runtime.rerun_from("r", "two", new_run_id="g")
