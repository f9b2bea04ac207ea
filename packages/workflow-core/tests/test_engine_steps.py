"""Attempts of steps: retries, backoffs, timeouts, errors that look alike live and on replay. DESIGN 4.5."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from workflow.core import (
    Context,
    NonRetryableError,
    Retry,
    RetryAfter,
    StepError,
    StepTimeoutError,
    create_workflow,
    current_step,
)
from workflow.core.errors import HandlerError, StepResultError

from .engine_kit import START, Gates, World, at, echo, play, settle

Handler = Callable[[Context], Coroutine[Any, Any, Any]]


def world_of(handler: Handler, **environment: Any) -> World:
    return World(create_workflow(id="w")(handler), **environment)


class Flaky:
    """A step function that fails with these errors before it succeeds."""

    def __init__(self, *errors: BaseException) -> None:
        self.errors = list(errors)
        self.attempts: list[tuple[int, int]] = []

    async def __call__(self) -> str:
        step = current_step()
        self.attempts.append((step.attempt, step.max_attempts))
        if self.errors:
            raise self.errors.pop(0)
        return f"attempt {step.attempt}"


def test_short_backoff_is_waited_for_in_place() -> None:
    """A backoff within the drive's patience costs no pause: the same drive tries again."""
    flaky = Flaky(ValueError("1"), ValueError("2"))

    async def w(ctx: Context) -> str:
        return await ctx.step("a", flaky, retry=Retry(initial_delay=0.5, jitter=False))

    world = world_of(w)
    outcome = play(world.start())
    assert (outcome.output, flaky.attempts) == ("attempt 3", [(1, 3), (2, 3), (3, 3)])
    assert world.trace == ["STEP_RETRYING a", "STEP_RETRYING a", "STEP_FINISHED a", "RUN_FINISHED"]
    assert world.clock.now() == at(1.5)


def test_long_backoff_pauses_the_run() -> None:
    """A long backoff releases the run until its time, with the attempt and the error in the log."""
    flaky = Flaky(ValueError("no"))

    async def w(ctx: Context) -> str:
        return await ctx.step("a", flaky, retry=Retry(initial_delay=600, max_delay=600, jitter=False))

    async def scenario() -> None:
        world = world_of(w)
        outcome = await world.start()
        assert (outcome.kind, outcome.run.due_at) == ("paused", at(600))
        assert [(wait.kind, wait.id) for wait in outcome.run.waits] == [("retry", "a")]
        early = await world.drive(force=True)
        assert (early.kind, len(flaky.attempts)) == ("paused", 1)
        world.clock.set(at(600))
        assert (await world.drive()).output == "attempt 2"

    play(scenario())


def test_backoff_beyond_the_budget_pauses() -> None:
    """A short backoff that would end after the drive's deadline is not waited for in place."""
    flaky = Flaky(ValueError("no"))

    async def w(ctx: Context) -> str:
        return await ctx.step("a", flaky, retry=Retry(initial_delay=1.5, jitter=False))

    outcome = play(world_of(w, deadline=at(1)).start())
    assert (outcome.kind, outcome.run.due_at) == ("paused", at(1.5))


def test_retry_after_chooses_the_delay() -> None:
    """`RetryAfter` in a step chooses the next delay; the policy's attempts still count."""
    flaky = Flaky(RetryAfter(90), RetryAfter(1), RetryAfter(1, "still busy"))

    async def w(ctx: Context) -> str:
        try:
            return await ctx.step("a", flaky, retry=Retry(initial_delay=5))
        except StepError as error:
            return error.message

    async def scenario() -> None:
        world = world_of(w)
        assert (await world.start()).run.due_at == at(90)
        world.clock.set(at(90))
        assert (await world.drive()).output == "still busy"
        assert world.clock.now() == at(91)

    play(scenario())


class Busy(Exception):  # noqa: N818
    pass


