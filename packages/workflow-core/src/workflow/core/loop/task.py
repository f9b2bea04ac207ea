"""Tasks of the deterministic loop."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextvars import Context
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .loop import DurableLoop

__all__ = ["DurableFuture", "DurableTask", "Place"]


class Place:
    """Where a task stands in the tree of tasks: "" for the main one, "2.1" for its 2nd child's 1st child."""

    __slots__ = ("_children", "path")

    def __init__(self, path: str = "") -> None:
        self.path = path
        self._children = 0

    def child(self) -> Place:
        self._children += 1
        return Place(f"{self.path}.{self._children}" if self.path else str(self._children))


class DurableTask(asyncio.Task[Any]):
    """A task whose hash is the number of its creation.

    `TaskGroup`, `wait` and `as_completed` keep tasks in sets: with hashes made of addresses, the order in which they
    cancel or return them would differ from process to process.
    """

    def __init__(
        self,
        coro: Coroutine[Any, Any, Any],
        *,
        loop: DurableLoop,
        name: str,
        context: Context | None,
        number: int,
        place: Place,
    ) -> None:
        self.place = place
        self._durable = loop
        # Asyncio's own weak set of all tasks takes the hash it is told now. The first tasks of a thousand runs have the
        # same number, and a set of them would be a list.
        self._hash = id(self)
        super().__init__(coro, loop=loop, name=name, context=context)
        self._hash = number

    def __hash__(self) -> int:
        return self._hash

    def cancel(self, msg: Any | None = None) -> bool:
        self._durable.note_cancel()
        return super().cancel(msg)

    @property
    def path(self) -> str:
        return self.place.path


class DurableFuture(asyncio.Future[Any]):
    """A future whose hash is the number of its creation, for the same reason."""

    def __init__(self, *, loop: DurableLoop, number: int) -> None:
        self.number = number
        super().__init__(loop=loop)

    def __hash__(self) -> int:
        return self.number
