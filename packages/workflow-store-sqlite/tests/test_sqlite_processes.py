"""Several real processes on one file, and a process that is killed while it writes."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from workflow.core.records import Lease, NewMail, NewRun
from workflow.runtime.contract import ClaimLimits, RunFilter
from workflow.runtime.testing.invariants import check_invariants
from workflow.store.sqlite import SQLiteStore
from workflow.store.sqlite.schema import current_version

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the worker script forks")

WORKER = Path(__file__).with_name("sqlite_worker.py")
NOW = datetime(2030, 1, 1, tzinfo=UTC)


def run_workers(scenario: str, path: Path, processes: int, *arguments: object) -> list[dict[str, Any]]:
    """What the processes reported. Any failure of any of them, or any word on stderr, fails the test."""
    command = [sys.executable, str(WORKER), scenario, str(path), str(processes), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("processes", [2, 32])
def test_first_boot(tmp_path: Path, processes: int) -> None:
    """However many processes start on no file at all, there is one schema, and each can use it at once."""
    path = tmp_path / "w.db"
    run_workers("boot", path, processes)

    async def main() -> None:
        store = SQLiteStore(path, migrate=False)
        assert len(await store.list_runs(RunFilter())) == processes
        await store.close()

    asyncio.run(main())
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT version FROM workflow_schema").fetchall() == [
            (version,) for version in range(1, current_version() + 1)
        ]
    connection.close()


@pytest.mark.parametrize("processes", [2, 8, 32])
def test_no_run_is_claimed_twice_and_no_commit_is_lost(tmp_path: Path, processes: int) -> None:
    """Processes that race for the same due runs advance each of them step by step, one owner at a time."""
    path, runs = tmp_path / "w.db", 30

    async def prepare() -> None:
        store = SQLiteStore(path)
        new = [NewRun(f"run-{number}", "w", None, "{}", NOW) for number in range(runs)]
        await asyncio.gather(*(store.create_run(one, lease=None, now=NOW) for one in new))
        await store.close()

    async def inspect() -> None:
        store = SQLiteStore(path)
        rows = await store.list_runs(RunFilter(limit=100))
        assert [row.status for row in rows] == ["completed"] * runs
        for row in rows:
            log = await store.read_log(row.run_id)
            # Each claim raised the fence by one and made one record: so every claim had one owner.
            assert [json.loads(record.event)["fence"] for record in log] == [1, 2, 3]
            assert (row.fence, row.log_length) == (3, 3)
        await check_invariants(store)
        await store.close()

    asyncio.run(prepare())
    run_workers("drive", path, processes)
    asyncio.run(inspect())


@pytest.mark.parametrize("processes", [2, 8])
def test_no_limit_is_exceeded(tmp_path: Path, processes: int) -> None:
    """Processes that claim one queue at the same time never have more runs under way than it allows, nor of one key."""
    path, runs = tmp_path / "w.db", 60

    async def prepare() -> None:
        store = SQLiteStore(path)
        new = [NewRun(f"run-{number}", "w", None, "{}", NOW, "q", f"key-{number % 5}") for number in range(runs)]
        await asyncio.gather(*(store.create_run(one, lease=None, now=NOW) for one in new))
        await store.close()

    async def inspect() -> None:
        store = SQLiteStore(path)
        rows = await store.list_runs(RunFilter(limit=100))
        assert [(row.status, row.fence) for row in rows] == [("completed", 1)] * runs
        await store.close()

    asyncio.run(prepare())
    reports = run_workers("queue", path, processes)
    assert max(said["running"] for said in reports) <= 3
    assert max(said["of_one_key"] for said in reports) == 1
    asyncio.run(inspect())


@pytest.mark.parametrize("processes", [8])
def test_every_mail_is_accepted_once(tmp_path: Path, processes: int) -> None:
    """Mail that many processes send to one run at once is numbered without a gap, and a doubled one is in it once."""
    path, count = tmp_path / "w.db", 5

    async def prepare() -> None:
        store = SQLiteStore(path)
        await store.create_run(NewRun("run", "w", None, "{}", NOW), lease=None, now=NOW)
        await store.close()

    async def inspect(accepted: list[str]) -> None:
        store = SQLiteStore(path)
        claimed = await store.claim_run("run", Lease("me", NOW), now=NOW)
        assert claimed is not None
        assert [mail.seq for mail in claimed.mail] == list(range(1, claimed.run.mail_count + 1))
        assert sorted(mail.id for mail in claimed.mail) == sorted(accepted)
        await store.close()

    asyncio.run(prepare())
    reports = run_workers("deliver", path, processes, count)
    accepted = [id_ for said in reports for id_ in said["accepted"]]
    assert len(accepted) == len(set(accepted)) == processes * count + count
    asyncio.run(inspect(accepted))


@pytest.mark.parametrize("enough", [1, 200])
def test_kill_while_writing(tmp_path: Path, enough: int) -> None:
    """After kill -9 at any moment the file is whole, the contract holds, and whatever was answered is there."""
    path = tmp_path / "w.db"
    answered = _load_and_kill(path, enough)

    async def inspect() -> None:
        store = SQLiteStore(path)
        for run_id, (length, mail) in answered.items():
            row = await store.get_run(run_id)
            assert row is not None and row.log_length >= length and row.mail_count >= mail
        await check_invariants(store)
        await _finish_all(store)
        await store.close()

    asyncio.run(inspect())
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    connection.close()


def _load_and_kill(path: Path, enough: int) -> dict[str, tuple[int, int]]:
    """Start two writing processes, kill both after so many answers; what was answered last of each run."""
    command = [sys.executable, str(WORKER), "load", str(path), "2"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(enough)]
        os.killpg(process.pid, signal.SIGKILL)
        lines += process.stdout.readlines()
    said = [json.loads(line) for line in lines if line.endswith("}\n")]
    return {one["run"]: (one["length"], one.get("mail", 0)) for one in said}


async def _finish_all(store: SQLiteStore) -> None:
    """Nothing is stuck: what has not ended is due once its lease is over, or waits for mail that can be sent."""
    later = NOW.replace(year=2031)
    for row in await store.list_runs(RunFilter(status=frozenset({"paused"}), limit=10_000)):
        await store.deliver(row.run_id, NewMail("signal", "m", "n", "{}"), lease=None, now=NOW)
    claimed = await store.claim_due(["w"], Lease("me", later), limits=ClaimLimits.all(10_000), now=later)
    open_runs = await store.list_runs(RunFilter(status=frozenset({"queued", "running", "paused"}), limit=10_000))
    assert {one.run.run_id for one in claimed} == {row.run_id for row in open_runs}


def test_fork_while_open(tmp_path: Path) -> None:
    """Parent and child of a fork go on with a store that was open, each with a connection of its own."""
    script = tmp_path / "forks.py"
    script.write_text(_FORKS)
    command = [sys.executable, "-W", "ignore::DeprecationWarning", str(script), str(tmp_path / "w.db")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout.split(), done.stderr) == (0, ["ok"], "")


_FORKS = """
import asyncio, os, sys
from datetime import UTC, datetime
from workflow.core.records import NewRun
from workflow.runtime.contract import RunFilter
from workflow.store.sqlite import SQLiteStore
from workflow.store.sqlite.schema import current_version

NOW = datetime(2030, 1, 1, tzinfo=UTC)
store = SQLiteStore(sys.argv[1])

async def create(prefix, count):
    new = [NewRun(f"{prefix}-{number}", "w", None, "{}", NOW) for number in range(count)]
    await asyncio.gather(*(store.create_run(one, lease=None, now=NOW) for one in new))

asyncio.run(create("before", 20))
children = []
for number in range(3):
    child = os.fork()
    if not child:
        asyncio.run(create(f"child-{number}", 20))
        asyncio.run(store.close())
        os._exit(0)
    children.append(child)
asyncio.run(create("parent", 20))
assert all(os.waitpid(child, 0)[1] == 0 for child in children)
assert len(asyncio.run(store.list_runs(RunFilter(limit=1000)))) == 100
asyncio.run(store.close())
print("ok")
"""
