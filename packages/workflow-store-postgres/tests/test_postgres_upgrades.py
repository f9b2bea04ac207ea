"""A live system is migrated: nobody is held up, nothing is lost, and the version before goes on working."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest

from workflow.core.errors import StoreError
from workflow.runtime.contract import ClaimLimits
from workflow.runtime.testing.invariants import check_invariants
from workflow.runtime.testing.suite.samples import claim_due
from workflow.store.postgres import PostgresStore, migrations
from workflow.store.postgres.statements import with_schema
from workflow.store.postgres.testing import _installed_binaries

_CREATE = """INSERT INTO {0}.workflow_runs
    (run_id, workflow_id, status, created_at, updated_at, due_at, wake_at, input)
    VALUES ($1, 'orders', 'queued', now(), now(), now(), now(), '{{}}')"""
# The claim of version 1, as short as it can be: it names its columns, and knows nothing of queues.
_CLAIM = """WITH picked AS MATERIALIZED (
    SELECT r.run_id FROM (
        SELECT r.run_id, r.due_at FROM {0}.workflow_runs r
        WHERE r.workflow_id = 'orders' AND r.status = '{1}' AND r.wake_at <= now() AND r.due_at <= now()
        ORDER BY r.wake_at LIMIT 20
    ) c CROSS JOIN LATERAL (
        SELECT * FROM {0}.workflow_runs r WHERE r.run_id = c.run_id AND r.status = '{1}' FOR UPDATE SKIP LOCKED
    ) r LIMIT 5
)
UPDATE {0}.workflow_runs r SET status = 'running', owner = 'old', fence = r.fence + 1, revision = r.revision + 1,
    due_at = now() + interval '1 hour', wake_at = now() + interval '1 hour', started_at = coalesce(r.started_at, now())
