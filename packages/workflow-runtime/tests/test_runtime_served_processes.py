"""A worker in a process of its own, on SQLite, and the signals that end it."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from workflow.core.events import StepFinished

from .runtime_served_app import make_runtime

sqlite = pytest.importorskip("workflow.store.sqlite", reason="the embedded store is not installed")

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGTERM that a process can handle")


class Served:
    """A worker process, and its output."""

    def __init__(self, path: Path, grace: float) -> None:
        app = Path(__file__).with_name("runtime_served_app.py")
        command = [sys.executable, str(app), str(path), str(grace)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    def expect(self, line: str) -> None:
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == f"{line}\n"

    def end(self) -> str:
        """Its last words, once it has ended in good order."""
        output, _ = self.process.communicate(timeout=30)
        assert self.process.returncode == 0
        return output


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "served.db"


@pytest.fixture
def workers(path: Path) -> Iterator[list[Served]]:
    made: list[Served] = []
    yield made
    for worker in made:
        worker.process.kill()
        worker.process.communicate()


def enqueue(path: Path, seconds: float) -> None:
    async def start() -> None:
        async with make_runtime(sqlite.SQLiteStore(path)) as runtime:
            await runtime.start_run("linger", run_id="r", input=seconds, drive=False)

    asyncio.run(start())


def status(path: Path) -> tuple[str, int]:
    """The status of the run, and how many steps are recorded."""

    async def look() -> tuple[str, int]:
        async with make_runtime(sqlite.SQLiteStore(path)) as runtime:
            run = await runtime.get_run("r")
            assert run is not None
            return run.status, sum(isinstance(event, StepFinished) for event in await runtime.get_timeline("r"))

    return asyncio.run(look())


def test_sigterm_lets_the_step_end(path: Path, workers: list[Served]) -> None:
    """At SIGTERM the step under way is finished and recorded; the rest is left to the next worker, which ends it."""
    enqueue(path, 0.3)
    workers.append(Served(path, grace=20))
    workers[0].expect("step begun")
    workers[0].process.send_signal(signal.SIGTERM)
    assert workers[0].end() == "step ended\n{'queued': 1} 0\n"
    assert status(path) == ("queued", 1)
    workers.append(Served(path, grace=20))
    for line in ("step begun", "step ended"):
        workers[1].expect(line)
    workers[1].process.send_signal(signal.SIGINT)
    assert workers[1].end() == "{'completed': 1} 0\n"
    assert status(path) == ("completed", 2)


def test_a_second_signal_hands_back_at_once(path: Path, workers: list[Served]) -> None:
    """At a second signal, or when the grace period is over, runs are handed back long before their leases end."""
    enqueue(path, 500)
    for grace, signals in [(500, [signal.SIGTERM, signal.SIGINT]), (0.1, [signal.SIGTERM])]:
        workers.append(Served(path, grace=grace))
        workers[-1].expect("step begun")
        for number in signals:
            workers[-1].process.send_signal(number)
        assert workers[-1].end() == "{} 1\n"
        assert status(path) == ("queued", 0)
