"""Tasks of the deterministic loop."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextvars import Context
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .loop import DurableLoop

__all__ = ["DurableFuture", "DurableTask"]


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
        parent: DurableTask | None,
    ) -> None:
        self.number = number
        self._parent = parent
        self._place = 0
        self._children = 0
        if parent is not None:
            parent._children += 1
            self._place = parent._children
        super().__init__(coro, loop=loop, name=name, context=context)

    def __hash__(self) -> int:
        return self.number

    @property
    def path(self) -> str:
        """Where this task stands in the tree of tasks: "" for the main one, "2.1" for its 2nd child's 1st child."""
        places: list[str] = []
        task = self
        while task._parent is not None:
            places.append(str(task._place))
            task = task._parent
        return ".".join(reversed(places))


class DurableFuture(asyncio.Future[Any]):
    """A future whose hash is the number of its creation, for the same reason."""

    def __init__(self, *, loop: DurableLoop, number: int) -> None:
        self.number = number
        super().__init__(loop=loop)

    def __hash__(self) -> int:
        return self.number
