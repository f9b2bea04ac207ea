"""The app's own transaction on a real server: the kinds of connections, what waits for whom, and what never waits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import asyncpg
import psycopg
import pytest
from psycopg.rows import dict_row
from sqlalchemy import text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

from workflow.core import Context, InvalidArgumentError, StoreError, create_workflow
from workflow.runtime import WorkflowRuntime
from workflow.store.postgres import PostgresStore

from .postgres_app_side import PostgresApp


@create_workflow(id="ship")
async def ship(ctx: Context[str]) -> str:
    paid: str = await ctx.wait_for_event("paid", str)
    return f"{ctx.input}: {paid}"


class Shop:
    def __init__(self, url: str, schema: str) -> None:
        self.url = url
        self.app = PostgresApp(make_url(url), schema)
        self.store = PostgresStore(url, schema=schema)
        self.runtime = WorkflowRuntime(self.store, [ship])

    async def order(self, connection: Any, run_id: str = "r") -> Any:
        return await self.runtime.start_run(ship, run_id=run_id, input="shoes", connection=connection)

    async def pay(self, connection: Any, run_id: str = "r") -> Any:
        return await self.runtime.deliver_signal(
            run_id=run_id, signal_id="s", name="paid", payload="yes", connection=connection
        )


def plain(url: str) -> str:
    return make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)


def play(url: str, schema: str, test: Callable[[Shop], Awaitable[None]]) -> None:
    async def main() -> None:
        shop = Shop(url, schema)
        try:
            await shop.store.migrate()
            await shop.app.make()
            await test(shop)
        finally:
            await shop.runtime.close()
            await shop.app.engine.dispose()

    asyncio.run(main())


@asynccontextmanager
async def by_connection(shop: Shop) -> AsyncGenerator[Any]:
    async with shop.app.engine.begin() as connection:
        yield connection


@asynccontextmanager
async def by_session(shop: Shop) -> AsyncGenerator[Any]:
    async with AsyncSession(shop.app.engine) as session, session.begin():
        yield session


@asynccontextmanager
async def by_stores_engine(shop: Shop) -> AsyncGenerator[Any]:
    async with shop.store.engine.begin() as connection:
        yield connection


@asynccontextmanager
async def by_psycopg_engine(shop: Shop) -> AsyncGenerator[Any]:
    engine = create_async_engine(make_url(shop.url).set(drivername="postgresql+psycopg"))
    try:
        async with engine.begin() as connection:
            yield connection
    finally:
        await engine.dispose()


@asynccontextmanager
async def by_asyncpg(shop: Shop) -> AsyncGenerator[Any]:
    connection = await asyncpg.connect(plain(shop.url))
    try:
        async with connection.transaction():
            yield connection
    finally:
        await connection.close()


@asynccontextmanager
async def by_asyncpg_pool(shop: Shop) -> AsyncGenerator[Any]:
    async with (
        asyncpg.create_pool(plain(shop.url), min_size=1, max_size=1) as pool,
        pool.acquire() as connection,
        connection.transaction(),
    ):
        yield connection


@asynccontextmanager
async def by_psycopg(shop: Shop) -> AsyncGenerator[Any]:
    rows: Any = dict_row  # the app's choice, which is not the store's
    async with await psycopg.AsyncConnection.connect(plain(shop.url), row_factory=rows) as connection:
        yield connection


KINDS = [by_connection, by_session, by_stores_engine, by_psycopg_engine, by_asyncpg, by_asyncpg_pool, by_psycopg]


class UndoError(Exception):
    pass


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_connection(postgres_url: str, schema: str, kind: Any) -> None:
    """Whatever the app works with, the run and its signal come with the app's commit and go with its rollback."""

    async def test(shop: Shop) -> None:
        with pytest.raises(UndoError):
            async with kind(shop) as connection:
                assert (await shop.order(connection)).created
                assert (await shop.pay(connection)).kind == "buffered"
                raise UndoError
        assert await shop.runtime.get_run("r") is None
        async with kind(shop) as connection:
            result = await shop.order(connection)
            assert (result.kind, result.created) == ("queued", True)
            await shop.pay(connection)
            assert await shop.runtime.get_run("r") is None
        assert [done.kind for done in (await shop.runtime.sweep()).ready] == ["completed"]

    play(postgres_url, schema, test)


