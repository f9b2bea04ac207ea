"""`ctx.transaction` on a real server: what the function writes and what the log says are one, whatever happens."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession, create_async_engine

from workflow.core import Context, HandlerError, Retry, StepError, StoreUnavailableError, Workflow, create_workflow
from workflow.runtime import WorkflowRuntime
from workflow.store.postgres import PostgresStore

from .postgres_app_side import PostgresApp

Handler = Callable[[Context[Any]], Coroutine[Any, Any, Any]]


class Bank:
    """A runtime of one workflow on a schema of its own, and the app's table beside it."""

    def __init__(self, url: str, schema: str, store: PostgresStore, app: PostgresApp, workflow: Workflow[Any, Any]):
        self.url = url
        self.schema = schema
        self.store = store
        self.app = app
        self.workflow = workflow
        self.runtime = WorkflowRuntime(store, [workflow])

    async def run(self, input: Any = None) -> Any:
        """Run it once, to its end, and give the output."""
        result = await self.runtime.start_run(self.workflow, run_id="r", input=input)
        assert result.kind == "completed", result
        assert result.run is not None
        return result.run.output

    async def admin(self, sql: str, *args: Any) -> Any:
        connection = await asyncpg.connect(plain(self.url))
        try:
            return await connection.fetchval(sql, *args)
        finally:
            await connection.close()


def plain(url: str) -> str:
    return make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)


@pytest.fixture(params=["asyncpg", "psycopg"])
def url(postgres_url: str, request: pytest.FixtureRequest) -> str:
    return make_url(postgres_url).set(drivername=f"postgresql+{request.param}").render_as_string(hide_password=False)


@asynccontextmanager
async def bank_of(
    url: str, schema: str, handler: Callable[[PostgresApp], Handler], **engine: Any
) -> AsyncGenerator[Bank]:
    app = PostgresApp(make_url(url), schema)
    owned = create_async_engine(url, **engine)
    store = PostgresStore(owned, schema=schema, retry_for=2)
    await store.migrate()
    await app.make()
    workflow: Workflow[Any, Any] = create_workflow(id="bank")(handler(app))
    bank = Bank(url, schema, store, app, workflow)
    try:
        yield bank
    finally:
        await bank.runtime.close()
        await owned.dispose()
        await app.engine.dispose()


def play(
    url: str,
    schema: str,
    handler: Callable[[PostgresApp], Handler],
    test: Callable[[Bank], Awaitable[None]],
    **engine: Any,
) -> None:
    async def main() -> None:
        async with bank_of(url, schema, handler, **engine) as bank:
            await test(bank)

    asyncio.run(main())


async def level(connection: AsyncConnection) -> str:
    return str((await connection.execute(text("SHOW transaction_isolation"))).scalar())


def test_isolation_is_the_steps_own(url: str, schema: str) -> None:
    """A step has the level that it asks for, else the engine's; the connection goes back to the pool as it was."""

    def handler(app: PostgresApp) -> Handler:
        async def w(ctx: Context[Any]) -> list[str]:
            first = await ctx.transaction("a", level, isolation="SERIALIZABLE")
            second = await ctx.transaction("b", level)
            return [first, second, await ctx.transaction("c", level, isolation="REPEATABLE READ")]

        return w

    async def test(bank: Bank) -> None:
        assert await bank.run() == ["serializable", "read committed", "repeatable read"]

    play(url, schema, handler, test, pool_size=1, max_overflow=4)


def test_an_engine_in_autocommit_mode_still_makes_transactions(url: str, schema: str) -> None:
    """Even where the app's engine commits each statement by itself, a step's writes are one transaction."""

    def handler(app: PostgresApp) -> Handler:
        async def pay(connection: AsyncConnection) -> None:
            await app.write(connection, "undone")
            raise ValueError("declined")

        async def w(ctx: Context[Any]) -> str:
            try:
                await ctx.transaction("pay", pay)
            except StepError as error:
                return error.error_type
            return "not reached"

        return w

    async def test(bank: Bank) -> None:
        assert await bank.run() == "ValueError"
        assert await bank.app.notes() == []

    play(url, schema, handler, test, isolation_level="AUTOCOMMIT")


