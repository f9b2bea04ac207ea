"""Connections: lost in the middle, given back when idle, one loop after another, another driver, no server at all."""

from __future__ import annotations

import asyncio
import signal as signals
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from threading import Thread
from typing import Any

import asyncpg
import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from workflow.core.errors import InvalidArgumentError, StoreError
from workflow.core.records import Committed, RunRecord, Transition
from workflow.runtime.contract import HeldLease
from workflow.runtime.queues import Queue
from workflow.runtime.schedules.records import ScheduleCommit, ScheduleKey
from workflow.runtime.testing.suite.samples import (
    ANYTHING,
    WORKFLOW,
    at,
    cancel,
    claim,
    commit,
    create,
    end,
    lease,
    new_run,
    pause,
    record,
    row,
    signal,
    signal_wait,
    start,
)
from workflow.store.postgres import PostgresStore, StoreUnavailableError, pooler_engine
from workflow.store.postgres.testing import EmbeddedServer

Operation = Callable[[PostgresStore, RunRecord], Awaitable[Any]]


@pytest.fixture
def opened(postgres_url: str, schema: str) -> Callable[..., Any]:
    @asynccontextmanager
    async def open_(url: str = postgres_url, **options: Any) -> AsyncGenerator[PostgresStore]:
        store = PostgresStore(url, schema=schema, **options)
        try:
            await store.migrate()
            yield store
        finally:
            await store.close()

    return open_


async def _connect(url: str) -> asyncpg.Connection[Any]:
    return await asyncpg.connect(url.replace("+asyncpg", "").replace("+psycopg", ""))


async def _commit(store: PostgresStore, held: RunRecord) -> None:
    assert await store.commit(commit(held, 2, end())) == Committed(released=True)


async def _deliver(store: PostgresStore, held: RunRecord) -> None:
    assert (await store.deliver("paused", signal(), lease=None, now=at(3))).outcome in ("accepted", "duplicate")


async def _create(store: PostgresStore, held: RunRecord) -> None:
    assert (await store.create_run(new_run("new"), lease=lease(), now=at(0))).run.status == "running"


async def _renew(store: PostgresStore, held: RunRecord) -> None:
    renewed = await store.renew([HeldLease("running", 1)], until=at(77), now=at(1))
    assert [renewal.run_id for renewal in renewed] == ["running"]


async def _claim_due(store: PostgresStore, held: RunRecord) -> None:
    await store.claim_due([WORKFLOW], lease(until=40), limits=ANYTHING, now=at(1))


async def _claim_queue(store: PostgresStore, held: RunRecord) -> None:
    limits = Queue(WORKFLOW, concurrency=9)
    await store.claim_queue(limits, [WORKFLOW], lease(until=40), limits=ANYTHING, now=at(1))


async def _commit_schedule(store: PostgresStore, held: RunRecord) -> None:
    key = ScheduleKey(WORKFLOW, "daily")
    starts = (replace(new_run("tick"), schedule_id="daily"),)
    stops = {"cancel": ("paused",), "cancel_mail": cancel(), "terminate": ("running",), "termination": "{}"}
    await store.commit_schedule(ScheduleCommit(key, 0, at(1), at(2), False, "{}", starts, **stops))
    (schedule,) = await store.read_schedules()
    runs = [await row(store, name) for name in ("tick", "paused", "running")]
    assert (schedule.revision, schedule.active) == (1, ("tick",))
    assert [run.status for run in runs] == ["queued", "queued", "cancelled"]


async def _start_tick(store: PostgresStore, held: RunRecord) -> None:
    starts = (new_run("tick"),)
    key = ScheduleKey(WORKFLOW, "daily")
    await store.commit_schedule(ScheduleCommit(key, 0, at(1), at(2), False, "{}", starts))
    assert (await row(store, "tick")).status == "queued"


async def _reopen(store: PostgresStore, held: RunRecord) -> None:
    why = record(1)
    await store.reopen("errored", expected_index=1, record=why, mail=[signal()], expires_at=None, now=at(9))
    run = await row(store, "errored")
    assert (run.status, run.log_length, run.mail_count) == ("queued", 2, 1)