@pytest.mark.parametrize("kind", KINDS)
def test_a_connection_without_a_transaction(postgres_url: str, schema: str, kind: Any) -> None:
    """A connection that is not in a transaction, or commits by itself, is refused before anything is written."""

    async def test(shop: Shop) -> None:
        if kind is by_psycopg:
            wrong: Any = await psycopg.AsyncConnection.connect(plain(shop.url), autocommit=True)
        elif kind in (by_asyncpg, by_asyncpg_pool):
            wrong = await asyncpg.connect(plain(shop.url))
        elif kind is by_session:
            wrong = AsyncSession(shop.app.engine)
        else:
            wrong = await shop.app.engine.connect()
        with pytest.raises(InvalidArgumentError, match="no open transaction"):
            await shop.order(wrong)
        await wrong.close()
        assert await shop.runtime.get_run("r") is None

    play(postgres_url, schema, test)


def test_connections_of_other_kinds(postgres_url: str, schema: str) -> None:
    """AUTOCOMMIT, a failed transaction, another database and the synchronous API are told apart, each by its remedy."""

    async def test(shop: Shop) -> None:
        engine = create_async_engine(shop.url, isolation_level="AUTOCOMMIT")
        async with engine.connect() as connection:
            await connection.begin()
            with pytest.raises(InvalidArgumentError, match="AUTOCOMMIT"):
                await shop.order(connection)
        async with engine.connect() as connection:
            await connection.execute(text(f'CREATE DATABASE "{schema}"'))
        elsewhere = create_async_engine(make_url(shop.url).set(database=schema))
        async with elsewhere.begin() as connection:
            with pytest.raises(InvalidArgumentError, match="no transaction can hold both"):
                await shop.order(connection)
            assert (await connection.execute(text("SELECT 1"))).scalar() == 1
        await elsewhere.dispose()
        async with engine.connect() as connection:
            await connection.execute(text(f'DROP DATABASE "{schema}"'))
        await engine.dispose()
        async with await psycopg.AsyncConnection.connect(plain(shop.url)) as failed:
            with pytest.raises(psycopg.errors.DivisionByZero):
                await failed.execute("SELECT 1 / 0")
            with pytest.raises(InvalidArgumentError, match="failed"):
                await shop.order(failed)
        with psycopg.connect(plain(shop.url)) as synchronous, pytest.raises(InvalidArgumentError, match="takes an SQL"):
            await shop.order(synchronous)

    play(postgres_url, schema, test)


def test_a_missing_schema_names_the_command(postgres_url: str, schema: str) -> None:
    """Where the store's tables are not there, the error says how to make them."""

    async def main() -> None:
        store = PostgresStore(postgres_url, schema=schema)
        runtime = WorkflowRuntime(store, [ship])
        with pytest.raises(StoreError, match="migrate"):
            async with store.engine.begin() as connection:
                await runtime.start_run(ship, input="x", connection=connection)
        await runtime.close()

    asyncio.run(main())


def test_savepoints_are_the_apps(postgres_url: str, schema: str) -> None:
    """A run that was started after a savepoint goes with it; what was before stays."""

    async def test(shop: Shop) -> None:
        async with shop.app.engine.begin() as connection:
            await shop.order(connection, "kept")
            with pytest.raises(UndoError):
                async with connection.begin_nested():
                    await shop.order(connection, "undone")
                    raise UndoError
        assert await shop.runtime.get_run("kept") is not None
        assert await shop.runtime.get_run("undone") is None

    play(postgres_url, schema, test)


