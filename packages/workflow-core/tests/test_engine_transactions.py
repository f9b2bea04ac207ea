"""`ctx.transaction` in the engine: whose turn it is to write, and what becomes of a step that its store undoes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from workflow.core import Context, HandlerError, LeaseLostError, Retry, StepError, StoreUnavailableError, current_step
from workflow.core import create_workflow as workflow
from workflow.core.errors import InvalidArgumentError, StepTimeoutError
from workflow.core.records import Commit, Committed
from workflow.core.transactions import Transaction

from .engine_kit import Gates, SpyStore, World, echo, play, settle


class Desk(SpyStore):
    """A store with a list of rows beside the runs, which a transaction changes together with the log, or not at all.

    It runs the function before it asks for the turn, as a server would, or after it, as a file.
    """

    def __init__(self, *, turn_first: bool = False) -> None:
        super().__init__()
        self.rows: list[Any] = []
        self.turn_first = turn_first
        self.undo: list[BaseException | None] = []
        """What becomes of the next tries before they commit: None is another try, an error is raised."""
        self.lose: list[BaseException] = []
        """What is raised after the next transactions have committed."""
        self.committing: Callable[[], Any] | None = None

    async def transact(self, transaction: Transaction) -> Committed:
        while True:
            transaction.begin()
            draft: list[Any] = []
            if self.turn_first:
                await transaction.turn()
            result = transaction.call(draft)
            if transaction.is_async:
                result = await result
            if not self.turn_first:
                await transaction.turn()
            commit = transaction.commit(result)
            await asyncio.sleep(0)
            if self.undo:
                if (error := self.undo.pop(0)) is not None:
                    raise error
                continue
            return await self._carry_out(commit, draft)

    async def _carry_out(self, commit: Commit, draft: list[Any]) -> Committed:
        if self.committing is not None:
            await self.committing()
        answer = await self.commit(commit)
        self.rows += draft
        if self.lose:
            raise self.lose.pop(0)
        return answer


def world_of(handler: Any, desk: Desk | None = None, **options: Any) -> World:
    desk = desk or Desk()
    return World(workflow(id="w", **options)(handler), store=desk, transactor=desk)


def desk_of(world: World) -> Desk:
    assert isinstance(world.store, Desk)
    return world.store


async def write(rows: list[Any], value: Any) -> Any:
    rows.append(value)
    return value


def write_at_once(rows: list[Any], value: Any) -> Any:
    rows.append(value)
    return value


@pytest.mark.parametrize("turn_first", [False, True])
def test_a_transaction_is_one_commit(turn_first: bool) -> None:
    """What is pending and the end of a transaction are one commit, and replay never runs its function again."""

    async def w(ctx: Context) -> list[Any]:
        first = await ctx.transaction("a", write, 1)
        await ctx.now()
        second = await ctx.transaction("b", write_at_once, 2)
        await ctx.sleep(60)
        return [first, second]

    async def scenario() -> None:
        world = world_of(w, Desk(turn_first=turn_first))
        outcome = await world.finish()
        assert (outcome.kind, outcome.output) == ("completed", [1, 2])
        assert desk_of(world).rows == [1, 2]
        assert [len(commit.records) for commit in world.store.commits] == [1, 1, 1, 1, 2]
        assert world.trace[:3] == ["STEP_FINISHED a", "NOW_RECORDED $now#1", "STEP_FINISHED b"]
        for length in range(len(world.log)):
            again = world.cut(length)
            again.environment["transactor"] = again.store = _desk_with(again.store)
            assert (await again.finish()).output == [1, 2]
            assert desk_of(again).rows == [1, 2][len([t for t in world.trace[:length] if "STEP" in t]) :]

    play(scenario())


def _desk_with(store: SpyStore) -> Desk:
    desk = Desk()
    desk._runs, desk.mails = store._runs, store.mails
    return desk


def test_a_transaction_that_is_undone_runs_again() -> None:
    """A try that the database undoes leaves nothing in the log; the next one is in it once."""

    async def w(ctx: Context) -> Any:
        return await asyncio.gather(ctx.transaction("a", write, 1), ctx.step("b", echo, 2))

    async def scenario() -> None:
        world = world_of(w)
        desk_of(world).undo = [None, None]
        assert (await world.finish()).output == [1, 2]
        assert desk_of(world).rows == [1]
        assert sorted(world.trace)[1:] == ["STEP_FINISHED a", "STEP_FINISHED b"]

    play(scenario())


def test_a_function_that_fails_is_a_failed_step() -> None:
    """An error of the function is retried by the step's policy, and raised as a StepError when that is over."""
    seen: list[int] = []

    async def fail(rows: list[Any]) -> None:
        seen.append(current_step().attempt)
        rows.append("lost")
        raise ValueError("no")

    async def w(ctx: Context) -> str:
        try:
            await ctx.transaction("a", fail, retry=Retry(max_attempts=3, initial_delay=1))
        except StepError as error:
            return f"{error.error_type} after {error.attempts}"
        return "not reached"

    async def scenario() -> None:
        world = world_of(w)
        assert (await world.finish()).output == "ValueError after 3"
        assert (seen, desk_of(world).rows) == ([1, 2, 3], [])

    play(scenario())


