"""Behind PgBouncer in transaction mode, under load: Debian's `pgbouncer`, where it is installed."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy.engine import make_url

from workflow.core import Context, create_workflow
from workflow.runtime import WorkflowRuntime
from workflow.runtime.contract import ClaimLimits
from workflow.runtime.queues import Queue
from workflow.runtime.schedules.records import ScheduleCommit, ScheduleKey
from workflow.runtime.testing.suite.samples import (
    WORKFLOW,
    at,
    commit,
    create,
    end,
    lease,
    new_run,
    pause,
    signal,
    signal_wait,
    start,
)
from workflow.store.postgres import PostgresStore, pooler_engine

from .postgres_app_side import PostgresApp

_PGBOUNCER = shutil.which("pgbouncer") or "/usr/sbin/pgbouncer"

pytestmark = pytest.mark.skipif(
    not Path(_PGBOUNCER).exists(), reason="pgbouncer is not installed (apt install pgbouncer)"
)


@pytest.fixture
def pooled_url(postgres_url: str, tmp_path: Path) -> Iterator[str]:
    """The server behind a pooler that gives each transaction one of two server connections."""
    url = make_url(postgres_url)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = f"host={url.host} port={url.port} dbname={url.database} user={url.username}"
    server += f" password={url.password}" if url.password else ""
    settings = (
        "auth_type = any\npool_mode = transaction\ndefault_pool_size = 2\nmax_client_conn = 200\nunix_socket_dir =\n"
    )
    config = tmp_path / "pgbouncer.ini"
    config.write_text(
        f"[databases]\npooled = {server}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n{settings}"
    )
    config.chmod(0o644)
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == os.geteuid() and folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o011)
    user = ["-u", "nobody"] if os.geteuid() == 0 else []
    process = subprocess.Popen([_PGBOUNCER, "-q", *user, str(config)], stderr=subprocess.DEVNULL)
    try:
        _wait_for(port)
        yield url.set(host="127.0.0.1", port=port, database="pooled").render_as_string(hide_password=False)
    finally:
        process.terminate()
        process.wait(10)


def _wait_for(port: int) -> None:
    give_up = time.monotonic() + 10
    while time.monotonic() < give_up:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    raise RuntimeError("pgbouncer did not start")


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
def test_many_runs_behind_a_pooler(pooled_url: str, schema: str, driver: str):
    """Many connections of two processes share two of the server, and every operation is whole and answered."""

    async def main() -> None:
        engines = [pooler_engine(pooled_url.replace("asyncpg", driver)) for _ in range(2)]
        stores = [PostgresStore(engine, schema=schema, connections=6) for engine in engines]
        await stores[0].migrate()

        async def run(n: int) -> None:
            here, there = stores[n % 2], stores[(n + 1) % 2]
            claimed = await start(here, f"r{n}")
            for index in range(5):
                await here.commit(commit(claimed, 1, index=index))
            await here.commit(commit(claimed, 1, pause(signal_wait()), index=5))
            delivered = await there.deliver(f"r{n}", signal(), lease=lease("bob"), now=claimed.run.created_at)
            assert delivered.claimed is not None
            assert len(delivered.claimed.log) == 6
            assert (await there.commit(commit(delivered.claimed, 1, end(), consumed=(1,)))).released

        await asyncio.gather(*(run(n) for n in range(100)))
        for store, engine in zip(stores, engines, strict=True):
            await store.close()
            await engine.dispose()

    asyncio.run(main())


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
def test_limits_and_schedules_behind_a_pooler(pooled_url: str, schema: str, driver: str) -> None:
    """Claims of a limited queue, and ticks that end runs, are whole where each transaction may get another server."""
    limits, key = Queue("q", concurrency=3), ScheduleKey(WORKFLOW, "daily")

    async def main() -> None:
        engines = [pooler_engine(pooled_url.replace("asyncpg", driver)) for _ in range(2)]
        stores = [PostgresStore(engine, schema=schema, connections=6) for engine in engines]
        await stores[0].migrate()
        for n in range(30):
            await create(stores[0], f"r{n:02}", queue="q", due=n / 100)
        held: set[str] = set()
        ended: set[str] = set()

        async def work(store: PostgresStore) -> None:
            while len(ended) < 30:
                taken = await store.claim_queue(limits, [WORKFLOW], lease(), limits=ClaimLimits.all(2), now=at(1))
                held.update(run.run.run_id for run in taken)
                assert len(held) <= 3
                for run in taken:
                    held.discard(run.run.run_id)
                    ended.add(run.run.run_id)
                    await store.commit(commit(run, 1, end()))

        async with asyncio.timeout(60):
            await asyncio.gather(*(work(stores[n % 2]) for n in range(8)))
        tick = ScheduleCommit(key, 0, at(1), None, False, "{}", starts=(replace(new_run("t0"), schedule_id="daily"),))
        assert await stores[0].commit_schedule(tick)
        for n in range(1, 6):
            starts = (replace(new_run(f"t{n}"), schedule_id="daily"),)
            stop = {"terminate": (f"t{n - 1}",), "termination": "{}"}
            moves = [replace(tick, expected_revision=n, starts=starts, **stop) for _ in range(4)]
            won = await asyncio.gather(*(stores[i % 2].commit_schedule(move) for i, move in enumerate(moves)))
            assert sorted(won) == [False] * 3 + [True]
        (schedule,) = await stores[1].read_schedules([key])
        assert (schedule.revision, schedule.active) == (6, ("t5",))
        for store, engine in zip(stores, engines, strict=True):
            await store.close()
            await engine.dispose()

    asyncio.run(main())


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
def test_transactions_behind_a_pooler(pooled_url: str, schema: str, driver: str) -> None:
    """Database steps and runs within the app's own transaction work there too, many at once on two connections."""
    url = make_url(pooled_url).set(drivername=f"postgresql+{driver}")

    async def main() -> None:
        app = PostgresApp(url, schema)
        app.engine = pooler_engine(url)
        store = PostgresStore(app.engine, schema=schema, transactions=8)

        @create_workflow(id="w")
        async def w(ctx: Context[str]) -> None:
            await ctx.transaction("write", app.write, ctx.input)

        async with WorkflowRuntime(store, [w]) as runtime:
            await runtime.migrate()
            await app.make()
            names = [f"r{number}" for number in range(40)]
            results = await asyncio.gather(*(runtime.start_run(w, run_id=name, input=name) for name in names))
            assert {result.kind for result in results} == {"completed"}
            assert sorted(await app.notes()) == sorted(names)
            async with app.engine.begin() as connection:
                await runtime.start_run(w, run_id="within", input="within", connection=connection)
            assert [result.kind for result in (await runtime.sweep()).ready] == ["completed"]
        await app.engine.dispose()

    asyncio.run(main())
