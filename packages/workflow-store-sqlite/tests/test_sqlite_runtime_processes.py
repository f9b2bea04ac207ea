"""Workflows in real processes on one file: killed at any place, and many of them at once."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from workflow.runtime.testing import all_runs, check_invariants
from workflow.store.sqlite import SQLiteStore

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the app forks")

APP = Path(__file__).with_name("sqlite_runtime_app.py")
RUNS = int(os.environ.get("WORKFLOW_TEST_RUNS", "60"))
"""How many runs the drivers share. More of them find more, and take longer."""
STORIES = os.environ.get("WORKFLOW_TEST_STORIES", "doubled,gathered,once,compensates").split(",")
"""Which stories are killed at each of their places. The runtime's own tests have more, in one process."""
STEPS = ["first", "last", "side"]


def run_app(mode: str, path: Path, *arguments: object) -> list[dict[str, Any]]:
    """What the app printed. A failure of any process that was not killed, or any word on stderr, fails the test."""
    command = [sys.executable, "-W", "error", str(APP), mode, str(path), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=110, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("story", STORIES)
def test_killed_at_each_place(tmp_path: Path, story: str) -> None:
    """A process that kills itself inside or after any operation leaves a run that the next one ends right."""
    (played,) = run_app("crash", tmp_path / "w.db", story)
    assert played["deaths"] >= 6


def journal(path: Path) -> Counter[tuple[str, str]]:
    """How often each step of each run was executed, by whomever."""
    lines = path.with_name("journal").read_text().splitlines()
    return Counter((run_id, step_id) for run_id, step_id, *_ in map(json.loads, lines))


def check_all_ended(path: Path, runs: int) -> None:
    """Each run has ended with its own output; its log holds each end of a step, and its signal, once."""

    async def main() -> None:
        store = SQLiteStore(path)
        rows = [row async for row in all_runs(store)]
        assert {(row.run_id, row.status, row.output) for row in rows} == {
            (f"run-{number}", "completed", f'"{number}-go"') for number in range(runs)
        }
        for row in rows:
            events = [json.loads(record.event) for record in await store.read_log(row.run_id)]
            assert sorted(event["id"] for event in events if event["type"] == "STEP_FINISHED") == STEPS
            signals = [event["signal_id"] for event in events if event["type"] == "SIGNAL_RESOLVED"]
            assert signals == [row.run_id.replace("run", "go")]
        await check_invariants(store)
        await store.close()

    asyncio.run(main())


@pytest.mark.parametrize(("processes", "drivers"), [(2, 1), (2, 4), (4, 8)], ids=["2", "8", "32"])
def test_drivers_share_the_work(tmp_path: Path, processes: int, drivers: int) -> None:
    """However many drivers work on one file, each step is executed once, and nobody sees a locked database."""
    path = tmp_path / "w.db"
    run_app("drivers", path, processes, drivers, RUNS)
    check_all_ended(path, RUNS)
    assert journal(path) == {(f"run-{number}", step): 1 for number in range(RUNS) for step in STEPS}


def test_drivers_that_are_killed_lose_nothing(tmp_path: Path) -> None:
    """Two of four processes are killed in the middle of their work: the others end every run, each step's end once."""
    path = tmp_path / "w.db"
    run_app("drivers", path, 4, 2, RUNS, 2)
    check_all_ended(path, RUNS)
    executions = journal(path)
    assert set(executions) == {(f"run-{number}", step) for number in range(RUNS) for step in STEPS}
    again = sum(executions.values()) - len(executions)
    assert again <= 2 * 2 * (4 + 1) * 2, "more ran again than two dead processes can have had in hand"
