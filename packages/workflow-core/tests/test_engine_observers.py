"""State, live events, the logger, and middleware around a drive: DESIGN 3."""

from __future__ import annotations

import logging
from typing import Any

import jsonpatch  # type: ignore[import-untyped]
import pytest
from pydantic import BaseModel

from workflow.core import Context, NonRetryableError, create_workflow, middleware

from .engine_kit import World, echo, play


class Progress(BaseModel):
    done: list[str] = []
    total: int = 0


async def progressing(ctx: Context[None, Progress]) -> int:
    for name in "ab":
        await ctx.step(name, echo)
        ctx.state.done.append(name)
        ctx.emit("progress", len(ctx.state.done))
        ctx.logger.info("done %s", name)
    await ctx.wait_for_event("go")
    ctx.state.total = len(ctx.state.done)
    return ctx.state.total


def test_state_is_saved_with_commits_and_told_as_patches() -> None:
    """The state is saved with what is committed, and its changes are published as JSON Patches that add up to it."""

    async def scenario() -> None:
        world = World(create_workflow(id="w")(progressing))
        await world.start()
        assert Progress.model_validate_json(str(world.run.state)) == Progress(done=["a", "b"])
        await world.signal("go")
        outcome = await world.drive()
        assert outcome.run.state == world.run.state
        document: Any = None
        for event in world.published:
            if event.type == "STATE_DELTA":  # type: ignore[attr-defined]
                document = jsonpatch.apply_patch(document, list(event.delta))  # type: ignore[attr-defined]
        assert document == {"done": ["a", "b"], "total": 2}

    play(scenario())


def test_the_end_is_the_last_that_is_told() -> None:
    """A change of the state that comes with the end is told before it: who listens until the end misses nothing."""

    @create_workflow(id="w")
    async def w(ctx: Context[str, Progress]) -> None:
        ctx.state.total = 1
        if ctx.input == "errored":
            raise ValueError("boom")

    async def scenario(end: str) -> None:
        world = World(w)
        await world.start(end)
        assert world.run.status == end
        assert world.published_types()[-2:] == ["STATE_DELTA", "RUN_FINISHED" if end == "completed" else "RUN_ERRORED"]

    play(scenario("completed"))
    play(scenario("errored"))


def test_emit_and_logger_are_silent_during_replay(caplog: pytest.LogCaptureFixture) -> None:
    """What a handler emits and logs is told once, however often its code runs again."""

    async def scenario() -> World:
        world = World(create_workflow(id="w")(progressing))
        await world.start()
        await world.signal("go")
        await world.drive()
        return world

    with caplog.at_level(logging.INFO, "workflow.run"):
        world = play(scenario())
    customs = [event for event in world.published if event.type == "CUSTOM"]  # type: ignore[attr-defined]
    assert [event.value.value for event in customs] == [1, 2]  # type: ignore[attr-defined]
    assert caplog.messages == ["done a", "done b"]
    assert {record.run_id for record in caplog.records} == {"run-1"}  # type: ignore[attr-defined]


def test_published_events_are_committed_ones() -> None:
    """Observers hear of an event when a crash can no longer undo it, with the index that it has in the log."""
    heard: list[list[str]] = []

    @create_workflow(id="w")
    async def w(ctx: Context) -> None:
        heard.append(world.published_types())
        await ctx.step("a", echo)
        heard.append(world.published_types())
        await ctx.step("b", echo)

    world = World(w)
    play(world.start())
    assert heard == [[], ["RUN_STARTED", "STEP_STARTED"]]
    logged = [event for event in world.published if event.index is not None]
    assert logged[:-1] == world.log[:-1]
    assert (logged[-1].type, logged[-1].index) == (
        "RUN_FINISHED",
        2,
    )  # with the output, which the log leaves to the row


def layer(name: str, seen: list[str], **values: Any) -> Any:
    @middleware
    async def around(ctx: Any, call_next: Any) -> Any:
        seen.append(f"enter {name}")
        try:
            return await call_next(**values)
        finally:
            seen.append(f"exit {name}")

    return around


def test_middleware_is_an_onion_around_every_drive() -> None:
    """The first middleware is the outermost; each drive has its own values; a pause cleans up in order."""
    seen: list[str] = []

    class WithValues(Context[None]):
        one: int
        two: str

    @create_workflow(id="w", middleware=[layer("outer", seen, one=1), layer("inner", seen, two="2")])
    async def w(ctx: WithValues) -> str:
        seen.append(f"handler {ctx.one}{ctx.two}")
        await ctx.wait_for_event("go")
        return "done"

    async def scenario() -> None:
        world = World(w)
        assert (await world.start()).kind == "paused"
        around = ["enter outer", "enter inner", "handler 12", "exit inner", "exit outer"]
        assert seen == around
        await world.signal("go")
        assert (await world.drive()).output == "done"
        assert seen == around * 2

    play(scenario())


