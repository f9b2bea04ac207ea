"""The demo keeps its promises, and shows them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

DEMO = Path(__file__).resolve().parent.parent / "tools" / "demo"


@pytest.fixture(scope="module")
def printed() -> str:
    done = subprocess.run([sys.executable, str(DEMO)], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_demo_tells_its_story(printed: str):
    """It shows the kill, the restart, the early signal, and the doubled one, in this order."""
    story = ["run started", "buffered", "duplicate", "kill -9", "status running", "process two", "run finished"]
    places = [printed.index(part) for part in story]
    assert places == sorted(places)


def test_the_demo_checks_what_happened(printed: str):
    """Each promise is checked against the outside world and the log, and is kept."""
    assert printed.count("yes  ") == 4
    assert "NO " not in printed


def test_what_was_recorded_is_not_run_again(printed: str):
    """The second process does not start the step whose result the first one has recorded."""
    after_the_kill = printed[printed.index("kill -9") :]
    assert "step started                  reserve-inventory" not in after_the_kill
    assert "step started                  ship-order" in after_the_kill
