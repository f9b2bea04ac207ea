"""A small deterministic event loop, on which handlers run.

It has a ready queue and nothing else: no selector, no threads, no clock but the run's. The engine steps it from inside
the host's loop, synchronously, until nothing is left to do, and decides which durable thing happens next.
"""

from .loop import DurableLoop
from .stepping import as_current, run_until_idle, stepping
from .task import DurableTask
from .timer import DurableTimer

__all__ = ["DurableLoop", "DurableTask", "DurableTimer", "as_current", "run_until_idle", "stepping"]
