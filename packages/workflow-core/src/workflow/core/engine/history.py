"""The log as replay goes through it."""

from __future__ import annotations

from collections.abc import Sequence

from workflow.core.events import Event
from workflow.core.journal import Result
from workflow.core.loop import DurableLoop

__all__ = ["History"]


class History:
    """The events of a run, and how far replay has come."""

    __slots__ = ("_loop", "_rest", "_size", "next")

    def __init__(self, events: Sequence[Event | Result], loop: DurableLoop) -> None:
        self._size = len(events)
        self._loop = loop
        self._rest = iter(events)
        self.next: Event | Result | None = next(self._rest, None)
        """The next event to be applied; None at the end of the log."""

    def __len__(self) -> int:
        return self._size

    def take(self) -> Event | Result | None:
        """The next event, which is about to be applied."""
        event = self.next
        self.next = next(self._rest, None)
        return event

    def give_back(self, result: Result) -> bool:
        """Pass over `next`, the result of the step that the handler is just asking for, where applying it would be
        nothing but giving it back: whether it was.

        That is so if nothing else is to run before it would be applied: then the handler need not stop here for it to
        be handed over, and a replay in a row costs a fraction.
        """
        if not self._loop.undisturbed:
            return False
        self.next = next(self._rest, None)
        self._loop.at = result.at
        return True