def test_middleware_sees_results_and_errors() -> None:
    """A middleware may change what the handler returned, or turn its error into a result."""

    @middleware
    async def doubling(ctx: Any, call_next: Any) -> Any:
        try:
            return 2 * await call_next()
        except ValueError:
            return -1

    @create_workflow(id="w", middleware=[doubling])
    async def w(ctx: Context[int]) -> int:
        if ctx.input < 0:
            raise ValueError("no")
        return ctx.input

    assert play(World(w).start(4)).output == 8
    assert play(World(w).start(-4)).output == -1


@pytest.mark.parametrize("catch", [BaseException, Exception])
def test_middleware_can_not_turn_a_pause_into_a_result(catch: type[BaseException]) -> None:
    """A middleware that swallows what comes out of `call_next`, or raises over it, leaves a pause a pause."""

    @middleware
    async def swallowing(ctx: Any, call_next: Any) -> Any:
        try:
            return await call_next()
        except BaseException as error:
            if isinstance(error, catch) and catch is BaseException:
                return "swallowed"
            raise RuntimeError("cleanup failed") from error

    @create_workflow(id="w", middleware=[swallowing])
    async def w(ctx: Context) -> str:
        return await ctx.wait_for_event("go", str)

    async def scenario() -> None:
        world = World(w)
        outcome = await world.start()
        assert (outcome.kind, world.run.status, world.run.output) == ("paused", "paused", None)
        await world.signal("go", "went")
        assert (await world.drive()).output == "went"

    play(scenario())


def test_middleware_that_fails_before_the_handler_postpones() -> None:
    """A resource that can't be had just now puts the run back with a delay; it is tried again, but not for ever."""
    failures = [ConnectionError("down"), ConnectionError("down")]

    @middleware
    async def connecting(ctx: Any, call_next: Any) -> Any:
        if failures:
            raise failures.pop()
        return await call_next()

    @create_workflow(id="w", middleware=[connecting])
    async def w(ctx: Context) -> str:
        return "connected"

    async def scenario() -> None:
        world = World(w)
        outcome = await world.start()
        assert outcome.kind == "postponed" and outcome.error is not None and outcome.error.type == "ConnectionError"
        assert world.run.waits[0].kind == "blocked"
        assert outcome.run == world.run
        assert (await world.cut(0).finish()).output == "connected"
        failures.extend([ConnectionError("down")] * 50)
        assert world.run.due_at is not None
        world.clock.set(world.run.due_at)
        assert (await world.finish()).kind == "errored"

    play(scenario())


@pytest.mark.parametrize("what", ["refuses", "after", "never", "twice", "missing", "shadowing"])
def test_middleware_mistakes_end_the_run_with_a_message(what: str) -> None:
    """A middleware that breaks its contract, refuses, or fails behind the handler ends the run as errored."""

    class Wants(Context[None]):
        db: str

    @middleware
    async def wrong(ctx: Any, call_next: Any) -> Any:
        if what == "refuses":
            raise NonRetryableError("not allowed")
        if what == "never":
            return "instead"
        result = await call_next(**({"input": 1} if what == "shadowing" else {} if what == "missing" else {"db": "db"}))
        if what == "twice":
            await call_next(db="db")
        if what == "after":
            raise RuntimeError("behind the handler")
        return result

    @create_workflow(id="w", middleware=[wrong])
    async def w(ctx: Wants) -> str:
        return ctx.db

    words = {"refuses": "not allowed", "after": "behind", "never": "call_next", "twice": "twice", "missing": "db"}
    outcome = play(World(w).start())
    assert outcome.kind == "errored" and outcome.error is not None
    assert words.get(what, "input") in outcome.error.message


def test_output_that_can_not_be_kept_ends_errored() -> None:
    """A result of the handler that JSON can't hold ends the run with `PayloadError`, not with a changed value."""

    @create_workflow(id="w")
    async def w(ctx: Context) -> Any:
        return {1: (2, 3)}

    outcome = play(World(w).start())
    assert outcome.kind == "errored" and outcome.error is not None and outcome.error.code == "payload"


def test_state_that_can_not_be_kept_ends_errored() -> None:
    """A state that JSON can't hold ends the run, with what has happened before in its log."""

    @create_workflow(id="w", state=dict)
    async def w(ctx: Context[None, dict[str, Any]]) -> None:
        await ctx.step("a", echo)
        ctx.state["bad"] = object()
        await ctx.step("b", echo)

    world = World(w)
    outcome = play(world.start())
    assert outcome.kind == "errored" and outcome.error is not None and outcome.error.code == "payload"
    assert world.trace == ["STEP_FINISHED a", "RUN_ERRORED"]
    assert outcome.run == world.run


def test_failing_initialize_ends_errored() -> None:
    """An `initialize` that fails for an input ends that run, and says why."""

    def initialize(input: int) -> dict[str, float]:
        return {"share": 1 / input}

    @create_workflow(id="w", initialize=initialize)
    async def w(ctx: Context[int, dict[str, float]]) -> float:
        return ctx.state["share"]

    assert play(World(w).start(4)).output == 0.25
    outcome = play(World(w).start(0))
    assert outcome.kind == "errored" and outcome.error is not None and outcome.error.type == "ZeroDivisionError"