def test_a_serialization_failure_runs_the_function_again(url: str, schema: str) -> None:
    """Where a rival has changed what the function has read, it runs again in a new transaction, as one attempt."""
    seen: list[str] = []

    def handler(app: PostgresApp) -> Handler:
        async def extend(connection: AsyncConnection) -> None:
            seen.append(str((await connection.execute(text(f"SELECT note FROM {app.table}"))).scalar()))
            if len(seen) < 3:
                async with app.engine.begin() as rival:
                    await rival.execute(text(f"UPDATE {app.table} SET note = note || '-rival'"))
            await connection.execute(text(f"UPDATE {app.table} SET note = note || '-mine'"))

        async def w(ctx: Context[Any]) -> None:
            await ctx.transaction("extend", extend, isolation="REPEATABLE READ", retry=Retry.none())

        return w

    async def test(bank: Bank) -> None:
        async with bank.app.engine.begin() as connection:
            await bank.app.write(connection, "a")
        await bank.run()
        assert await bank.app.notes() == ["a-rival-rival-mine"]
        assert seen == ["a", "a-rival", "a-rival-rival"]

    play(url, schema, handler, test)


def test_gathered_transactions_do_not_stumble_over_each_other(url: str, schema: str) -> None:
    """Twenty transactions of one run at the strictest level all happen, each once."""

    def handler(app: PostgresApp) -> Handler:
        async def w(ctx: Context[Any]) -> int:
            names = [f"t{n}" for n in range(20)]
            await asyncio.gather(*(ctx.transaction(name, app.write, name, isolation="SERIALIZABLE") for name in names))
            return len(names)

        return w

    async def test(bank: Bank) -> None:
        assert await bank.run() == 20
        assert sorted(await bank.app.notes()) == sorted(f"t{n}" for n in range(20))

    play(url, schema, handler, test)


def test_a_function_can_not_end_the_transaction(url: str, schema: str) -> None:
    """A function that commits, rolls back or goes on after an error of the database fails, and nothing is left."""

    def handler(app: PostgresApp) -> Handler:
        async def commits(connection: AsyncConnection) -> None:
            await app.write(connection, "committed")
            await connection.commit()

        async def rolls_back(connection: AsyncConnection) -> None:
            await connection.rollback()
            await app.write(connection, "after a rollback")

        async def goes_on(connection: AsyncConnection) -> None:
            await app.write(connection, "before an error")
            try:
                await connection.execute(text("SELECT 1 / 0"))
            except Exception:
                pass

        async def saves(connection: AsyncConnection) -> None:
            await app.write(connection, "kept")
            try:
                async with connection.begin_nested():
                    await connection.execute(text("SELECT 1 / 0"))
            except Exception:
                pass

        async def w(ctx: Context[Any]) -> list[str]:
            errors: list[str] = []
            for fn in (commits, rolls_back, goes_on):
                try:
                    await ctx.transaction(fn.__name__, fn)
                except StepError as error:
                    errors.append(f"{error.is_type(HandlerError)}: {error.message}")
            await ctx.transaction("saves", saves)
            return errors

        return w

    async def test(bank: Bank) -> None:
        first, second, third = await bank.run()
        assert first == second
        assert first.startswith("True: The function of a ctx.transaction() must not commit or roll back")
        assert third.startswith("True: The function of a ctx.transaction() has caught an error of the database")
        assert await bank.app.notes() == ["kept"]

    play(url, schema, handler, test)


def test_a_constraint_that_is_checked_at_the_end_fails_the_step(url: str, schema: str) -> None:
    """What COMMIT itself refuses is the step's failure, with the database's own error as its cause."""

    def handler(app: PostgresApp) -> Handler:
        async def twice(connection: AsyncConnection) -> None:
            await connection.execute(text(f"INSERT INTO {app.table} (note) VALUES ('x'), ('x')"))

        async def w(ctx: Context[Any]) -> str:
            try:
                await ctx.transaction("twice", twice)
            except StepError as error:
                return str(error.is_type(IntegrityError))
            return "not reached"

        return w

    async def test(bank: Bank) -> None:
        unique = f"ALTER TABLE {bank.app.table} ADD UNIQUE (note) DEFERRABLE INITIALLY DEFERRED"
        await bank.admin(unique)
        assert await bank.run() == "True"
        assert await bank.app.notes() == []

    play(url, schema, handler, test)


