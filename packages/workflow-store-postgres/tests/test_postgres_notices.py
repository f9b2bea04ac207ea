"""LISTEN and NOTIFY as a hint: heard at once and by everyone, from then on, and back after a lost connection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest

from workflow.core.errors import StoreError
from workflow.core.records import NewRun, Transition
from workflow.runtime.schedules.records import ScheduleCommit, ScheduleKey
from workflow.runtime.testing.suite.samples import (
    at,
    cancel,
    claim,
    commit,
    deliver,
    lease,
    pause,
    queue,
    record,
    signal,
    signal_wait,
    start,
)
from workflow.store.postgres import PostgresStore, StoreUnavailableError, pooler_engine

WORKFLOWS = ["orders", "other"]


@pytest.fixture(params=["asyncpg", "psycopg"])
def pair(request: pytest.FixtureRequest, postgres_url: str, schema: str) -> Callable[[], Any]:
    """One store that waits, and another that works."""

    @asynccontextmanager
    async def open_() -> AsyncGenerator[tuple[PostgresStore, PostgresStore]]:
        url = postgres_url.replace("asyncpg", request.param)
        stores = [PostgresStore(url, schema=schema) for _ in range(2)]
        try:
            await stores[0].migrate()
            yield stores[0], stores[1]
        finally:
            for store in stores:
                await store.close()

    return open_


async def listening(store: PostgresStore, url: str) -> asyncio.Future[None]:
    """A wait for work, once the server has seen that it listens."""
    waiting = asyncio.ensure_future(store.wait_for_work(WORKFLOWS))
    watcher = await asyncpg.connect(url.replace("+asyncpg", ""))
    query = "SELECT count(*) FROM pg_stat_activity WHERE query ILIKE 'LISTEN%' AND state = 'idle'"
    async with asyncio.timeout(10):
        while not await watcher.fetchval(query):
            await asyncio.sleep(0.01)
    await watcher.close()
    return waiting


async def heard(waiting: asyncio.Future[None]) -> None:
    async with asyncio.timeout(5):
        await waiting


def new(run_id: str, workflow_id: str = "orders") -> NewRun:
    return NewRun(run_id, workflow_id, None, "{}", at(0))


def test_what_becomes_due_is_heard(postgres_url: str, pair: Callable[[], Any]):
    """A start without a drive, an awaited signal and a run that is put back each end a wait in another process."""

    async def main() -> None:
        async with pair() as (waiter, worker):
            waiting = await listening(waiter, postgres_url)
            await worker.create_run(new("r"), lease=None, now=at(0))
            await heard(waiting)
            held = await claim(worker, now=1)
            waiting = asyncio.ensure_future(waiter.wait_for_work(WORKFLOWS))
            await worker.commit(commit(held, 1, queue()))
            await heard(waiting)
            held = await claim(worker, now=2)
            await worker.commit(commit(held, 1, pause(signal_wait())))
            waiting = asyncio.ensure_future(waiter.wait_for_work(WORKFLOWS))
            await deliver(worker, signal(), now=3)
            await heard(waiting)

    asyncio.run(main())


def test_what_schedules_and_people_make_due_is_heard(postgres_url: str, pair: Callable[[], Any]):
    """A run that a schedule starts, one that it asks to cancel and one that is reopened each end a wait."""

    async def main() -> None:
        async with pair() as (waiter, worker):
            key = ScheduleKey("orders", "daily")
            await worker.commit(commit(await start(worker, "paused"), 1, pause(signal_wait())))
            await worker.commit(commit(await start(worker, "failed"), 1, Transition("errored", error="{}")))
            waiting = await listening(waiter, postgres_url)
            await worker.commit_schedule(ScheduleCommit(key, 0, at(1), None, False, "{}", starts=(new("tick"),)))
            await heard(waiting)
            waiting = asyncio.ensure_future(waiter.wait_for_work(WORKFLOWS))
            stop = {"cancel": ("paused",), "cancel_mail": cancel()}
            await worker.commit_schedule(ScheduleCommit(key, 1, at(1), None, False, "{}", **stop))
            await heard(waiting)
            waiting = asyncio.ensure_future(waiter.wait_for_work(WORKFLOWS))
            await worker.reopen("failed", expected_index=1, record=record(1), mail=(), expires_at=None, now=at(9))
            await heard(waiting)

    asyncio.run(main())


def test_what_does_not_concern_is_not_heard(postgres_url: str, pair: Callable[[], Any]):
    """Runs of other workflows, runs that somebody drives, commits that go on and early mail leave a waiter alone."""

    async def main() -> None:
        async with pair() as (waiter, worker):
            waiting = await listening(waiter, postgres_url)
            await worker.create_run(new("a", "foreign"), lease=None, now=at(0))
            held = (await worker.create_run(new("r"), lease=lease(), now=at(0))).claimed
            await worker.commit(commit(held, 1))
            await deliver(worker, signal("early", "unawaited"))
            await worker.commit(commit(held, 1, pause(signal_wait()), index=1, seen=1))
            await asyncio.sleep(0.2)
            assert not waiting.done()
            await worker.create_run(new("b", "other"), lease=None, now=at(0))
            await heard(waiting)

    asyncio.run(main())


def test_what_happens_between_two_waits_is_heard(postgres_url: str, pair: Callable[[], Any]):
    """The store listens on between two waits: the second returns at once, and the third waits again."""

    async def main() -> None:
        async with pair() as (waiter, worker):
            waiting = await listening(waiter, postgres_url)
            await worker.create_run(new("r1"), lease=None, now=at(0))
            await heard(waiting)
            await worker.create_run(new("r2"), lease=None, now=at(0))
            await asyncio.sleep(0.2)
            await heard(asyncio.ensure_future(waiter.wait_for_work(WORKFLOWS)))
            third = asyncio.ensure_future(waiter.wait_for_work(WORKFLOWS))
            await asyncio.sleep(0.1)
            assert not third.done()
            third.cancel()

    asyncio.run(main())


def test_a_listener_that_loses_its_connection(postgres_url: str, pair: Callable[[], Any]):
    """Who waits is told that the connection is gone, and the next wait listens on a new one."""

    async def main() -> None:
        async with pair() as (waiter, worker):
            waiting = await listening(waiter, postgres_url)
            killer = await asyncpg.connect(postgres_url.replace("+asyncpg", ""))
            await killer.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query ILIKE 'LISTEN%'")
            await killer.close()
            with pytest.raises(StoreUnavailableError):
                await heard(waiting)
            waiting = await listening(waiter, postgres_url)
            await worker.create_run(new("r"), lease=None, now=at(0))
            await heard(waiting)

    asyncio.run(main())


def test_closing_ends_a_wait(postgres_url: str, schema: str):
    """A store that is closed while somebody waits says so to them."""

    async def main() -> None:
        store = PostgresStore(postgres_url, schema=schema)
        waiting = await listening(store, postgres_url)
        await store.close()
        with pytest.raises(StoreError, match="closed"):
            await heard(waiting)

    asyncio.run(main())


def test_a_pooler_is_not_listened_through(postgres_url: str, schema: str):
    """On an engine for a pooler nothing is heard, as no connection stays the same; the worker polls."""

    async def main() -> None:
        engine = pooler_engine(postgres_url)
        store = PostgresStore(engine, schema=schema)
        await store.migrate()
        waiting = asyncio.ensure_future(store.wait_for_work(["orders"]))
        await store.create_run(new("r"), lease=None, now=at(0))
        await asyncio.sleep(0.1)
        assert not waiting.done()
        waiting.cancel()
        await store.close()
        await engine.dispose()

    asyncio.run(main())


def test_a_long_workflow_id_is_told_of(postgres_url: str, pair: Callable[[], Any]):
    """An id that no notice can carry is told of without its name, and wakes everyone."""

    async def main() -> None:
        async with pair() as (waiter, worker):
            waiting = await listening(waiter, postgres_url)
            await worker.create_run(new("r", "w" * 9000), lease=None, now=at(0))
            await heard(waiting)

    asyncio.run(main())