def test_a_result_that_is_no_json_fails_before_it_is_committed() -> None:
    """A result that can't be recorded undoes the transaction."""

    async def w(ctx: Context) -> str:
        try:
            await ctx.transaction("a", write, object())
        except StepError as error:
            return error.error_type
        return "not reached"

    async def scenario() -> None:
        world = world_of(w)
        assert (await world.finish()).output == "StepResultError"
        assert desk_of(world).rows == []

    play(scenario())


@pytest.mark.parametrize("error", [StoreUnavailableError("away"), LeaseLostError("run-1", 1), OSError("cable")])
def test_what_the_store_raises_ends_the_drive(error: Exception) -> None:
    """An error of the store is no failure of the step: the drive ends, and the next one tries the step again."""

    async def w(ctx: Context) -> Any:
        return await ctx.transaction("a", write, 1, retry=Retry.none())

    async def scenario() -> None:
        world = world_of(w)
        desk_of(world).undo = [error]
        if isinstance(error, LeaseLostError):
            assert (await world.start()).kind == "lost"
        else:
            with pytest.raises(type(error)):
                await world.start()
        assert (world.log, desk_of(world).rows) == ([], [])
        assert (await world.drive(force=True)).output == 1
        assert desk_of(world).rows == [1]

    play(scenario())


def test_a_lost_answer_of_a_commit_is_found_in_the_log() -> None:
    """Where nobody knows whether a transaction was committed the drive ends, and the log tells the next one."""

    async def w(ctx: Context) -> Any:
        return await ctx.transaction("a", write, 1)

    async def scenario() -> None:
        world = world_of(w)
        desk_of(world).lose = [StoreUnavailableError("lost while committing")]
        with pytest.raises(StoreUnavailableError):
            await world.start()
        assert world.trace == ["STEP_FINISHED a"]
        assert (await world.drive(force=True)).output == 1
        assert desk_of(world).rows == [1]

    play(scenario())


def test_transactions_of_a_run_take_turns() -> None:
    """In a gather the transactions come one after the other, and other steps beside them; replay gives the same."""
    under_way: list[str] = []
    most: list[int] = []

    async def watch(rows: list[Any], name: str) -> str:
        under_way.append(name)
        most.append(len(under_way))
        await asyncio.sleep(0)
        rows.append(name)
        under_way.remove(name)
        return name

    async def w(ctx: Context) -> list[Any]:
        steps = [ctx.step(f"s{n}", echo, n) for n in range(3)]
        return await asyncio.gather(*(ctx.transaction(f"t{n}", watch, f"t{n}") for n in range(4)), *steps)

    async def scenario() -> None:
        world = world_of(w)
        assert (await world.finish()).output == ["t0", "t1", "t2", "t3", 0, 1, 2]
        assert (max(most), desk_of(world).rows) == (1, ["t0", "t1", "t2", "t3"])

    play(scenario())


def test_nothing_else_is_committed_while_a_transaction_commits() -> None:
    """A step that ends, and mail that comes, while a transaction is being committed wait for the commit after it."""
    gates = Gates()

    async def w(ctx: Context) -> Any:
        return await asyncio.gather(
            ctx.transaction("t", write, 1), ctx.step("s", gates, "s"), ctx.wait_for_event("go", int)
        )

    async def scenario() -> None:
        world = world_of(w)
        drive = world.begin(await world.create())

        async def meanwhile() -> None:
            gates.open("s", 2)
            await world.signal("go", 3)
            assert world.drive_now is not None
            world.drive_now.tell_news()
            await settle_but_me()

        desk_of(world).committing = meanwhile
        assert (await drive).output == [1, 2, 3]
        assert desk_of(world).rows == [1]

    async def settle_but_me() -> None:
        for _ in range(20):
            await asyncio.sleep(0)

    play(scenario())