FROM picked p WHERE r.run_id = p.run_id RETURNING r.run_id"""
_FINISH = """WITH moved AS (
    UPDATE {0}.workflow_runs r SET status = 'completed', completed_at = now(), due_at = NULL, wake_at = NULL,
        owner = NULL, log_length = r.log_length + 1, revision = r.revision + 1
    WHERE r.run_id = $1 AND r.status = 'running' RETURNING r.run_id, r.log_length
)
INSERT INTO {0}.workflow_log (run_id, idx, event) SELECT m.run_id, m.log_length - 1, '{{}}' FROM moved m"""


def plain(url: str) -> str:
    return url.replace("+asyncpg", "")


class OldProcess:
    """What a process of version 1 does, on one connection, with its statements prepared: create, claim, end."""

    slowest = 0.0

    def __init__(self, url: str, schema: str, number: int) -> None:
        self.url = plain(url)
        self.schema = schema
        self.number = number
        self.made: set[str] = set()
        self.ended: list[str] = []
        self.working = asyncio.Event()

    async def work(self, stop: asyncio.Event) -> None:
        connection = await asyncpg.connect(self.url)
        create_, finish = _CREATE.format(self.schema), _FINISH.format(self.schema)
        claim = _CLAIM.format(self.schema, "queued")
        while not stop.is_set():
            began = time.monotonic()
            run_id = f"old-{self.number}-{len(self.made)}"
            await connection.execute(create_, run_id)
            self.made.add(run_id)
            for row in await connection.fetch(claim):
                await connection.execute(finish, row[0])
                self.ended.append(row[0])
            OldProcess.slowest = max(OldProcess.slowest, time.monotonic() - began)
            self.working.set()
        await connection.close()


@pytest.fixture
def at_version_1(postgres_url: str, schema: str) -> Callable[[], Any]:
    """A schema as the first version of the package made it."""

    @asynccontextmanager
    async def open_() -> AsyncGenerator[asyncpg.Connection[Any]]:
        connection = await asyncpg.connect(plain(postgres_url))
        await connection.execute(f'CREATE SCHEMA "{schema}"')
        await connection.execute(with_schema(migrations.migrations()[0].sql, schema))
        try:
            yield connection
        finally:
            await connection.close()

    return open_


async def _state(connection: asyncpg.Connection[Any], schema: str) -> tuple[list[int], int]:
    """The migrations that were applied, and how many indexes are unfinished."""
    versions = await connection.fetch(f"SELECT version FROM {schema}.workflow_schema ORDER BY version")
    query = "SELECT count(*) FROM pg_index WHERE NOT indisvalid AND indrelid = ($1 || '.workflow_runs')::regclass"
    return [row[0] for row in versions], await connection.fetchval(query, schema)


_DONE = (list(range(1, migrations.LATEST + 1)), 0)


async def _until_waiting(connection: asyncpg.Connection[Any], event: str) -> int:
    """Until a backend waits for a lock of this kind: its process."""
    query = "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND wait_event = $1"
    async with asyncio.timeout(20):
        while (pid := await connection.fetchval(query, event)) is None:
            await asyncio.sleep(0.005)
    return pid


def test_the_version_before_works_on(postgres_url: str, schema: str, at_version_1: Callable[[], Any]):
    """Old processes under load, and a transaction of the app that takes its time, see a migration pass and go on."""

    async def main() -> None:
        async with at_version_1() as connection:
            deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
            before = await connection.fetchval(deadlocks)
            stop, OldProcess.slowest = asyncio.Event(), 0.0
            old = [OldProcess(postgres_url, schema, number) for number in range(6)]
            working = [asyncio.create_task(process.work(stop)) for process in old]
            await asyncio.gather(*(process.working.wait() for process in old))
            store = PostgresStore(postgres_url, schema=schema)
            with pytest.raises(StoreError, match="have version 1, this package needs"):
                await store.check()
            app = await asyncpg.connect(plain(postgres_url))
            async with app.transaction():
                await app.execute(f"SELECT FROM {schema}.workflow_runs LIMIT 1 FOR UPDATE")
                migrating = asyncio.create_task(store.apply_migrations())
                await _until_waiting(connection, "relation")
                await asyncio.sleep(1.5)  # several times as long as a migration waits for a lock
            assert [migration.version for migration in await migrating] == _DONE[0][1:]
            assert await _state(connection, schema) == _DONE
            for process in old:  # each once more, from its beginning to its end
                process.working.clear()
                await process.working.wait()
            stop.set()
            await asyncio.gather(*working, app.close())
            ended = [run_id for process in old for run_id in process.ended]
            assert len(ended) == len(set(ended))
            assert OldProcess.slowest < 3
            await check_invariants(store)
            (left,) = await connection.fetch(f"SELECT count(*) FROM {schema}.workflow_runs WHERE status <> 'completed'")
            assert left[0] == sum(len(process.made) for process in old) - len(ended)
            # And the new version takes over what is left.
            claimed = await claim_due(store, now=10**9, until=10**9 + 9, limits=ClaimLimits.all(10**6))
            assert len(claimed) == left[0]
            assert await connection.fetchval(deadlocks) == before
            await store.close()

    asyncio.run(main())


def test_many_processes_migrate_a_live_schema(postgres_url: str, schema: str, at_version_1: Callable[[], Any]):
    """Stores and commands that boot at once on the tables of the version before all succeed, and do it once."""
    command = [sys.executable, "-m", "workflow.store.postgres", "migrate", "--url", postgres_url, "--schema", schema]

    async def main() -> None:
        async with at_version_1() as connection:
            booting = [await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE) for _ in range(2)]
            stores = [PostgresStore(postgres_url, schema=schema) for _ in range(5)]
            applied = await asyncio.gather(*(store.apply_migrations() for store in stores))
            outputs = [(await process.communicate())[0] for process in booting]
            assert [process.returncode for process in booting] == [0, 0]
            done = [migration.version for some in applied for migration in some]
            done += [int(found) for output in outputs for found in re.findall(r"^(\d{4}) ", output.decode(), re.M)]
            assert sorted(done) == _DONE[0][1:]
            assert await _state(connection, schema) == _DONE
            for store in stores:
                await store.check()
                await store.close()

    asyncio.run(main())


def test_a_migration_that_broke_off(postgres_url: str, schema: str, at_version_1: Callable[[], Any]):
    """Killed in the middle of an index, a migration leaves the version before at work, and is finished by the next."""

    async def main() -> None:
        async with at_version_1() as connection:
            # An index that is built beside others waits for all who are in a transaction.
            app = await asyncpg.connect(plain(postgres_url))
            transaction = app.transaction(isolation="repeatable_read")
            store = PostgresStore(postgres_url, schema=schema)
            first = await _interrupted(store, connection, app, transaction)
            assert isinstance(first, StoreError)
            versions, invalid = await _state(connection, schema)
            assert (versions, invalid) == ([1, 2], 1)
            process = OldProcess(postgres_url, schema, 0)
            stop = asyncio.Event()
            working = asyncio.create_task(process.work(stop))
            await process.working.wait()
            await store.migrate()
            stop.set()
            await asyncio.gather(working, app.close())
            assert await _state(connection, schema) == _DONE
            await store.close()

    asyncio.run(main())


async def _interrupted(store: PostgresStore, connection: Any, app: Any, transaction: Any) -> BaseException:
    """What `migrate` raises when its connection is killed while it builds its first index."""
    await transaction.start()
    await app.execute("SELECT 1")
    migrating = asyncio.create_task(store.migrate())
    pid = await _until_waiting(connection, "virtualxid")
    await connection.execute("SELECT pg_terminate_backend($1)", pid)
    (error,) = await asyncio.gather(migrating, return_exceptions=True)
    await transaction.rollback()
    assert isinstance(error, BaseException)
    return error


def test_tables_that_are_never_free(postgres_url: str, schema: str, at_version_1: Callable[[], Any]):
    """A transaction that never ends makes a migration give up in its time, with nothing changed and nobody held up."""

    async def main() -> None:
        async with at_version_1() as connection:
            stop, OldProcess.slowest = asyncio.Event(), 0.0
            process = OldProcess(postgres_url, schema, 0)
            working = asyncio.create_task(process.work(stop))
            await process.working.wait()
            app = await asyncpg.connect(plain(postgres_url))
            async with app.transaction():
                await app.execute(f"LOCK TABLE {schema}.workflow_runs IN ROW SHARE MODE")
                store = PostgresStore(postgres_url, schema=schema, migration_timeout=1.5)
                with pytest.raises(StoreError, match="Transactions have held the tables"):
                    await store.migrate()
            stop.set()
            await asyncio.gather(working, app.close())
            assert OldProcess.slowest < 3
            assert await _state(connection, schema) == ([1], 0)
            await store.migrate()
            assert await _state(connection, schema) == _DONE
            await store.close()

    asyncio.run(main())


def test_the_printed_sql_of_an_upgrade(postgres_url: str, schema: str, at_version_1: Callable[[], Any]):
    """What `--sql --after 1` prints, run by psql, leaves what `check` accepts; a second time it stops at once."""
    psql = [str(_installed_binaries() / "psql"), plain(postgres_url), "-q", "-X"]
    script = migrations.as_sql(schema, after=1).encode()

    async def main() -> None:
        async with at_version_1() as connection:
            for times in (0, 1):
                process = await asyncio.create_subprocess_exec(
                    *psql, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
                )
                _, errors = await process.communicate(script)
                assert bool(process.returncode) is bool(times), errors
                assert await _state(connection, schema) == _DONE
            store = PostgresStore(postgres_url, schema=schema)
            await store.check()
            await store.close()

    asyncio.run(main())


def test_claims_of_the_version_before_keep_their_speed(postgres_url: str, schema: str, at_version_1: Callable[[], Any]):
    """Beside 50,000 sleeping runs, an old claim finds what is due through the new index."""

    async def main() -> None:
        async with at_version_1() as connection:
            await connection.execute(f"""INSERT INTO {schema}.workflow_runs
                (run_id, workflow_id, status, created_at, updated_at, due_at, wake_at, input)
                SELECT 'r' || n, 'orders', CASE WHEN n > 10 THEN 'paused' ELSE 'queued' END, due, due, due, due, '{{}}'
                FROM generate_series(1, 50000) n, LATERAL (SELECT now() + (n - 3) * interval '1 day' AS due) d""")
            store = PostgresStore(postgres_url, schema=schema)
            await store.migrate()
            await store.close()
            await connection.execute(f"ANALYZE {schema}.workflow_runs")
            for status in ("queued", "paused"):
                plan = await connection.fetch("EXPLAIN ANALYZE " + _CLAIM.format(schema, status))
                lines = "\n".join(line[0] for line in plan)
                assert "workflow_runs_lanes" in lines
                assert "Seq Scan on workflow" not in lines

    asyncio.run(main())
