"""Schedules on Postgres: a move is whole or not at all, whoever holds its runs; and reopening against rivals."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import asyncpg
import pytest

from workflow.core.errors import LeaseLostError, LogConflictError
from workflow.core.records import ENDED, NewRun, Transition
from workflow.runtime.contract import HeldLease
from workflow.runtime.schedules.records import ScheduleCommit, ScheduleKey
from workflow.runtime.testing.invariants import check_invariants
from workflow.runtime.testing.suite.samples import (
    WORKFLOW,
    at,
    cancel,
    claim_due,
    commit,
    deliver,
    end,
    new_run,
    pause,
    queue,
    record,
    row,
    signal,
    signal_wait,
    start,
)
from workflow.store.postgres import PostgresStore

KEY = ScheduleKey(WORKFLOW, "daily")


@pytest.fixture
def opened(postgres_url: str, schema: str) -> Callable[..., Any]:
    @asynccontextmanager
    async def open_(**options: Any) -> AsyncGenerator[tuple[PostgresStore, asyncpg.Connection[Any]]]:
        store = PostgresStore(postgres_url, schema=schema, **options)
        connection = await asyncpg.connect(postgres_url.replace("+asyncpg", ""))
        try:
            await store.migrate()
            yield store, connection
        finally:
            await connection.close()
            await store.close()

    return open_


def scheduled(run_id: str) -> NewRun:
    return replace(new_run(run_id), schedule_id=KEY.schedule_id)


def move(revision: int, **changes: Any) -> ScheduleCommit:
    return ScheduleCommit(KEY, revision, at(1), at(2), False, "{}", **changes)


def stop(revision: int, *run_ids: str, **changes: Any) -> ScheduleCommit:
    return move(revision, cancel=run_ids, cancel_mail=cancel(f"c{revision}"), **changes)


def test_a_run_that_is_held_holds_up_its_schedule_only(opened: Callable[..., Any]):
    """While the app holds a run that a tick is to end, nothing of the tick is there, and no one else waits for it."""

    async def main() -> None:
        async with opened() as (store, app):
            await store.commit_schedule(move(0, starts=(scheduled("a"), scheduled("b"))))
            held = await start(store, "other")
            async with app.transaction():
                await app.execute(f"SELECT FROM {store.schema}.workflow_runs WHERE run_id = 'a' FOR UPDATE")
                ended = stop(1, "b", terminate=("a", "b"), termination="{}", starts=(scheduled("c"),))
                task = asyncio.ensure_future(store.commit_schedule(ended))
                for index in range(50):  # while it tries again and again
                    await store.commit(commit(held, 1, index=index))
                    await deliver(store, signal(f"s{index}"), "b")
                (schedule,) = await store.read_schedules([KEY])
                assert (schedule.revision, schedule.active) == (1, ("a", "b"))
                assert await store.get_run("c") is None
                assert not task.done()
            assert await task
            (schedule,) = await store.read_schedules([KEY])
            assert (schedule.revision, schedule.active) == (2, ("c",))
            assert [(await row(store, name)).status for name in "ab"] == ["cancelled"] * 2
            assert (await row(store, "b")).mail_count == 51

    asyncio.run(main())


def test_a_run_that_the_app_creates_at_the_same_time(opened: Callable[..., Any]):
    """A tick whose run the app has created and not committed yet comes when that is decided, and holds up no other."""

    async def main() -> None:
        async with opened() as (store, app):
            columns = "workflow_id, status, created_at, updated_at, due_at, wake_at, input"
            await store.commit_schedule(move(0))
            await store.create_run(new_run("model"), lease=None, now=at(0))
            async with app.transaction():
                table = f"{store.schema}.workflow_runs"
                await app.execute(f"INSERT INTO {table} (run_id, {columns}) SELECT 'a', {columns} FROM {table}")
                task = asyncio.ensure_future(store.commit_schedule(move(1, starts=(scheduled("a"), scheduled("b")))))
                other = replace(move(0), key=ScheduleKey(WORKFLOW, "other"))
                for revision in range(20):
                    assert await store.commit_schedule(replace(other, expected_revision=revision))
                assert not task.done()
            assert await task
            (schedule,) = await store.read_schedules([KEY])
            assert (schedule.revision, schedule.active) == (2, ("b",))

    asyncio.run(main())


class Crowd:
    """Everything that may happen to the runs of a schedule, by many at once."""

    def __init__(self, stores: list[PostgresStore]) -> None:
        self.stores = stores
        self.random = random.Random(11)
        self.moves = self.stops = self.reopened = self.refused = 0

    async def work(self, number: int, until: float) -> None:
        store = self.stores[number % len(self.stores)]
        acts = [self.tick, self.tick, self.sweep, self.sweep, self.sweep, self.reopen, self.mail]
        while asyncio.get_running_loop().time() < until:
            await self.random.choice(acts)(store, number)

    async def tick(self, store: PostgresStore, number: int) -> None:
        found = await store.read_schedules([KEY])
        revision, active = (found[0].revision, list(found[0].active)) if found else (0, [])
        self.random.shuffle(active)
        ids = tuple(active[:4])
        change = self.random.choice([{}, {"cancel": ids[:2], "terminate": ids[1:], "termination": "{}"}])
        if change:
            change["cancel_mail"] = cancel(f"c{revision}")
        starts = tuple(scheduled(f"r{revision}-{n}") for n in range(self.random.randrange(4)))
        applied = await store.commit_schedule(move(revision, starts=starts, **change))
        self.moves += applied
        self.stops += applied and bool(change) and bool(ids)

    async def sweep(self, store: PostgresStore, number: int) -> None:
        found = await claim_due(store, now=5, until=9, owner=str(number))
        held = [HeldLease(claimed.run.run_id, claimed.run.fence) for claimed in found]
        await asyncio.gather(store.renew(held, until=at(9), now=at(5)), *(self.drive(store, run) for run in found))

    async def drive(self, store: PostgresStore, claimed: Any) -> None:
        seen = tuple(mail.seq for mail in claimed.mail)
        failed = Transition("errored", error="{}")
        release = self.random.choice([queue(), pause(signal_wait()), end(), failed, failed])
        try:
            await store.commit(commit(claimed, 1, consumed=seen))
            await store.commit(commit(claimed, 1, release, index=claimed.run.log_length + 1))
        except (LeaseLostError, LogConflictError):
            self.refused += 1

    async def reopen(self, store: PostgresStore, number: int) -> None:
        run = await store.get_run(f"r{self.random.randrange(50)}-{self.random.randrange(3)}")
        if run is not None and run.status in ("errored", "cancelled"):
            index, again = run.log_length, (signal(f"again{number}"),)
            self.reopened += None is not await store.reopen(
                run.run_id, expected_index=index, record=record(index), mail=again, expires_at=None, now=at(5)
            )

    async def mail(self, store: PostgresStore, number: int) -> None:
        run_id = f"r{self.random.randrange(50)}-{self.random.randrange(3)}"
        await store.deliver(run_id, signal(f"s{self.random.randrange(9)}"), lease=None, now=at(5))


def test_schedules_against_everything_else(postgres_url: str, schema: str, opened: Callable[..., Any]):
    """24 workers move a schedule, and stop, drive and reopen its runs, at once: no deadlock, and what holds, holds."""

    async def main() -> None:
        async with opened(connections=6) as (store, watcher):
            stores = [store, *(PostgresStore(postgres_url, schema=schema, connections=6) for _ in range(3))]
            count = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
            before = await watcher.fetchval(count)
            crowd = Crowd(stores)
            until = asyncio.get_running_loop().time() + 4
            async with asyncio.timeout(60):
                await asyncio.gather(*(crowd.work(number, until) for number in range(24)))
            assert await watcher.fetchval(count) == before
            assert min(crowd.moves, crowd.stops, crowd.reopened, crowd.refused) > 0
            await check_invariants(store)
            (schedule,) = await store.read_schedules([KEY])
            assert schedule.revision == crowd.moves
            live = f"SELECT run_id FROM {schema}.workflow_runs WHERE schedule_id = 'daily' AND status <> ALL ($1)"
            assert set(schedule.active) == {run[0] for run in await watcher.fetch(live, list(ENDED))}
            for other in stores[1:]:
                await other.close()

    asyncio.run(main())


def test_a_reopening_waits_for_who_holds_the_run(opened: Callable[..., Any]):
    """A run that a transaction of the app holds is reopened when it is free, and not at all if it was moved."""

    async def main() -> None:
        async with opened() as (store, app):
            for name in ("a", "b"):
                await store.commit(commit(await start(store, name), 1, Transition("errored", error="{}")))

            async def reopen(name: str) -> Any:
                return await store.reopen(
                    name, expected_index=1, record=record(1), mail=[signal()], expires_at=None, now=at(9)
                )

            async with app.transaction():
                await app.execute(f"SELECT FROM {store.schema}.workflow_runs FOR UPDATE")
                tasks = [asyncio.ensure_future(reopen(name)) for name in ("a", "b")]
                for _ in range(20):
                    await store.get_run("a")
                assert not any(task.done() for task in tasks)
                await app.execute(f"UPDATE {store.schema}.workflow_runs SET log_length = 2 WHERE run_id = 'b'")
                await app.execute(f"INSERT INTO {store.schema}.workflow_log VALUES ('b', 1, '{{}}', NULL)")
            first, second = await asyncio.gather(*tasks)
            assert (first.status, first.log_length, first.mail_count) == ("queued", 2, 1)
            assert second is None
            assert (await row(store, "b")).status == "errored"

    asyncio.run(main())


def test_a_pause_after_mail_was_forgotten(opened: Callable[..., Any]):
    """A reopened run whose old mail is gone can pause, whatever its drive says that it has seen."""

    async def main() -> None:
        async with opened() as (store, _):
            run = await start(store)
            await deliver(store, cancel())
            await deliver(store, signal())
            await store.commit(commit(run, 1, Transition("cancelled"), consumed=(2,), seen=2))
            await store.reopen("r", expected_index=1, record=record(1), mail=[signal()], expires_at=None, now=at(9))
            (claimed,) = await claim_due(store, now=10)
            assert [mail.seq for mail in claimed.mail] == [3]
            answer = await store.commit(commit(claimed, 1, pause(signal_wait()), consumed=(3,), seen=0, now=11))
            assert answer.released

    asyncio.run(main())
