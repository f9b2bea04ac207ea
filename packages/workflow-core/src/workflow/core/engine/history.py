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

    def holds(self, step_id: str) -> bool:
        """Whether the next event is the result of this step: then its id has been checked before."""
        if self._position == len(self._events):
            return False
        event = self._events[self._position]
        return type(event) is Result and type(step_id) is str and event.id == step_id

    def take_result(self, step_id: str) -> Result | None:
        """The result of the step that the handler is just asking for, where applying the next event would be nothing
        but giving it back.

        That is so if it is the result of this step, and nothing else is to run before it would be applied: then the
        handler need not stop here for it to be handed over, and a replay in a row costs a fraction.
        """
        if self._position == len(self._events) or not self._loop.undisturbed:
            return None
        event = self._events[self._position]
        if type(event) is not Result or event.id != step_id:
            return None
        self._position += 1
        self._loop.at = event.at
        return event
