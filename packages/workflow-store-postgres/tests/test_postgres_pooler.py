"""Behind PgBouncer in transaction mode, under load: Debian's `pgbouncer`, where it is installed."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy.engine import make_url

from workflow.runtime.testing.suite.samples import commit, end, lease, pause, signal, signal_wait, start
from workflow.store.postgres import PostgresStore, pooler_engine

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
