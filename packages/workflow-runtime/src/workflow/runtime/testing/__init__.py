"""For tests of workflows, of runtimes and of stores: time that obeys, processes that die on cue, and what must hold.

Nothing here needs pytest, except the suite that every store passes, which is therefore imported by its full name:
`from workflow.runtime.testing.suite import ExecutionStoreSuite`.
"""

from .clock import TestClock
from .crashing import WRITES, CrashingStore, CrashPoint, LostConnection, SimulatedCrash, crash_points
from .invariants import all_runs, broken_invariants, check_invariants
from .skipping import SweepingRuntime, skip_time

__all__ = [
    "WRITES",
    "CrashPoint",
    "CrashingStore",
    "LostConnection",
    "SimulatedCrash",
    "SweepingRuntime",
    "TestClock",
    "all_runs",
    "broken_invariants",
    "check_invariants",
    "crash_points",
    "skip_time",
]