@pytest.mark.parametrize(
    ("error", "retry"),
    [
        (NonRetryableError("stop"), Retry()),
        (ValueError("given up"), Retry(give_up_on=(ValueError,))),
        (ValueError("not listed"), Retry(retry_on=(Busy,))),
        (ValueError("asked"), Retry(should_retry=lambda error: isinstance(error, Busy))),
        (ValueError("policy fails"), Retry(should_retry=lambda error: 1 / 0 > 0)),
        (ValueError("once"), None),
        (ValueError("none"), Retry.none()),
    ],
    ids=lambda value: str(value)[:20] if isinstance(value, BaseException) else "",
)
def test_errors_that_are_not_retried(error: Exception, retry: Retry | None) -> None:
    """What a policy does not retry fails the step with its first attempt."""
    flaky = Flaky(error)

    async def w(ctx: Context) -> int:
        try:
            await ctx.step("a", flaky, retry=retry)
        except StepError as caught:
            return caught.attempts
        return 0

    assert (play(world_of(w).start()).output, len(flaky.attempts)) == (1, 1)


def test_default_retry_of_the_workflow() -> None:
    """Steps without a policy of their own have the workflow's."""
    flaky, own = Flaky(Busy()), Flaky(Busy())

    @create_workflow(id="w", default_retry=Retry(max_attempts=2, initial_delay=0))
    async def w(ctx: Context) -> str:
        found = await ctx.step("a", flaky)
        with pytest.raises(StepError):
            await ctx.step("b", own, retry=Retry.none())
        return found

    assert play(World(w).start()).output == "attempt 2"


class Special(Busy):
    pass


def test_step_error_is_equal_live_and_on_replay() -> None:
    """The handler sees the same error live and on replay, but for the original, which only a live one has."""
    seen: list[StepError] = []

    async def w(ctx: Context) -> None:
        try:
            await ctx.step("a", Flaky(Special("one"), Special("two")), retry=Retry(max_attempts=2, initial_delay=0))
        except StepError as error:
            seen.append(error)
        await ctx.wait_for_event("go")

    async def scenario() -> None:
        world = world_of(w)
        await world.start()
        await world.signal("go")
        await world.drive()

    play(scenario())
    live, replayed = seen
    assert type(live) is type(replayed) is StepError
    assert str(live) == str(replayed) == "Step 'a' failed after 2 attempts: Special: two"
    assert vars(live) == vars(replayed)
    assert (replayed.step_id, replayed.error_type, replayed.message, replayed.attempts) == ("a", "Special", "two", 2)
    for kind in (Special, Busy, Exception):
        assert live.is_type(kind) and replayed.is_type(kind)
    assert not replayed.is_type(ValueError)
    assert isinstance(live.__cause__, Special) and replayed.__cause__ is None


@pytest.mark.parametrize("sync", [False, True])
def test_timeout_bounds_each_attempt(sync: bool) -> None:
    """An attempt that is longer than its timeout is cancelled and tried again, then fails with `StepTimeoutError`."""
    gates, flags, hold = Gates(), list[Any](), threading.Event()

    async def slow() -> None:
        flags.append(current_step().cancelled)
        await gates(f"slow {current_step().attempt}")

    entered: list[asyncio.AbstractEventLoop] = []

    def slow_sync() -> None:
        flags.append(current_step().cancelled)
        entered[0].call_soon_threadsafe(ready.set)
        hold.wait(20)

    ready = asyncio.Event()

    async def w(ctx: Context) -> str:
        try:
            step: Any = slow_sync if sync else slow
            await ctx.step("a", step, timeout=10, retry=Retry(max_attempts=2, initial_delay=0))
        except StepTimeoutError as error:
            return f"{isinstance(error, TimeoutError)} {error.attempts} {error.message}"
        return "in time"

    async def scenario() -> None:
        entered.append(asyncio.get_running_loop())
        world = world_of(w)
        drive = world.begin(await world.create())
        for _ in range(2):
            await (ready.wait() if sync else settle())
            ready.clear()
            await settle()
            world.clock.advance(10)
        outcome = await drive
        hold.set()
        assert outcome.output == "True 2 An attempt took longer than its timeout of 10 s."
        assert [flag.is_set() for flag in flags] == [True, True]
        assert (await world.cut(2).drive()).output == outcome.output

    play(scenario())


@pytest.mark.parametrize("timeout", [0, 1e-9])
def test_timeout_that_is_over_at_once(timeout: float) -> None:
    """A step that waits for nothing is done before it strikes, and one that waits is cut off."""
    gates = Gates()

    async def w(ctx: Context) -> list[Any]:
        done = await ctx.step("quick", echo, 1, timeout=timeout)
        try:
            await ctx.step("slow", gates, "slow", timeout=timeout)
        except StepTimeoutError as error:
            return [done, error.attempts]
        return ["in time"]

    assert play(world_of(w).start()).output == [1, 1]
    assert gates.cancelled == ["slow"]


