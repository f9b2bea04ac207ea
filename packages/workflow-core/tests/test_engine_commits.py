"""What a drive writes, and when: DESIGN 4.2."""

from __future__ import annotations

import asyncio

import pytest

from workflow.core import Context, Retry, create_workflow
from workflow.core.records import Commit

from .engine_kit import Gates, World, echo, play, settle


@pytest.mark.parametrize("count", [1, 2, 5])
def test_sequential_steps_cost_one_call_more_than_there_are(count: int) -> None:
    """n sequential steps cost n + 1 calls of the store in all, creation included."""

    @create_workflow(id="steps")
    async def steps(ctx: Context) -> int:
        for number in range(count):
            await ctx.step(f"s{number}", echo, number)
        return count

    world = World(steps)
    outcome = play(world.start())
    assert (outcome.kind, outcome.output) == ("completed", count)
    assert world.store.calls == ["create"] + ["commit"] * count


def test_last_result_is_written_with_the_end() -> None:
    """The result of the last step and the end of the run are one commit."""

    @create_workflow(id="one")
    async def one(ctx: Context) -> int:
        return await ctx.step("only", echo, 1)

    world = World(one)
    play(world.start())
    (commit,) = world.store.commits
    assert len(commit.records) == 2
    assert commit.transition is not None and commit.transition.status == "completed"


def test_now_and_uuid_cost_no_commit() -> None:
    """`now()` and `uuid()` are written with whatever comes next."""

    @create_workflow(id="values")
    async def values(ctx: Context) -> None:
        for _ in range(3):
            await ctx.now()
            await ctx.uuid()

    world = World(values)
    play(world.start())
    assert world.store.calls == ["create", "commit"]
    assert [event.split()[0] for event in world.trace] == ["NOW_RECORDED", "UUID_RECORDED"] * 3 + ["RUN_FINISHED"]


def test_nothing_pending_when_a_side_effect_starts() -> None:
    """Everything the handler has seen is committed before a fresh step function is called."""
    seen: list[list[str]] = []

    async def look() -> int:
        seen.append(world.trace)
        return len(seen)

    @create_workflow(id="pending")
    async def pending(ctx: Context) -> None:
        await ctx.now(id="t")
        await ctx.step("first", look)
        await ctx.uuid(id="u")
        await asyncio.gather(ctx.step("second", look), ctx.step("third", look))

    world = World(pending)
    play(world.start())
    first = ["NOW_RECORDED t"]
    second = [*first, "STEP_FINISHED first", "UUID_RECORDED u"]
    assert seen == [first, second, second]


def test_parallel_steps_start_after_one_commit() -> None:
    """Steps that become ready together start together: a gather costs what its turns cost, not its branches."""

    @create_workflow(id="fan")
    async def fan(ctx: Context) -> list[int]:
        await ctx.step("before", echo, 0)
        return await asyncio.gather(*(ctx.step(f"s{n}", echo, n) for n in range(10)))

    world = World(fan)
    outcome = play(world.start())
    assert outcome.output == list(range(10))
    assert world.store.calls == ["create", "commit", "commit"]


def test_result_is_kept_while_another_step_still_runs() -> None:
    """A finished step is committed before the drive waits for a slow one beside it: a crash then does not lose it."""
    gates = Gates()

    @create_workflow(id="slow")
    async def slow(ctx: Context) -> None:
        await asyncio.gather(ctx.step("fast", gates, "fast"), ctx.step("slow", gates, "slow"))

    async def scenario() -> None:
        world = World(slow)
        drive = world.begin(await world.create())
        await settle()
        gates.open("fast", 1)
        await settle()
        assert world.trace == ["STEP_FINISHED fast"]
        gates.open("slow", 2)
        assert (await drive).kind == "completed"

    play(scenario())


def test_pause_writes_waits_and_due_time_at_once() -> None:
    """The pending records, the waits and the due time of a pause are one commit, which gives up the lease."""

    @create_workflow(id="pausing")
    async def pausing(ctx: Context) -> None:
        await ctx.step("a", echo, 1)
        await asyncio.gather(ctx.sleep(60), ctx.wait_for_event("go", timeout=30), ctx.approve("Really?"))

    world = World(pausing)
    outcome = play(world.start())
    (commit,) = world.store.commits
    assert outcome.kind == "paused"
    assert [wait.kind for wait in outcome.run.waits] == ["timer", "signal", "approval"]
    assert (outcome.run.due_at, outcome.run.owner) == (outcome.run.waits[1].until, None)
    assert len(commit.records) == 4
    assert outcome.run == world.run


@pytest.mark.parametrize("kind", ["completed", "errored", "cancelled", "paused"])
def test_outcome_tells_the_row_as_it_is(kind: str) -> None:
    """The outcome of a drive holds the very row that the store has, without asking it."""

    @create_workflow(id="rows", state=dict)
    async def rows(ctx: Context[str, dict[str, int]]) -> str:
        ctx.state["a"] = 1
        await ctx.now()
        if kind == "errored":
            raise ValueError("no")
        if kind in ("paused", "cancelled"):
            await ctx.wait_for_event("never")
        return "fine"

    async def scenario() -> World:
        world = World(rows)
        claimed = await world.create("in")
        if kind == "cancelled":
            await world.cancel()
            claimed = await world.claim(force=True)
            assert claimed is not None
        outcome = await world.drive_claimed(claimed)
        assert outcome.kind == kind
        assert outcome.run == world.run
        return world

    play(scenario())


def test_mail_in_the_answer_of_a_commit_is_looked_at_before_the_next_step() -> None:
    """A cancel request that a commit brings back comes before the steps that the commit was made for."""

    @create_workflow(id="answered")
    async def answered(ctx: Context) -> None:
        await ctx.step("first", echo, 1)
        await ctx.step("second", echo, 2)

    async def scenario() -> None:
        world = World(answered)

        async def cancel(commit: Commit) -> None:
            world.store.before_commit = None
            await world.cancel("enough")

        world.store.before_commit = cancel
        outcome = await world.start()
        assert outcome.kind == "cancelled"
        assert world.trace == ["STEP_FINISHED first", "CANCEL_REQUESTED", "RUN_CANCELLED"]

    play(scenario())


def test_mail_that_comes_during_a_pause_refuses_it() -> None:
    """A signal that arrives while the drive pauses is received by this very drive."""

    @create_workflow(id="late")
    async def late(ctx: Context) -> int:
        return await ctx.wait_for_event("go", int)

    async def scenario() -> None:
        world = World(late)

        async def send(commit: Commit) -> None:
            world.store.before_commit = None
            await world.signal("go", 7)

        world.store.before_commit = send
        outcome = await world.start()
        assert (outcome.kind, outcome.output, world.inbox) == ("completed", 7, [])

    play(scenario())


def test_at_most_once_costs_one_commit_before_it_starts() -> None:
    """The start of an at-most-once step is in the log before its function is called."""
    seen: list[list[str]] = []

    async def look() -> None:
        seen.append(world.trace)

    @create_workflow(id="once")
    async def once(ctx: Context) -> None:
        await ctx.step("charge", look, retry=Retry.at_most_once())

    world = World(once)
    play(world.start())
    assert seen == [["STEP_STARTED charge"]]
    assert world.store.calls == ["create", "commit", "commit"]
