"""What is said of a log and a handler that don't fit each other."""

from __future__ import annotations

from typing import Any

from workflow.core.errors import NonDeterminismError
from workflow.core.events import Event
from workflow.core.journal import Result

__all__ = ["entry", "mismatch", "one"]


def mismatch(run_id: str, holds: str, found: str) -> NonDeterminismError:
    """The error that shows both: what the log holds, and what the handler does instead."""
    return NonDeterminismError(
        f"Run {run_id!r} can't be replayed: its log holds {holds}, but {found}. The code has changed since, or it "
        "depends on something that is not recorded (time, randomness, the order of a set). Deploy code that fits the "
        "log, or give the workflow a new version and keep this one in previous_versions; the run waits unharmed."
    )


def entry(event: Event | Result) -> str:
    """An entry of the log, as people are shown it."""
    known: Any = event
    id = f" {known.id!r}" if hasattr(known, "id") else ""
    return f"{known.type}{id} at index {event.index}"


def one(kind: str) -> str:
    """A kind of operation with its article."""
    return f"an {kind}" if kind[0] in "aeiou" else f"a {kind}"