async def until_waiting(app: PostgresApp) -> None:
    """Until some backend waits for another transaction."""
    query = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
    async with asyncio.timeout(10), app.engine.connect() as connection:
        while not (await connection.execute(text(query))).scalar():
            await connection.rollback()
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("commits", [True, False])
def test_two_transactions_that_start_one_run(postgres_url: str, schema: str, commits: bool) -> None:
    """The second waits for the end of the first, and then finds its run, or creates it itself."""

    async def test(shop: Shop) -> None:
        async with shop.app.begun() as first, shop.app.begun() as second:
            await shop.order(first)
            waiting = asyncio.create_task(shop.order(second))
            await until_waiting(shop.app)
            await (first.commit() if commits else first.rollback())
            assert (await waiting).created is not commits
            await second.commit()
        assert await shop.runtime.get_run("r") is not None

    play(postgres_url, schema, test)


@pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE"])
def test_stricter_levels_fail_as_databases_do(postgres_url: str, schema: str, level: Any) -> None:
    """A rival that has created or moved the run since the snapshot makes the statement fail with 40001."""

    async def test(shop: Shop) -> None:
        for verb, rival in ((shop.order, "create"), (shop.pay, "deliver")):
            async with shop.app.engine.connect() as connection:
                await connection.execution_options(isolation_level=level)
                await connection.begin()
                await connection.execute(text(f"SELECT count(*) FROM {shop.app.table}"))
                if rival == "create":
                    await shop.runtime.start_run(ship, run_id="r", input="x", drive=False)
                else:
                    await shop.runtime.sweep()
                with pytest.raises(DBAPIError) as raised:
                    await verb(connection)
                assert getattr(raised.value.orig, "sqlstate", None) == "40001"
        async with shop.app.engine.connect() as connection:
            await connection.execution_options(isolation_level=level)
            async with connection.begin():
                assert (await shop.pay(connection)).kind == "queued"

    play(postgres_url, schema, test)


def test_an_app_that_dawdles_holds_up_nobody_else(postgres_url: str, schema: str) -> None:
    """While an app's transaction holds a run, other runs are started, signalled, swept and committed as ever."""

    async def test(shop: Shop) -> None:
        runtime = shop.runtime
        for run_id in ("held", "other"):
            await runtime.start_run(ship, run_id=run_id, input="x")
        async with shop.app.begun() as connection:
            await shop.pay(connection, "held")
            await shop.order(connection, "new")
            rival = asyncio.create_task(runtime.start_run(ship, run_id="new", input="rival", drive=False))
            async with asyncio.timeout(20):
                starts = [runtime.start_run(ship, run_id=f"r{n}", input="x") for n in range(20)]
                assert {result.kind for result in await asyncio.gather(*starts)} == {"paused"}
                signals = [
                    runtime.deliver_signal(run_id=run_id, signal_id="s", name="paid", payload="yes", drive=False)
                    for run_id in ("other", *(f"r{n}" for n in range(20)))
                ]
                await asyncio.gather(*signals)
                assert {result.kind for result in (await runtime.sweep()).ready} == {"completed"}
            assert not rival.done()
            run = await runtime.get_run("held")
            assert run is not None
            assert run.status == "paused"
            await connection.commit()
        assert (await rival).created is False
        assert {result.run_id for result in (await runtime.sweep()).ready} == {"held", "new"}

    play(postgres_url, schema, test)


def test_a_held_run_does_not_stop_the_renewal_of_leases(postgres_url: str, schema: str) -> None:
    """A lease on a run that an app's transaction holds is still counted as held, and the others are renewed."""
    from workflow.runtime.contract import HeldLease
    from workflow.runtime.testing.suite.samples import at, start

    async def test(shop: Shop) -> None:
        held, other = await start(shop.store, "held"), await start(shop.store, "other")
        async with shop.app.begun() as connection:
            await shop.pay(connection, "held")
            leases = [HeldLease(claimed.run.run_id, claimed.run.fence) for claimed in (held, other)]
            async with asyncio.timeout(10):
                renewed = await shop.store.renew(leases, until=at(99), now=at(1))
            assert [renewal.run_id for renewal in renewed] == ["held", "other"]
        run = await shop.store.get_run("other")
        assert run is not None
        assert run.due_at == at(99)

    play(postgres_url, schema, test)