OPERATIONS = {
    "claim_queue": _claim_queue,
    "commit_schedule": _commit_schedule,
    "start_tick": _start_tick,
    "reopen": _reopen,
    "read_schedules": lambda store, _: store.read_schedules(),
    "list_ticks": lambda store, _: store.list_ticks(ScheduleKey(WORKFLOW, "daily")),
    "commit": _commit,
    "deliver": _deliver,
    "create": _create,
    "renew": _renew,
    "claim_due": _claim_due,
    "claim_run": lambda store, _: store.claim_run("queued", lease(until=40), now=at(1)),
    "get_run": lambda store, _: row(store, "queued"),
    "read_log": lambda store, _: store.read_log("paused"),
    "next_due": lambda store, _: store.next_due([WORKFLOW]),
    "purge": lambda store, _: store.purge(at(0)),
}


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=list(OPERATIONS))
def test_a_connection_lost_in_the_middle(
    postgres_url: str, opened: Callable[..., Any], operation: Operation, driver: str
):
    """The server drops the connection while the statement runs: it is said again, and answered."""

    async def main() -> None:
        async with opened(postgres_url.replace("asyncpg", driver)) as store:
            await create(store, "queued")
            held = (await start(store, "running")).run
            await store.commit(commit(await start(store, "paused"), 1, pause(signal_wait())))
            await store.commit(commit(await start(store, "errored"), 1, Transition("errored", error="{}")))
            watcher = await _connect(postgres_url)
            async with watcher.transaction():
                # What the statement needs is locked as a whole, so it waits where it can be met.
                tables = ", ".join(
                    f"{store.schema}.workflow_{name}" for name in ("runs", "log", "mail", "schedules", "ticks")
                )
                await watcher.execute(f"LOCK TABLE {tables} IN ACCESS EXCLUSIVE MODE")
                task = asyncio.ensure_future(operation(store, held))
                await _terminate_waiting(watcher)
            async with asyncio.timeout(10):
                await task
            await watcher.close()

    asyncio.run(main())


async def _terminate_waiting(watcher: asyncpg.Connection[Any]) -> None:
    query = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE wait_event_type = 'Lock' AND wait_event = 'relation' AND pid <> pg_backend_pid()"
    )
    async with asyncio.timeout(10):
        while not await watcher.fetch(query):
            await asyncio.sleep(0.005)


def test_connections_that_died_while_idle(postgres_url: str, opened: Callable[..., Any]):
    """All held connections die while nothing happens, as behind a firewall or in a frozen process: nobody notices."""

    async def main() -> None:
        async with opened() as store:
            held = await asyncio.gather(*(start(store, f"r{n}") for n in range(20)))
            await asyncio.gather(*(row(store, f"r{n}") for n in range(20)))
            watcher = await _connect(postgres_url)
            await watcher.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
            )
            answers = await asyncio.gather(*(store.commit(commit(run, 1)) for run in held))
            assert set(answers) == {Committed(released=False)}
            await watcher.close()

    asyncio.run(main())


def test_a_server_that_crashes_and_comes_back():
    """The server is shut down as in a crash, under load, and started again: each commit is written, and once."""

    async def main(server: EmbeddedServer) -> None:
        store = PostgresStore(server.url, retry_for=20)
        await store.migrate()
        held = await asyncio.gather(*(start(store, f"r{n}") for n in range(40)))

        async def drive(n: int) -> None:
            for index in range(60):
                await store.commit(commit(held[n], 1, index=index))

        drives = [asyncio.ensure_future(drive(n)) for n in range(40)]
        await asyncio.sleep(0.1)
        await asyncio.to_thread(server.stop, signals.SIGQUIT)
        await asyncio.sleep(0.2)
        await asyncio.to_thread(server.start)
        await asyncio.gather(*drives)
        logs = await asyncio.gather(*(store.read_log(f"r{n}") for n in range(40)))
        assert all([record.index for record in log] == list(range(60)) for log in logs)
        await store.close()

    with EmbeddedServer() as server:
        asyncio.run(main(server))


def test_no_server():
    """Where nothing listens, an operation fails within the time it is given, with an error of ours that says so and
    where that was, without a password."""

    async def main() -> None:
        store = PostgresStore("postgresql://nobody:secret@127.0.0.1:1/none", retry_for=0.3)
        began = time.monotonic()
        with pytest.raises(StoreUnavailableError, match=r"'none' on 127\.0\.0\.1:1 did not answer: Conn") as caught:
            await store.get_run("r")
        assert time.monotonic() - began < 3
        assert "secret" not in str(caught.value)
        await store.close()

    asyncio.run(main())


def test_a_wrong_password_is_not_tried_again(postgres_url: str):
    """What can't get better is not repeated: a database that isn't there is said at once."""

    async def main() -> None:
        store = PostgresStore(postgres_url.rpartition("/")[0] + "/nothing_here", retry_for=30)
        async with asyncio.timeout(5):
            with pytest.raises(StoreError, match="nothing_here"):
                await store.get_run("r")
        await store.close()

    asyncio.run(main())


