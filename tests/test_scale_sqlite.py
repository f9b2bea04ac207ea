"""Thousands of runs on one file: workers that are killed while they work, and sweeps that run out of time."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from workflow.store.sqlite import SQLiteStore

from .scale.scale_app import StoreSpec
from .scale.scale_crew import kill_under_load
from .scale.scale_sweeps import sweep_in_time

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

RUNS = int(os.environ.get("WORKFLOW_SCALE_RUNS", "2000"))
DUE = int(os.environ.get("WORKFLOW_SCALE_DUE", "10000"))
SYNC = "NORMAL"  # a process that dies takes nothing back that it has written; power cuts are no test here


@pytest.mark.skipif(not hasattr(os, "fork"), reason="workers are forked")
def test_killed_workers_lose_nothing_and_exceed_no_limit(tmp_path: Path) -> None:
    """Eight workers, killed at random under load: every run ends once, no slot is exceeded or leaked."""
    spec = StoreSpec("workflow.store.sqlite:SQLiteStore", (str(tmp_path / "runs.db"),), {"synchronous": SYNC})
    asyncio.run(kill_under_load(spec, tmp_path, runs=RUNS, workers=8, kills=12, seconds=300))


def test_a_sweep_ends_in_time_and_the_next_ones_finish(tmp_path: Path) -> None:
    """Of ten thousand due runs a sweep of two seconds drives some, says that there may be more, and there is."""
    asyncio.run(sweep_in_time(SQLiteStore(tmp_path / "runs.db", synchronous=SYNC), runs=DUE, seconds=300))
