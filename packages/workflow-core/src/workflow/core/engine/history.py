"""The log as replay goes through it."""

from __future__ import annotations

from collections.abc import Sequence

from workflow.core.events import Event
from workflow.core.journal import Result
from workflow.core.loop import DurableLoop

__all__ = ["History"]


class History:
    """The events of a run, and how far replay has come."""

    __slots__ = ("_events", "_loop", "_position")

    def __init__(self, events: Sequence[Event | Result], loop: DurableLoop) -> None:
        self._events = events
        self._loop = loop
        self._position = 0

    def __len__(self) -> int:
        return len(self._events)

    def take(self) -> Event | Result | None:
        """The next event to be applied; None at the end of the log."""
        if self._position == len(self._events):
            return None
        self._position += 1
        return self._events[self._position - 1]

    def next_result(self, step_id: str) -> Result | None:
        """The next event, if it is the result of this step: then its id has been checked before."""
        if self._position == len(self._events):
            return None
        event = self._events[self._position]
        return event if type(event) is Result and event.id == step_id and type(step_id) is str else None

    def take_result(self, result: Result) -> bool:
        """Take the next event, the result of the step that the handler is just asking for, where applying it would be
        nothing but giving it back: whether it was.

        That is so if nothing else is to run before it would be applied: then the handler need not stop here for it to
        be handed over, and a replay in a row costs a fraction.
        """
        if not self._loop.undisturbed:
            return False
        self._position += 1
        self._loop.at = result.at
        return True