def test_a_notice_goes_out_with_the_commit(postgres_url: str, schema: str) -> None:
    """A worker elsewhere hears of the run when the app commits, not before."""

    async def test(shop: Shop) -> None:
        listener = PostgresStore(shop.url, schema=schema)
        waiting = asyncio.create_task(listener.wait_for_work({"ship"}))
        async with asyncio.timeout(20):
            while not waiting.done():  # until it listens, which the first notice shows
                await shop.runtime.start_run(ship, input="x", drive=False)
                await asyncio.sleep(0.02)
            async with shop.app.begun() as connection:
                waiting = asyncio.create_task(listener.wait_for_work({"ship"}))
                await shop.order(connection)
                _, pending = await asyncio.wait([waiting], timeout=0.3)
                assert pending or waiting.done()  # an earlier notice may still have been on its way
                if waiting.done():
                    waiting = asyncio.create_task(listener.wait_for_work({"ship"}))
                await connection.commit()
            await waiting
        await listener.close()

    play(postgres_url, schema, test)


def test_a_worker_takes_what_an_app_has_committed(postgres_url: str, schema: str) -> None:
    """With a worker under way the order is shipped soon after the app's commit, and never after a rollback."""

    async def test(shop: Shop) -> None:
        stop = asyncio.Event()
        serving = asyncio.create_task(shop.runtime.serve(stop=stop, signals=False, poll_interval=0.2))
        with pytest.raises(UndoError):
            async with shop.app.engine.begin() as connection:
                await shop.order(connection, "undone")
                raise UndoError
        async with shop.app.engine.begin() as connection:
            await shop.app.write(connection, "order")
            await shop.order(connection)
            await shop.pay(connection)
        run = await shop.runtime.wait_for_run("r", timeout=20)
        assert run is not None
        assert (run.status, run.output, await shop.app.notes()) == ("completed", "shoes: yes", ["order"])
        assert await shop.runtime.get_run("undone") is None
        stop.set()
        await serving

    play(postgres_url, schema, test)


def test_cancelling_and_approving_within_a_transaction(postgres_url: str, schema: str) -> None:
    """Cancel requests and decisions are mail, too."""

    @create_workflow(id="ask")
    async def ask(ctx: Context[None]) -> bool:
        return (await ctx.approve("Ship it?", id="ok")).approved

    async def test(shop: Shop) -> None:
        runtime = WorkflowRuntime(shop.store, [ask, ship])
        await runtime.start_run(ask, run_id="asked")
        await runtime.start_run(ship, run_id="stopped", input="x")
        async with shop.app.begun() as connection:
            await runtime.deliver_approval(run_id="asked", approval_id="ok", approved=True, connection=connection)
            result = await runtime.cancel_run("stopped", reason="sold out", connection=connection)
            assert result.kind == "queued"
            await connection.commit()
        ends = {result.run_id: result.kind for result in (await runtime.sweep()).ready}
        assert ends == {"asked": "completed", "stopped": "cancelled"}

    play(postgres_url, schema, test)


def test_a_run_may_be_started_for_later(postgres_url: str, schema: str) -> None:
    """`delay` goes with `connection`; an id that another workflow's run has is an error, as ever."""

    async def test(shop: Shop) -> None:
        async with shop.app.begun() as connection:
            result = await shop.runtime.start_run(
                ship, run_id="r", input="x", delay=timedelta(hours=1), connection=connection
            )
            await connection.commit()
        assert result.run is not None
        assert result.run.due_at == result.run.created_at + timedelta(hours=1)
        other = create_workflow(id="other")(_nothing)
        runtime = WorkflowRuntime(shop.store, [other])
        async with shop.app.begun() as connection:
            with pytest.raises(InvalidArgumentError, match="of workflow 'ship'"):
                await runtime.start_run(other, run_id="r", connection=connection)

    play(postgres_url, schema, test)


async def _nothing(ctx: Context[None]) -> None: ...
