"""The same trace over many runs, in every process, and on every Python: DESIGN 4.1.

CI runs this on each supported version, against the one `golden_trace.txt`: a run may start on one and end on another.
When the engine is meant to ask for operations under other ids, which breaks every run that is under way, write the file
anew: `python golden_program.py > golden_trace.txt`.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from .golden_program import lines, main

HERE = Path(__file__).parent
GOLDEN = (HERE / "golden_trace.txt").read_text().splitlines()


def test_trace_is_the_golden_one_every_time() -> None:
    """Ten runs in one process leave the trace that was recorded on another Python."""
    for _ in range(10):
        assert lines(asyncio.run(main())) == GOLDEN


@pytest.mark.parametrize("seed", ["0", "1", "4242"])
def test_trace_does_not_depend_on_the_process(seed: str) -> None:
    """Processes with other hash seeds leave the very same trace."""
    done = subprocess.run(
        [sys.executable, str(HERE / "golden_program.py")],
        env={**os.environ, "PYTHONHASHSEED": seed},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == GOLDEN
