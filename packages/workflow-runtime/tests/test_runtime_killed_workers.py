"""Workers on one store that are killed while they work."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from workflow.runtime import ExecutionStore
from workflow.runtime.testing import check_invariants

from .runtime_killed_app import CONCURRENCY, make_runtime

sqlite = pytest.importorskip("workflow.store.sqlite", reason="the embedded store is not installed")

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")]

RUNS, WORKERS, KILLS = 80, 3, 6


class Crew:
    """Workers that are replaced as they are killed."""

    def __init__(self, path: Path) -> None:
        self._command = [sys.executable, str(Path(__file__).with_name("runtime_killed_app.py")), str(path)]
        self._workers = [self._start() for _ in range(WORKERS)]

    def _start(self) -> subprocess.Popen[str]:
        return subprocess.Popen(self._command, stdout=subprocess.PIPE, text=True)

    def replace(self, number: int, how: signal.Signals) -> None:
        """End one worker, surely at work, in this way, and start another in its place."""
        worker = self._workers[number]
        assert worker.stdout is not None
        assert worker.stdout.readline() == "working\n"
        worker.send_signal(how)
        worker.communicate(timeout=60)
        self._workers[number] = self._start()

    def end(self) -> None:
        for worker in self._workers:
            worker.kill()
            worker.communicate()


def test_every_run_survives_the_killing_of_its_workers(tmp_path: Path) -> None:
    """However often workers are killed or stopped, every run ends once, and only what a killed one did is redone."""
    path, journal = tmp_path / "killed.db", tmp_path / "journal"
    asyncio.run(enqueue(path, journal))
    chance, crew = random.Random(4), Crew(path)
    try:
        for kill in range(KILLS):
            crew.replace(chance.randrange(WORKERS), signal.SIGKILL if kill % 3 else signal.SIGTERM)
        asyncio.run(until_all_are_completed(path))
    finally:
        crew.end()
    executed = Counter(journal.read_text().split())
    assert set(executed) == {f"r{number}:{step}" for number in range(RUNS) for step in ("first", "last")}
    assert executed.total() <= 2 * RUNS + KILLS * CONCURRENCY


async def enqueue(path: Path, journal: Path) -> None:
    async with make_runtime(sqlite.SQLiteStore(path)) as runtime:
        for number in range(RUNS):
            run_id = f"r{number}"
            await runtime.start_run("survive", run_id=run_id, input=str(journal), drive=False)
            await runtime.deliver_signal(run_id=run_id, signal_id="s", name="go", payload=run_id, drive=False)


async def until_all_are_completed(path: Path) -> None:
    store: ExecutionStore = sqlite.SQLiteStore(path)
    async with make_runtime(store) as runtime, asyncio.timeout(90):
        runs = (await runtime.list_runs(limit=RUNS)).runs
        while {run.status for run in runs} != {"completed"}:
            await asyncio.sleep(0.1)
            runs = (await runtime.list_runs(limit=RUNS)).runs
        assert {run.run_id: run.output for run in runs} == {f"r{number}": f"r{number}" for number in range(RUNS)}
        await check_invariants(store)
