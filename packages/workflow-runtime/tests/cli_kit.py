"""The command line as a user has it: a process in the folder of an app."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Answer:
    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        return json.loads(self.out)


@dataclass
class Terminal:
    """A folder with the app in it, where commands are typed."""

    folder: Path
    app: str = "cli_app:make_runtime"
    environment: dict[str, str] = field(default_factory=dict[str, str])

    def __post_init__(self) -> None:
        shutil.copy(Path(__file__).with_name("cli_app.py"), self.folder)

    def __call__(self, *arguments: str, columns: int = 100, stdin: str | None = None) -> Answer:
        done = subprocess.run(
            self.command(*arguments),
            cwd=self.folder,
            env=self.variables(columns),
            input=stdin,
            capture_output=True,
            text=True,
            encoding="utf-8",
        )
        return Answer(done.returncode, done.stdout, done.stderr)

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "workflow.runtime", "--app", self.app, *arguments]

    def variables(self, columns: int = 100) -> dict[str, str]:
        return {**os.environ, **self.environment, "COLUMNS": str(columns), "PYTHONIOENCODING": "utf-8", "TZ": "UTC"}


def story(terminal: Terminal) -> None:
    """Every verb once, in the order in which a user comes to them, on a store that has no schema yet."""
    assert terminal("runs", "list").code == 3
    assert terminal("migrate", "--check").code == 1
    assert terminal("migrate", "--json").document == {"problem": None}
    assert terminal("migrate", "--check").code == 0
    started = terminal("runs", "start", "order", "--run-id", "a", "--input", '{"order_id": "1"}')
    assert (started.code, started.out) == (0, "paused a  signal paid\n")
    assert terminal("runs", "start", "order", "--run-id", "b", "--input", "-", "--enqueue", stdin=ORDER).code == 0
    failed = terminal("runs", "start", "order", "--run-id", "c", "--input", '{"order_id": "13"}')
    assert failed.code == 1
    assert "LookupError: there is no order 13" in failed.out
    swept = terminal("sweep", "--all", "--json").document
    assert swept["summary"]["ready"] == {"paused": 1}
    signalled = terminal("runs", "signal", "a", "paid", "--payload", '"cash"', "--id", "s1", "--json").document
    assert (signalled["kind"], signalled["run"]["waits"][0]["id"]) == ("paused", "ship")
    assert terminal("runs", "signal", "a", "paid", "--payload", '"cash"', "--id", "s1").out.startswith("duplicate a")
    decided = terminal("runs", "approve", "a", "--reject", "--feedback", "too late")
    assert (decided.code, decided.out) == (0, 'completed a  "cash: too late"\n')
    cancelled = terminal("runs", "cancel", "b", "--reason", "no money")
    assert (cancelled.code, cancelled.out) == (0, "cancelled b\n")
    listed = terminal("runs", "list", "--status", "completed", "--status", "cancelled", "--json").document
    assert [run["run_id"] for run in listed["runs"]] == ["b", "a"]
    shown = terminal("runs", "show", "a")
    assert [shown.code, *(word in shown.out for word in ("signal paid", "received", '"cash"'))] == [0, True, True, True]
    recovering(terminal)
    healthy = terminal("doctor", "--json")
    assert (healthy.code, healthy.document["healthy"]) == (0, True)


def recovering(terminal: Terminal) -> None:
    """What is done about runs that failed, and with those that are over."""
    assert terminal("runs", "retry", "a").code == 2
    retried = terminal("runs", "retry", "c", "--reason", "there is one now", "--json")
    assert (retried.code, retried.document["kind"]) == (1, "errored")
    terminal.environment["CLI_APP_ORDERS"] = "13"
    again = terminal("runs", "retry", "c")
    assert (again.code, again.out) == (0, "paused c  signal paid\n")
    assert "RUN_RETRIED" in terminal("runs", "show", "c", "--json").out
    rerun = terminal("runs", "rerun", "a", "reserve", "--run-id", "a2", "--enqueue", "--json")
    assert (rerun.code, rerun.document["created"]) == (0, True)
    assert terminal("runs", "rerun", "a", "nothing").code == 2
    assert terminal("runs", "start", "order", "--input", ORDER, "--queue", "nowhere").code == 2
    refused = terminal("purge", "--older-than", "0s", stdin="n\n")
    assert (refused.code, terminal("runs", "show", "a").code) == (1, 0)
    purged = terminal("purge", "--older-than", "0s", "--workflow", "order", "--yes", "--json")
    assert purged.document == {"deleted": 2}
    assert terminal("runs", "show", "a").code == 1


ORDER = '{"order_id": "2"}'
