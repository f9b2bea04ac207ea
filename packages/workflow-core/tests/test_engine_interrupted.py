"""Drives that are cut short: a host that cancels, a lost lease, a store that fails, a process that dies."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from workflow.core import Context, Retry, StepError, create_workflow, current_step, middleware
from workflow.core.errors import StepInterruptedError
from workflow.core.records import Commit, Lease

from .engine_kit import LEASE, START, Gates, World, at, echo, play, settle


async def cancelled(task: asyncio.Task[Any]) -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_cancelled_drive_releases_the_run_with_what_is_done() -> None:
    """A host that cancels a drive leaves the run queued, with what is finished in its log and the rest to do."""
    gates = Gates()

    @create_workflow(id="w")
    async def w(ctx: Context) -> list[int]:
        return await asyncio.gather(ctx.step("a", gates, "a"), ctx.step("b", gates, "b"))

    async def scenario() -> None:
        world = World(w)
        drive = world.begin(await world.create())
        await settle()
        gates.open("a", 1)
        await cancelled(drive)
        assert (world.run.status, world.run.due_at, world.run.owner) == ("queued", START, None)
        assert gates.cancelled == ["b"]
        assert world.trace == ["STEP_FINISHED a"]
        drive = world.begin(await _claimed(world))
        await settle()
        gates.open("b", 2)
        outcome = await drive
        assert outcome.output == [1, 2]
        assert gates.entered == ["a", "b", "b"]

    play(scenario())


async def _claimed(world: World) -> Any:
    claimed = await world.claim()
    assert claimed is not None
    return claimed


def test_results_of_a_race_that_is_cut_short_stay_consistent() -> None:
    """Of two results that come as the host cancels, the loser of the race is not written behind the winner."""
    gates = Gates()

    @create_workflow(id="w")
    async def w(ctx: Context) -> set[str]:
        tasks = [asyncio.create_task(ctx.step(name, gates, name), name=name) for name in ("a", "b")]
        done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()
        return {task.get_name() for task in done}

    async def scenario() -> None:
        world = World(w)
        drive = world.begin(await world.create())
        await settle()
        gates.open("b")
        gates.open("a")
        drive.cancel()
        with pytest.raises(asyncio.CancelledError):
            await drive
        assert world.run.status == "queued"
        outcome = await world.drive()
        assert (outcome.kind, outcome.output) == ("completed", {"b"})

    play(scenario())


def test_results_of_a_race_at_the_deadline_stay_consistent() -> None:
    """Two results that come while the last commit before the deadline is under way do not block the run."""
    gates = Gates()

    @create_workflow(id="w")
    async def w(ctx: Context) -> list[str]:
        await ctx.step("first", gates, "first")
        tasks = [asyncio.create_task(ctx.step(name, gates, name), name=name) for name in ("a", "b")]
        side = asyncio.create_task(ctx.step("side", gates, "side"))
        done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in (*pending, side):
            task.cancel()
        return sorted(task.get_name() for task in done)

    async def scenario() -> None:
        world = World(w, deadline=START.replace(second=10))

        async def both(commit: Commit) -> None:
            if len(world.store.commits) == 1:
                gates.open("b")
                gates.open("a")
                await settle()

        drive = world.begin(await world.create())
        await settle()
        gates.open("first")
        await settle()
        world.store.before_commit = both
        world.clock.time = at(60)  # without waking the drive
        gates.open("side")
        outcome = await drive
        assert (outcome.kind, outcome.output) == ("completed", ["b"])
        assert "STEP_FINISHED a" not in world.trace
        assert (await world.cut(len(world.log) - 1).drive()).output == ["b"]

    play(scenario())


@pytest.mark.parametrize("applied", [False, True])
@pytest.mark.parametrize("end", ["completed", "errored", "cancelled", "paused"])
def test_cancelled_in_the_middle_of_the_last_commit(end: str, applied: bool) -> None:
    """A drive that is cancelled while its last commit is under way leaves what that commit says, done or not yet."""

    @create_workflow(id="w")
    async def w(ctx: Context) -> str:
        await ctx.now()
        if end == "errored":
            raise ValueError("no")
        if end in ("cancelled", "paused"):
            await ctx.wait_for_event("go")
        return "fine"

    async def scenario() -> None:
        world = World(w)
        await world.create()
        if end == "cancelled":
            await world.cancel()
        claimed = await world.claim(force=True)
        assert claimed is not None
        hanging = asyncio.get_running_loop().create_future()

        async def hang(commit: Commit) -> None:
            world.store.before_commit = world.store.after_commit = None
            await hanging

        if applied:
            world.store.after_commit = hang
        else:
            world.store.before_commit = hang
        drive = world.begin(claimed)
        await settle()
        await cancelled(drive)
        assert world.run.status == end
        assert len(world.log) == len({event.index for event in world.log})
        if end == "paused":
            await world.signal("go")
            assert (await world.drive()).output == "fine"

    play(scenario())


def test_cancelled_before_the_handler_ran_releases_the_run() -> None:
    """A run is given back at once even if its drive got nowhere."""
    gates = Gates()

    @create_workflow(id="w")
    async def w(ctx: Context) -> Any:
        return await ctx.step("a", gates, "a")

    async def scenario() -> None:
        world = World(w)
        drive = world.begin(await world.create())
        await settle()
        await cancelled(drive)
        assert (world.run.status, world.trace) == ("queued", [])
        drive = world.begin(await _claimed(world))
        await settle()
        gates.open("a", "done")
        assert (await drive).output == "done"

    play(scenario())


def test_handler_that_has_ended_when_its_drive_is_cancelled_ends_in_the_next() -> None:
    """What a handler did last is no obstacle when the end itself could not be written any more."""
    gates = Gates()

    @middleware
    async def slow_exit(ctx: Any, call_next: Any) -> Any:
        result = await call_next()
        await gates("exit")
        return result

    @create_workflow(id="w", middleware=[slow_exit])
    async def w(ctx: Context) -> str:
        await ctx.step("a", echo, 1)
        await ctx.now()
        left = asyncio.create_task(ctx.sleep(5))
        await asyncio.sleep(0)
        return left.get_name()

    async def scenario() -> None:
        world = World(w)
        drive = world.begin(await world.create())
        await settle()
        await cancelled(drive)
        assert world.run.status == "queued"
        assert world.trace[:2] == ["STEP_FINISHED a", "NOW_RECORDED $now#1"]
        drive = world.begin(await _claimed(world))
        await settle()
        gates.open("exit")
        assert (await drive).kind == "completed"

    play(scenario())


def test_lost_lease_writes_nothing() -> None:
    """When another owner has claimed the run, the drive ends as `lost`, its steps are cancelled, nothing is written."""
    gates = Gates()

    @create_workflow(id="w")
    async def w(ctx: Context) -> None:
        await ctx.step("a", echo)
        await ctx.step("b", gates, "b")

    async def scenario() -> None:
        world = World(w)
        drive = world.begin(await world.create())
        await settle()
        before = (world.trace, len(world.store.commits))
        other = await world.store.claim_run("run-1", Lease("other", START + LEASE), now=START, force=True)
        assert other is not None and world.drive_now is not None
        world.drive_now.tell_lost()
        outcome = await drive
        assert outcome.kind == "lost"
        assert gates.cancelled == ["b"]
        assert (world.trace, len(world.store.commits)) == before
        assert (world.run.owner, world.run.fence) == ("other", 2)

    play(scenario())


def test_old_fence_is_refused_in_the_middle_of_a_drive() -> None:
    """A drive that does not know that it has lost its lease has its commit refused, and stops."""
    gates = Gates()

    @create_workflow(id="w")
    async def w(ctx: Context) -> None:
        await ctx.step("a", gates, "a")
        await ctx.step("b", gates, "b")

    async def scenario() -> None:
        world = World(w)
        drive = world.begin(await world.create())
        await settle()
        await world.store.claim_run("run-1", Lease("other", START + LEASE), now=START, force=True)
        gates.open("a")
        outcome = await drive
        assert outcome.kind == "lost"
        assert (world.trace, gates.entered) == ([], ["a"])

    play(scenario())


def test_failing_store_leaves_the_run_leased() -> None:
    """A store that can't be reached is the host's problem: the drive raises its error, and the lease runs out."""

    @create_workflow(id="w")
    async def w(ctx: Context) -> None:
        await ctx.step("a", echo)

    async def scenario() -> None:
        world = World(w)

        async def fail(commit: Commit) -> None:
            raise ConnectionError("gone")

        world.store.before_commit = fail
        with pytest.raises(ConnectionError):
            await world.start()
        assert (world.run.status, world.trace) == ("running", [])
        world.store.before_commit = None
        world.clock.advance(30)
        assert (await world.drive()).kind == "completed"

    play(scenario())


def test_at_most_once_step_is_not_repeated_after_a_death() -> None:
    """A process that dies between the start and the end of an at-most-once step leaves `StepInterruptedError`."""
    gates = Gates()
    seen: list[BaseException] = []

    @create_workflow(id="w")
    async def w(ctx: Context) -> str:
        try:
            await ctx.step("charge", gates, "charge", retry=Retry.at_most_once())
        except StepError as error:
            seen.append(error)
            return "unknown"
        return "charged"

    async def scenario() -> None:
        world = World(w)
        drive = world.begin(await world.create())
        await settle()
        later = world.cut(len(world.log))
        await cancelled(drive)
        outcome = await later.drive()
        assert (outcome.output, gates.entered) == ("unknown", ["charge"])
        assert later.trace == ["STEP_STARTED charge", "STEP_FAILED charge", "RUN_FINISHED"]
        again = later.cut(2)
        assert (await again.drive()).output == "unknown"

    play(scenario())
    live, replayed = seen
    assert isinstance(live, StepInterruptedError) and isinstance(replayed, StepInterruptedError)
    assert str(live) == str(replayed)


def test_crash_between_attempts_does_not_reset_the_count() -> None:
    """Attempts are counted by the log: a process that dies after two of three leaves one."""
    tries: list[int] = []

    async def fail() -> None:
        tries.append(current_step().attempt)
        raise ValueError(f"attempt {len(tries)}")

    @create_workflow(id="w")
    async def w(ctx: Context) -> None:
        await ctx.step("a", fail, retry=Retry(max_attempts=3, initial_delay=600, jitter=False, max_delay=6000))

    async def scenario() -> None:
        world = World(w)
        await world.start()
        world.clock.advance(600)
        await world.drive()
        later = world.cut(len(world.log))
        later.clock.advance(1200)
        outcome = await later.drive()
        assert outcome.kind == "errored"
        assert tries == [1, 2, 3]
        assert outcome.error is not None and "3 attempts" in outcome.error.message

    play(scenario())


def test_poisoned_run_is_given_up() -> None:
    """A run that was recovered too often ends `errored` with that reason, without being driven once more."""
    calls: list[int] = []

    @create_workflow(id="w")
    async def w(ctx: Context) -> None:
        calls.append(1)

    async def scenario() -> None:
        world = World(w, max_recoveries=2)
        await world.create()
        for _ in range(3):
            claimed = await world.claim(force=True)
        assert claimed is not None and claimed.run.recoveries == 3
        outcome = await world.drive_claimed(claimed)
        assert (outcome.kind, calls) == ("errored", [])
        assert outcome.error is not None and outcome.error.code == "max_recoveries"
        assert outcome.run == world.run

    play(scenario())


def test_news_that_come_before_the_handler_runs_are_not_lost() -> None:
    """A cancel request told to a drive while its middleware starts is heard before a long first step ends."""
    gates = Gates()

    @middleware
    async def slow_start(ctx: Any, call_next: Any) -> Any:
        await gates("enter")
        return await call_next()

    @create_workflow(id="w", middleware=[slow_start])
    async def w(ctx: Context) -> None:
        await ctx.step("long", gates, "long")

    async def scenario() -> None:
        world = World(w)
        drive = world.begin(await world.create())
        await settle()
        await world.cancel()
        assert world.drive_now is not None
        world.drive_now.tell_news()
        gates.open("enter")
        await settle()
        assert drive.done(), "the cancel request was not looked at"
        assert (await drive).kind == "cancelled"

    play(scenario())


def test_lost_is_told_before_the_handler_runs(caplog: pytest.LogCaptureFixture) -> None:
    """A lease lost while middleware starts ends the drive before any step starts."""
    gates = Gates()

    @create_workflow(id="w")
    async def w(ctx: Context) -> None:
        await ctx.step("a", gates, "a")

    async def scenario() -> None:
        world = World(w)
        claimed = await world.create()
        drive = world.begin(claimed)
        assert world.drive_now is not None
        world.drive_now.tell_lost()
        assert (await drive).kind == "lost"
        assert gates.entered == []

    with caplog.at_level(logging.WARNING):
        play(scenario())
