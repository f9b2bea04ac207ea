"""The garbage collector of a process that is a worker and nothing else."""

from __future__ import annotations

import gc

__all__ = ["relax_garbage_collection"]

_THRESHOLD = 50_000
"""Objects made before the collector looks among the youngest. A run under way holds about a hundred."""


def relax_garbage_collection() -> None:
    """Look for garbage seldom, and never again among what is loaded by now.

    With Python's defaults, a worker with hundreds of runs under way spends a third of its CPU time on looking through
    modules and live runs, and a drive leaves next to no garbage. An app that has turned the collector off, or has set
    a higher threshold, keeps that.
    """
    youngest, *older = gc.get_threshold()
    gc.collect()
    gc.freeze()
    if 0 < youngest < _THRESHOLD:
        gc.set_threshold(_THRESHOLD, *older)
