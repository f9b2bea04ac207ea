"""Who plays when: each measure of each system in a process of its own, the systems in turn, round after round."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.catalog import CATALOG
from bench.database import fetch, fresh_database, server
from bench.results import Report
from bench.sizes import Sizes
from rich.console import Console

__all__ = ["perform"]

TOOLS = Path(__file__).resolve().parent.parent
LIMIT = 400.0
"""Seconds after which one measure is given up."""
_ONCE = ("counts", "long_runs")
"""What is repeated within itself, or doesn't vary: once is enough."""


def perform(sizes: Sizes, systems: Collection[str], extras: Collection[str], console: Console) -> Report:
    """Measure all of it. What fails is in the report, and stops nothing else."""
    os.environ["PYTHONPATH"] = str(TOOLS)
    began = time.monotonic()
    report = Report(
        when=datetime.now(UTC).strftime("%Y-%m-%d"),
        took_s=0,
        machine=_machine(),
        versions={},
        sizes=sizes.as_json(),
        rounds={},
    )
    with server() as url:
        report.versions = _versions(url)
        for turn in range(sizes.rounds):
            for measure in ("speed", "sleepers", "counts", "long_runs"):
                if turn == 0 or measure not in _ONCE:
                    _round(report, url, sizes, systems, measure, console)
        _extras(report, url, sizes, extras, console)
    report.took_s = time.monotonic() - began
    return report


def _round(report: Report, url: str, sizes: Sizes, systems: Collection[str], measure: str, console: Console) -> None:
    for key in systems:
        if measure not in CATALOG[key].measures:
            continue
        began = time.monotonic()
        try:
            numbers = _measure(url, key, measure, sizes)
        except Exception as error:
            report.failures.append(f"{key}, {measure}: {error}")
            console.print(f"[red]{key} {measure} failed[/red]")
            continue
        report.rounds.setdefault(key, {}).setdefault(measure, []).append(numbers)
        console.print(f"[dim]{time.monotonic() - began:5.1f} s  {key} {measure}[/dim]", highlight=False)


def _measure(url: str, key: str, measure: str, sizes: Sizes) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="workflow-bench-") as folder, _target(url, key, Path(folder)) as target:
        answer = Path(folder) / "answer.json"
        command = [sys.executable, "-m", "bench.child", key, measure, target, json.dumps(sizes.as_json()), str(answer)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=LIMIT)
        if done.returncode or not answer.exists():
            raise RuntimeError((done.stderr or done.stdout)[-500:])
        return json.loads(answer.read_text(encoding="utf-8"))


@contextmanager
def _target(url: str, key: str, folder: Path) -> Iterator[str]:
    """A database of its own, a file, or nothing."""
    with ExitStack() as stack:
        match CATALOG[key].on:
            case "postgres":
                yield stack.enter_context(fresh_database(url, f"bench_{key.replace('-', '_')}"))
            case _:
                yield str(folder / "bench.db")


def _extras(report: Report, url: str, sizes: Sizes, extras: Collection[str], console: Console) -> None:
    """Several processes, and many runs: of our own store alone."""
    from bench.crowded import measure_crowded
    from bench.results import Crowded
    from bench.scale import measure_scale

    try:
        if "scale" in extras:
            report.scale = measure_scale(url, sizes)
            console.print("[dim]        worker processes[/dim]")
        if "crowded" in extras:
            report.crowded = Crowded.model_validate(measure_crowded(url, sizes))
            console.print("[dim]        a store with many runs[/dim]")
    except Exception as error:
        report.failures.append(f"extras: {error!r}")


def _machine() -> dict[str, str]:
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "cores": f"{os.cpu_count()} cores",
        "python": f"Python {platform.python_version()}",
        "load": f"load average {os.getloadavg()[0]:.1f} before it",
    }


def _versions(url: str) -> dict[str, str]:
    import asyncio

    rows = asyncio.run(fetch(url, "SHOW server_version"))
    names = {"DBOS": "dbos", "Absurd": "absurd-sdk", "asyncpg": "asyncpg", "SQLAlchemy": "sqlalchemy"}
    found = {title: importlib.metadata.version(name) for title, name in names.items()}
    return {"PostgreSQL": str(rows[0][0]), **found}
