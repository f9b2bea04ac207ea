"""The example app, run as Railway runs it: a process that is started, looked at, and told to end."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"


class Service:
    """The cron service, with a database of its own."""

    def __init__(self, database: Path) -> None:
        self.database = database
        self.env = {**os.environ, "DATABASE_URL": f"sqlite:{database}"}

    def start(self, *arguments: str, app: str = "app:runtime") -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "workflow.railway", app, *arguments]
        return subprocess.Popen(
            command, cwd=EXAMPLES, env=self.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def fire(self, *arguments: str, app: str = "app:runtime") -> tuple[int, Any]:
        """One firing: the exit code, and the line of JSON."""
        process = self.start(*arguments, app=app)
        out, err = process.communicate(timeout=60)
        lines = out.splitlines()
        assert len(lines) == 1, out + err
        return process.returncode, json.loads(lines[0])

    def runtime(self) -> Any:
        from workflow.core import Context, create_workflow
        from workflow.runtime import WorkflowRuntime
        from workflow.store.sqlite import SQLiteStore

        @create_workflow(id="reminder")
        async def reminder(ctx: Context[Any]) -> int:
            return 0

        return WorkflowRuntime(SQLiteStore(self.database), [reminder])

    def enqueue(self, count: int = 1, **input: Any) -> None:
        """What a web service beside the cron service does."""

        async def work() -> None:
            async with self.runtime() as runtime:
                await runtime.migrate()
                for number in range(count):
                    body = {"text": "hello", **input}
                    await runtime.start_run("reminder", run_id=f"r{number}", input=body, drive=False)

        asyncio.run(work())

    def status(self, run_id: str = "r0") -> tuple[str, Any]:
        async def work() -> tuple[str, Any]:
            async with self.runtime() as runtime:
                run = await runtime.get_run(run_id)
                return run.status, run.output

        return asyncio.run(work())

    def steps(self) -> int:
        """How many steps have been recorded."""
        with sqlite3.connect(self.database, timeout=10) as connection:
            table = "select count(*) from workflow_log where event like '%STEP_FINISHED%'"
            try:
                return int(connection.execute(table).fetchone()[0])
            finally:
                connection.rollback()


@pytest.fixture
def service(tmp_path: Path) -> Service:
    return Service(tmp_path / "runs.db")


def test_a_firing_does_all_that_is_due_and_ends(service: Service):
    """The process sweeps until nothing is left, says so in one line, and exits with 0."""
    service.enqueue(150)
    code, line = service.fire()
    assert (code, line["level"], line["message"]) == (0, "info", "sweep")
    # More than one sweep takes at once: so it went on.
    assert line["summary"]["ready"] == {"completed": 150} or sum(line["summary"]["ready"].values()) >= 150
    assert line["remaining_may_exist"] is False and line["owner"].startswith("railway:")
    assert service.status("r149") == ("completed", 1)
    assert service.fire()[1]["summary"]["ready"] == {}


def test_a_sleeping_run_is_left_for_its_time(service: Service):
    """A run that sleeps is not waited for: the process exits, and a later firing wakes it."""
    service.enqueue(after_seconds=3600)
    code, line = service.fire("--include-sweep-result")
    assert (code, line["summary"]["ready"]) == (0, {"paused": 1})
    assert line["result"]["ready"][0]["run_id"] == "r0"
    assert service.fire()[1]["summary"]["timers"] == {}


def test_a_long_run_goes_on_with_the_next_firing(service: Service):
    """A firing ends in time whatever there is to do, and the next one goes on where it stopped."""
    service.enqueue(rounds=15)
    code, line = service.fire("--max-duration", "1.0")
    assert (code, line["summary"]["ready"], line["deadline_reached"]) == (0, {"queued": 1}, True)
    assert line["remaining_may_exist"] is True
    assert service.fire()[1]["summary"]["ready"] == {"completed": 1}
    assert service.status() == ("completed", 15)


def test_two_firings_at_once_are_harmless(service: Service):
    """A firing that was doubled finds the work taken, and every run is done once."""
    service.enqueue(20)
    processes = [service.start() for _ in range(2)]
    lines = [json.loads(process.communicate(timeout=60)[0]) for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert sum(line["summary"]["ready"].get("completed", 0) for line in lines) == 20


def test_a_signal_ends_it_in_good_order(service: Service):
    """On SIGTERM the run in hand yields, its lease is given back, and the next firing goes on at once."""
    service.enqueue(rounds=200)
    process = service.start()
    give_up = time.monotonic() + 30
    while service.steps() < 3 and time.monotonic() < give_up:
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    assert json.loads(out)["remaining_may_exist"] is True
    assert service.status()[0] == "queued"
    done = service.steps()
    assert service.fire("--max-duration", "1.5")[1]["summary"]["ready"] == {"queued": 1}
    assert service.steps() > done


def test_a_firing_leaves_no_connection(service: Service, postgres_url: str):
    """On PostgreSQL, too, a firing ends, and its connections with it: Railway's database has few."""
    import asyncpg

    async def others() -> int:
        connection = await asyncpg.connect(postgres_url.replace("+asyncpg", ""))
        query = "select count(*) from pg_stat_activity where backend_type = 'client backend'"
        count = await connection.fetchval(query)
        await connection.close()
        return count - 1

    migrate = [sys.executable, "-m", "workflow.store.postgres", "migrate", "--url", postgres_url]
    subprocess.run(migrate, check=True, capture_output=True)
    service.env["DATABASE_URL"] = postgres_url
    for _ in range(2):
        code, line = service.fire()
        assert (code, line["remaining_may_exist"]) == (0, False)
        assert asyncio.run(others()) == 0


@pytest.mark.parametrize(
    ("app", "database", "code", "text"),
    [
        ("app:gone", "sqlite:{}", 2, "gone"),
        ("nowhere:runtime", "sqlite:{}", 2, "nowhere"),
        ("app", "sqlite:{}", 2, "package.module:name"),
        ("app:runtime", "postgresql://nobody@127.0.0.1:1/none", 75, "did not answer"),
    ],
)
def test_the_exit_code_says_what_kind_of_trouble_it_is(service: Service, app: str, database: str, code: int, text: str):
    """2: somebody has to change something. 75: the database is away, and the next firing may succeed."""
    pytest.importorskip("asyncpg")
    service.env |= {"DATABASE_URL": database.format(service.database), "DATABASE_RETRY_SECONDS": "0.1"}
    found, line = service.fire(app=app)
    assert (found, line["level"]) == (code, "error") and text in line["message"]


def test_a_forgotten_setting_is_named(service: Service):
    """An app that can't be made because a variable is missing ends with an error that names it."""
    del service.env["DATABASE_URL"]
    code, line = service.fire()
    assert code == 1 and "DATABASE_URL" in line["message"]
