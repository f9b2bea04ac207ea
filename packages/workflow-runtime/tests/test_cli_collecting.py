"""What a worker process tells Python's garbage collector."""

from __future__ import annotations

import subprocess
import sys

import pytest

_PROGRAM = """
import gc
from workflow.runtime.cli.collecting import relax_garbage_collection
{before}
relax_garbage_collection()
print(gc.get_threshold()[0], gc.get_freeze_count() > 0, gc.isenabled())
"""


@pytest.mark.parametrize(
    ("before", "threshold"),
    [("", 50_000), ("gc.set_threshold(200_000)", 200_000), ("gc.set_threshold(0)", 0)],
    ids=["by default", "higher", "off"],
)
def test_the_collector_of_a_worker(before: str, threshold: int) -> None:
    """It looks less often and not at what is loaded; what the app has chosen for itself stays."""
    program = _PROGRAM.format(before=before)
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert told.split() == [str(threshold), "True", "True"]
