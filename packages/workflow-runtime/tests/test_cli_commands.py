"""The command line on SQLite, in processes of its own, as a new user comes to it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from .cli_kit import Terminal, story

pytest.importorskip("workflow.store.sqlite", reason="the embedded store is not installed")


@pytest.fixture
def terminal(tmp_path: Path) -> Terminal:
    return Terminal(tmp_path)


def test_every_verb_on_sqlite(terminal: Terminal) -> None:
    """From a missing database to finished runs: each command does what it says, and says it with its exit code."""
    story(terminal)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGTERM that a process can handle")
def test_the_worker_works_until_sigterm(terminal: Terminal) -> None:
    """The worker tells each drive in a line of JSON, ends in good order at SIGTERM, and sums up."""
    terminal("migrate")
    terminal("runs", "start", "order", "--run-id", "a", "--input", '{"order_id": "1"}', "--enqueue")
    command = terminal.command("--json", "worker", "--per-workflow", "order=2", "--concurrency", "4")
    with subprocess.Popen(
        command, cwd=terminal.folder, env=terminal.variables(), stdout=subprocess.PIPE, text=True
    ) as worker:
        try:
            assert worker.stdout is not None
            assert '"kind":"paused","run_id":"a"' in worker.stdout.readline()
            worker.send_signal(signal.SIGTERM)
            rest, _ = worker.communicate(timeout=30)
        finally:
            worker.kill()
    assert (worker.returncode, rest) == (0, '{"kinds":{"paused":1},"handed_back":0}\n')


def test_the_doctor_finds_what_is_stuck(terminal: Terminal) -> None:
    """A run that this deployment can't drive, and a workflow that can't be imported, are found and explained."""
    terminal("migrate")
    terminal("runs", "start", "order", "--run-id", "old", "--input", '{"order_id": "1"}', "--enqueue")
    terminal.app = "cli_app:make_newer"
    assert "1 not_claimable" in terminal("sweep").out
    report = terminal("doctor", "--json")
    assert (report.code, report.document["open"]) == (1, {"postponed": 1})
    (stuck,) = report.document["stuck"]
    assert "this process has '2'" in stuck["summary"]
    terminal.app = "cli_app:make_broken_registration"
    drawn = terminal("doctor")
    assert drawn.code == 1
    assert "wrong workflow lost: Workflow 'lost' can't be imported from 'nowhere.at:all'" in drawn.out
    assert "stuck old: It could not be driven where it was tried" in drawn.out


WITHOUT_THE_EXTRA = """
import sys
sys.modules["click"] = None
from workflow.runtime.__main__ import main
main()
"""


def test_without_the_extra_it_says_what_to_install() -> None:
    """Where its libraries are not installed, the command says in one line how to get them."""
    done = subprocess.run([sys.executable, "-c", WITHOUT_THE_EXTRA], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (
        2,
        'The command line needs click: pip install "workflow-runtime[cli]"\n',
    )


def test_the_runtime_does_not_load_the_command_line() -> None:
    """Importing the runtime brings neither the command line nor its libraries."""
    program = (
        "import sys, workflow.runtime; print(sorted({'click', 'rich', 'workflow.runtime.cli'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "[]\n"