def test_timeout_beyond_the_calendar() -> None:
    """It never strikes."""

    async def w(ctx: Context) -> int:
        return await ctx.step("a", echo, 1, timeout=1e12)

    assert play(world_of(w).start()).output == 1


def test_timeout_counts_from_the_start_of_the_attempt() -> None:
    """Time that passes before an attempt starts, in the commit before it, is not the attempt's."""
    deadlines: list[Any] = []

    async def look() -> None:
        deadlines.append(current_step().deadline)

    async def w(ctx: Context) -> None:
        await ctx.step("a", echo)
        await ctx.step("b", look, timeout=10)

    async def scenario() -> None:
        world = world_of(w)

        async def slow_commit(commit: Any) -> None:
            world.clock.advance(100)

        world.store.before_commit = slow_commit
        await world.start()
        assert deadlines == [at(110)]

    play(scenario())


def test_step_context() -> None:
    """A step knows its id, its stable key, its attempt, and how much time is left."""
    seen: list[Any] = []

    def look() -> None:
        step = current_step()
        seen.append((step.step_id, step.idempotency_key, step.attempt, step.max_attempts, step.deadline))
        seen.append((step.time_remaining(), step.should_yield(), step.cancelled.is_set()))

    async def w(ctx: Context) -> None:
        await ctx.step("a", look, timeout=30)
        with pytest.raises(HandlerError):
            current_step()

    play(world_of(w, deadline=at(20)).start())
    assert seen[0] == ("a", "run-1:a", 1, 1, at(20))
    assert seen[1][0].total_seconds() == 20 and seen[1][1:] == (False, False)


def test_result_that_json_can_not_hold_fails_the_step() -> None:
    """A result that would not come back as it was is a `PayloadError` for the handler, never tried again."""
    calls: list[int] = []

    async def returns_tuple() -> Any:
        calls.append(1)
        return (1, 2)

    seen: list[StepError] = []

    async def w(ctx: Context) -> str:
        try:
            await ctx.step("pair", returns_tuple, retry=Retry(max_attempts=3, initial_delay=0))
        except StepResultError as error:
            seen.append(error)
            return "refused"
        return "taken"

    async def scenario() -> None:
        world = world_of(w)
        assert (await world.start()).output == "refused"
        assert (await world.cut(1).drive()).output == "refused"

    play(scenario())
    live, replayed = seen
    assert calls == [1] and str(live) == str(replayed)
    assert "'pair'" in str(live) and "annotat" in str(live).lower()
    assert str(live).count("failed after") == 1


def test_partial_methods_and_callables_are_steps() -> None:
    """Anything callable is a step function: partials, methods, classes, objects, lambdas."""
    from functools import partial

    class Service:
        async def double(self, value: int) -> int:
            return 2 * value

        def half(self, value: int) -> int:
            return value // 2

    async def keywords(a: int, *, b: int) -> int:
        return a + b

    async def w(ctx: Context) -> list[int]:
        service = Service()
        return [
            await ctx.step("partial", partial(keywords, b=2), 1),
            await ctx.step("method", service.double, 2),
            await ctx.step("sync", service.half, 10),
            await ctx.step("class", int, "6"),
            await ctx.step("lambda", lambda: 7),
        ]

    assert play(world_of(w).start()).output == [3, 4, 5, 6, 7]


def test_attempts_are_published() -> None:
    """Observers hear of every start, retry and end, in order, after they are committed."""
    flaky = Flaky(ValueError("no"))

    async def w(ctx: Context) -> None:
        await ctx.step("a", flaky, retry=Retry(initial_delay=1, jitter=False), meta={"label": "A"})

    world = world_of(w)
    play(world.start())
    assert world.published_types() == [
        "RUN_STARTED",
        "STEP_STARTED",
        "STEP_RETRYING",
        "STEP_STARTED",
        "STEP_FINISHED",
        "RUN_FINISHED",
    ]
    started = [event for event in world.published if event.type == "STEP_STARTED"]  # type: ignore[attr-defined]
    assert [(event.attempt, event.meta, event.index) for event in started] == [  # type: ignore[attr-defined]
        (1, {"label": "A"}, None),
        (2, {"label": "A"}, None),
    ]
    assert started[0].at == START