def test_idle_connections_go_back(postgres_url: str, schema: str):
    """Connections are held while there is work, and then given back to the app's pool, usable as before."""

    async def main() -> None:
        engine = create_async_engine(postgres_url)
        store = PostgresStore(engine, schema=schema, idle=0.1)
        await store.migrate()
        await asyncio.gather(*(start(store, f"r{n}") for n in range(10)))
        await asyncio.gather(*(row(store, f"r{n}") for n in range(10)))
        assert 1 <= engine.pool.checkedout() <= 4
        async with asyncio.timeout(5):
            while engine.pool.checkedout():
                await asyncio.sleep(0.02)
        async with engine.connect() as connection:
            count = await connection.scalar(text(f"SELECT count(*) FROM {schema}.workflow_runs"))
            await connection.rollback()
        assert count == 10
        await store.close()
        async with engine.connect() as connection:  # the engine is the app's, and outlives the store
            assert await connection.scalar(text("SELECT 1")) == 1
        await engine.dispose()

    asyncio.run(main())


def test_one_store_on_one_loop_after_another(postgres_url: str, schema: str):
    """A store made once works on each `asyncio.run` of a process, also where nobody closed it on the one before."""
    store = PostgresStore(postgres_url, schema=schema)

    async def first() -> None:
        await store.migrate()
        await start(store)
        await store.close_loop()

    async def then(index: int) -> None:
        await store.commit(commit(await row(store), 1, index=index))
        await store.close_loop()

    async def last() -> None:
        assert (await row(store)).log_length == 2
        await store.close()
        with pytest.raises(StoreError, match="closed"):
            await row(store)

    asyncio.run(first())
    asyncio.run(then(0))
    asyncio.run(then(1))
    asyncio.run(last())


def test_a_thread_renews_while_the_loop_is_blocked(opened: Callable[..., Any]):
    """A loop in another thread has connections of its own, and closing the store lets go of them too."""

    async def main() -> None:
        async with opened() as store:
            await start(store, until=10)
            ready = asyncio.Event()
            loop = asyncio.get_running_loop()

            async def renew() -> None:
                for until in range(20, 60, 5):
                    await store.renew([HeldLease("r", 1)], until=at(until), now=at(1))
                loop.call_soon_threadsafe(ready.set)
                await asyncio.sleep(0.3)  # still running when the store is closed

            thread = Thread(target=lambda: asyncio.run(renew()))
            thread.start()
            time.sleep(0.2)  # noqa: ASYNC251 - this loop is blocked on purpose
            await ready.wait()
            assert (await row(store)).due_at == at(55)
            await store.close()
            await asyncio.to_thread(thread.join)

    asyncio.run(main())


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
def test_an_engine_for_a_pooler(postgres_url: str, schema: str, driver: str):
    """The engine for poolers prepares nothing that outlives a transaction, and the store does the same on it."""

    async def main() -> None:
        engine = pooler_engine(postgres_url.replace("asyncpg", driver))
        assert isinstance(engine.pool, NullPool)
        store = PostgresStore(engine, schema=schema, idle=30)
        await store.migrate()
        held = await start(store)
        for index in range(12):  # psycopg prepares what it has seen five times
            await store.commit(commit(held, 1, index=index))
        await store.commit(commit(held, 1, pause(signal_wait()), index=12))
        claimed = (await store.deliver("r", signal(), lease=lease(), now=at(1))).claimed
        assert claimed is not None
        assert len(claimed.log) == 13
        async with store._loops.here().connector.link() as link:
            assert not await link.fetch("SELECT FROM pg_prepared_statements WHERE name <> ''", ())
        await store.close()
        await engine.dispose()

    asyncio.run(main())


def test_a_sync_engine_and_other_drivers_are_refused():
    """Anything but asyncpg and psycopg is refused where the store is made, and no password is shown."""
    for url in ("sqlite+aiosqlite://", "mysql://u:secret@h/d", "postgresql+pg8000://u:secret@h/d", "secret"):
        with pytest.raises(ValueError, match=r"postgresql\+asyncpg|can't be read") as caught:
            PostgresStore(url)
        assert "secret" not in str(caught.value)
    engine: Any = create_engine("postgresql+psycopg://u@h/d")
    with pytest.raises(InvalidArgumentError, match="create_async_engine"):
        PostgresStore(engine)


def test_urls_of_platforms():
    """`postgres://` means asyncpg, and `sslmode` is put as asyncpg spells it."""
    store = PostgresStore("postgres://u@h/d?sslmode=require")
    assert store.engine.url.drivername == "postgresql+asyncpg"
    assert store.engine.url.query == {"ssl": "require"}
    kept = PostgresStore("postgresql+psycopg://u@h/d?sslmode=require")
    assert kept.engine.url.query == {"sslmode": "require"}


def test_a_claim_whose_answer_was_lost(postgres_url: str, opened: Callable[..., Any]):
    """A claim that is repeated after its answer was lost is found again when its lease ends, and not before."""

    async def main() -> None:
        async with opened() as store:
            await create(store)
            await claim(store, now=1, until=30)  # its answer, say, was lost
            assert await store.claim_run("r", lease("ann"), now=at(1)) is None
            assert (await claim(store, now=30)).claimed_from == "running"

    asyncio.run(main())
