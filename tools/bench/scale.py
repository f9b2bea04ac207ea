"""Several worker processes on one server: how fast they work off enqueued runs of five steps.

Each worker is `runtime.serve()` in a process of its own (`python -m bench.scale URL PLACES`), connected and waiting on
stdin before the time is taken, so that no start of Python is measured.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import IO, Any, cast

from bench.database import fetch, fresh_database
from bench.sizes import Sizes
from bench.system import until
from bench.systems.ours import PLACES, five_steps

from workflow.runtime import WorkflowRuntime
from workflow.runtime.cli.collecting import relax_garbage_collection
from workflow.store.postgres import PostgresStore

__all__ = ["measure_scale"]

_OPEN = "SELECT count(*) FROM workflow_runs WHERE completed_at IS NULL"
_POLL = 0.02


def measure_scale(server: str, sizes: Sizes) -> dict[str, float]:
    """Runs a second, by the number of processes."""
    answers: dict[str, float] = {}
    for processes in sizes.processes:
        with fresh_database(server, f"scale_{processes}") as url:
            asyncio.run(_enqueue(url, sizes.enqueued))
            answers[str(processes)] = sizes.enqueued / _work_off(url, processes)
    return answers


async def _enqueue(url: str, count: int) -> None:
    async with WorkflowRuntime(PostgresStore(url), [five_steps]) as runtime:
        await runtime.migrate()
        await asyncio.gather(*(runtime.start_run(five_steps, input=5, drive=False) for _ in range(count)))


def _work_off(url: str, processes: int) -> float:
    workers = [_worker(url) for _ in range(processes)]
    try:
        for worker in workers:
            cast("IO[bytes]", worker.stdout).readline()  # it is connected
        began = time.perf_counter()
        for worker in workers:
            cast("IO[bytes]", worker.stdin).close()
        asyncio.run(_wait_until_done(url))
        return time.perf_counter() - began
    finally:
        for worker in workers:
            worker.terminate()
        for worker in workers:
            worker.wait(30)


def _worker(url: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "bench.scale", url]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=os.environ)


async def _wait_until_done(url: str) -> None:
    async def done() -> bool:
        rows: Sequence[Any] = await fetch(url, _OPEN)
        return rows[0][0] == 0

    await until(done, _POLL)


async def serve(url: str) -> None:
    async with WorkflowRuntime(PostgresStore(url), [five_steps]) as runtime:
        await runtime.store.get_run("connect")
        relax_garbage_collection()
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.read)
        await runtime.serve(concurrency=PLACES)


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1]))