def test_a_transaction_that_nobody_waits_for_is_undone() -> None:
    """A handler that gives up on a transaction (a timeout around it) undoes it, and goes on."""
    gates = Gates()

    async def slow(rows: list[Any]) -> None:
        rows.append("slow")
        await gates("slow")

    async def w(ctx: Context) -> str:
        try:
            async with asyncio.timeout(5):
                await ctx.transaction("a", slow)
        except TimeoutError:
            return await ctx.transaction("b", write, "instead")
        return "not reached"

    async def scenario() -> None:
        world = world_of(w)
        drive = world.begin(await world.create())
        await settle()
        world.clock.advance(6)
        assert (await drive).output == "instead"
        assert (gates.cancelled, desk_of(world).rows) == (["slow"], ["instead"])

    play(scenario())


def test_a_timeout_undoes_the_attempt() -> None:
    """`timeout` bounds each attempt of a transaction; one that took longer has written nothing."""
    gates = Gates()

    async def slow(rows: list[Any]) -> None:
        rows.append("slow")
        await gates("slow")

    async def w(ctx: Context) -> str:
        try:
            await ctx.transaction("a", slow, timeout=5)
        except StepTimeoutError:
            return "too slow"
        return "not reached"

    async def scenario() -> None:
        world = world_of(w)
        drive = world.begin(await world.create())
        await settle()
        world.clock.advance(6)
        assert (await drive).output == "too slow"
        assert desk_of(world).rows == []

    play(scenario())


@pytest.mark.parametrize("times", [1, 2])
def test_a_host_that_cancels_while_a_transaction_commits(times: int) -> None:
    """The host's cancellation can't part a commit from what the drive knows of it: the step is never run twice."""
    commits = Gates()

    async def w(ctx: Context) -> Any:
        value = await ctx.transaction("a", write, 1)
        await ctx.transaction("b", write, 2)
        return value

    async def scenario() -> None:
        world = world_of(w)
        desk_of(world).committing = lambda: commits("commit")
        drive = world.begin(await world.create())
        await settle()
        for _ in range(times):
            drive.cancel()
            await settle()
        if commits.waiting:
            commits.open("commit")
        with pytest.raises(asyncio.CancelledError):
            await drive
        desk_of(world).committing = None
        assert (await world.drive(force=True)).output == 1
        assert desk_of(world).rows == [1, 2]

    play(scenario())


def test_state_is_saved_with_the_next_commit() -> None:
    """The state of a handler is not lost where its change is first committed by a transaction that is undone."""

    async def w(ctx: Context[None, dict[str, int]]) -> int:
        async def branch() -> None:
            await ctx.step("s", echo)
            ctx.state["n"] = 7

        await asyncio.gather(branch(), ctx.transaction("t", write, 1))
        await ctx.sleep(60)
        return ctx.state["n"]

    async def scenario() -> None:
        world = world_of(w, initialize=lambda _: {"n": 0})
        desk_of(world).undo = [None]
        assert (await world.start()).kind == "paused"
        assert world.run.state == '{"n":7}'
        world.clock.advance(60)
        assert (await world.finish()).output == 7

    play(scenario())


def test_a_store_that_has_none_says_so() -> None:
    """On a store without transactions the call is an error that names the store and says what to use."""

    async def w(ctx: Context) -> str:
        try:
            await ctx.transaction("a", write, 1)
        except HandlerError as error:
            return str(error)
        return "not reached"

    async def scenario() -> None:
        world = World(workflow(id="w")(w))
        output = (await world.finish()).output
        assert "SpyStore can't run ctx.transaction()" in output
        assert "PostgresStore or SQLiteStore" in output

    play(scenario())


def test_bad_arguments_are_told() -> None:
    """What is no function, no level of isolation, or a lambda around a coroutine is an error that says so."""
    seen: list[str] = []

    async def w(ctx: Context) -> None:
        for number, call in enumerate(
            (
                lambda id: ctx.transaction(id, 5),  # type: ignore[arg-type]
                lambda id: ctx.transaction(id, write, 1, isolation="DIRTY"),  # type: ignore[arg-type]
                lambda id: ctx.transaction(id, lambda rows: write(rows, 1)),
            )
        ):
            try:
                await call(f"t{number}")
            except (InvalidArgumentError, StepError) as error:
                seen.append(str(error))

    async def scenario() -> None:
        world = world_of(w)
        await world.finish()
        assert desk_of(world).rows == []

    play(scenario())
    assert ["takes a function" in seen[0], "isolation must be one of" in seen[1], "async def" in seen[2]] == [True] * 3