def test_a_connection_that_dies_in_the_function_is_replaced(url: str, schema: str) -> None:
    """A backend that is killed before the end has written nothing: the function runs again on another one."""
    pids: list[int] = []

    def handler(app: PostgresApp) -> Handler:
        async def pay(connection: AsyncConnection) -> int:
            await app.write(connection, "paid")
            pids.append(int((await connection.execute(text("SELECT pg_backend_pid()"))).scalar() or 0))
            if len(pids) == 1:
                async with app.engine.connect() as other:
                    await other.execute(text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": pids[0]})
            await connection.execute(text("SELECT 1"))
            return len(pids)

        async def w(ctx: Context[Any]) -> int:
            return await ctx.transaction("pay", pay, retry=Retry.none())

        return w

    async def test(bank: Bank) -> None:
        assert await bank.run() == 2
        assert await bank.app.notes() == ["paid"]

    play(url, schema, handler, test)


@pytest.mark.parametrize("committed", [False, True])
def test_a_lost_answer_of_a_commit(url: str, schema: str, committed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the connection dies around COMMIT the drive ends; the log tells the next one, and nothing is doubled."""
    from sqlalchemy.ext.asyncio import AsyncTransaction

    commit = AsyncTransaction.commit

    async def dies(self: AsyncTransaction) -> None:
        monkeypatch.setattr(AsyncTransaction, "commit", commit)
        if committed:
            await commit(self)
        raise ConnectionResetError("the cable was cut")

    def handler(app: PostgresApp) -> Handler:
        async def w(ctx: Context[Any]) -> str:
            await ctx.transaction("pay", app.write, "paid")
            return "done"

        return w

    async def test(bank: Bank) -> None:
        monkeypatch.setattr(AsyncTransaction, "commit", dies)
        with pytest.raises(StoreUnavailableError, match="may or may not"):
            await bank.run()
        assert await bank.app.notes() == (["paid"] if committed else [])
        run = await bank.runtime.get_run("r")
        assert run is not None
        assert run.due_at is not None
        sweep = await bank.runtime.sweep(now=run.due_at)
        assert [result.kind for result in sweep.recovered] == ["completed"]
        assert await bank.app.notes() == ["paid"]

    play(url, schema, handler, test)


def test_a_zombie_writes_nothing(url: str, schema: str) -> None:
    """An owner that was stalled in its function and has lost the run meanwhile leaves nothing in the app's tables."""
    stalled = asyncio.Event()
    go_on = asyncio.Event()

    def handler(app: PostgresApp) -> Handler:
        async def pay(connection: AsyncConnection) -> None:
            first = not stalled.is_set()
            await app.write(connection, "by the zombie" if first else "by the owner")
            if first:
                stalled.set()
                await go_on.wait()

        async def w(ctx: Context[Any]) -> str:
            await ctx.transaction("pay", pay)
            return "done"

        return w

    async def test(bank: Bank) -> None:
        zombie = asyncio.create_task(bank.runtime.start_run(bank.workflow, run_id="r"))
        await stalled.wait()
        other = PostgresStore(bank.url, schema=bank.schema)
        run = await other.get_run("r")
        assert run is not None
        assert run.due_at is not None
        rival = WorkflowRuntime(other, [bank.workflow])
        assert (await rival.sweep(now=run.due_at)).recovered[0].kind == "completed"
        go_on.set()
        assert (await zombie).kind == "completed"
        assert await bank.app.notes() == ["by the owner"]
        await rival.close()

    play(url, schema, handler, test)


def test_a_cancelled_run_undoes_its_transaction(url: str, schema: str) -> None:
    """A cancel request reaches a run in the middle of a transaction, which is rolled back."""
    waiting = asyncio.Event()

    def handler(app: PostgresApp) -> Handler:
        async def pay(connection: AsyncConnection) -> None:
            await app.write(connection, "paid")
            waiting.set()
            await asyncio.Event().wait()

        async def w(ctx: Context[Any]) -> None:
            try:
                await ctx.transaction("pay", pay)
            finally:
                await ctx.transaction("refund", app.write, "cancelled")

        return w

    async def test(bank: Bank) -> None:
        drive = asyncio.create_task(bank.runtime.start_run(bank.workflow, run_id="r"))
        await waiting.wait()
        await bank.runtime.cancel_run("r")
        assert (await drive).kind == "cancelled"
        assert await bank.app.notes() == ["cancelled"]

    play(url, schema, handler, test)


def test_functions_of_other_kinds(url: str, schema: str) -> None:
    """A plain `def` gets SQLAlchemy's synchronous connection, and an ORM session may be bound to the step's."""

    def handler(app: PostgresApp) -> Handler:
        def plainly(connection: Any, note: str) -> str:
            connection.execute(text(f"INSERT INTO {app.table} (note) VALUES (:note)"), {"note": note})
            return note

        async def by_session(connection: AsyncConnection) -> None:
            async with AsyncSession(connection, join_transaction_mode="create_savepoint") as session:
                await session.execute(text(f"INSERT INTO {app.table} (note) VALUES ('by a session')"))
                await session.commit()

        async def w(ctx: Context[Any]) -> str:
            note = await ctx.transaction("plainly", plainly, "by a def")
            await ctx.transaction("session", by_session)
            return note

        return w

    async def test(bank: Bank) -> None:
        assert await bank.run() == "by a def"
        assert await bank.app.notes() == ["by a def", "by a session"]

    play(url, schema, handler, test)


def test_transactions_on_a_second_event_loop(url: str, schema: str) -> None:
    """A process that runs one event loop after the other, as serverless hosts do, has transactions on each."""
    app = PostgresApp(make_url(url), schema)
    store = PostgresStore(url, schema=schema)

    @create_workflow(id="w")
    async def w(ctx: Context[str]) -> None:
        await ctx.transaction("write", app.write, ctx.input)

    async def invocation(number: int) -> list[str]:
        if number == 0:
            await store.migrate()
            await app.make()
        runtime = WorkflowRuntime(store, [w])
        assert (await runtime.start_run(w, input=f"loop {number}")).kind == "completed"
        await store.close_loop()
        return await app.notes()

    assert [asyncio.run(invocation(number)) for number in range(3)][-1] == ["loop 0", "loop 1", "loop 2"]
    asyncio.run(store.close())


KILLED = """
import asyncio, os, signal, sys
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncTransaction
from workflow.core import Context, create_workflow
from workflow.runtime import WorkflowRuntime
from workflow.store.postgres import PostgresStore

url, schema, when = sys.argv[1:]
commit = AsyncTransaction.commit

async def dies(self):
    if when == "after":
        await commit(self)
    os.kill(os.getpid(), signal.SIGKILL)

AsyncTransaction.commit = dies

async def pay(connection):
    await connection.execute(text(f'INSERT INTO "{schema}".notes (note) VALUES (:note)'), {"note": "paid"})

@create_workflow(id="bank")
async def bank(ctx: Context):
    await ctx.transaction("pay", pay)

async def main():
    runtime = WorkflowRuntime(PostgresStore(url, schema=schema), [bank])
    await runtime.start_run(bank, run_id="r")

asyncio.run(main())
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_process_that_is_killed_around_its_commit(
    url: str, schema: str, when: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real process dies before or after COMMIT: the app's row and the step's record are both there, or neither is."""

    def handler(app: PostgresApp) -> Handler:
        async def w(ctx: Context[Any]) -> str:
            await ctx.transaction("pay", app.write, "paid")
            return "done"

        return w

    async def test(bank: Bank) -> None:
        script = tmp_path / "killed.py"
        script.write_text(KILLED)
        process = await asyncio.create_subprocess_exec(
            sys.executable, str(script), bank.url, bank.schema, when, stderr=subprocess.PIPE
        )
        _, errors = await asyncio.wait_for(process.communicate(), 60)
        assert process.returncode == -signal.SIGKILL, errors.decode()
        log = await bank.store.read_log("r")
        assert (len(log), await bank.app.notes()) == ((1, ["paid"]) if when == "after" else (0, []))
        run = await bank.runtime.get_run("r")
        assert run is not None
        assert run.due_at is not None
        sweep = await bank.runtime.sweep(now=run.due_at)
        assert [result.kind for result in sweep.recovered] == ["completed"]
        assert await bank.app.notes() == ["paid"]

    play(url, schema, handler, test)
