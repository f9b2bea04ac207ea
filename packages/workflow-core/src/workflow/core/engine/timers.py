"""Which open operation has its time come next."""

from __future__ import annotations

import heapq
from datetime import datetime

from .operations import Operation

__all__ = ["Timers"]


class Timers:
    """Open operations with a time (sleeps, asyncio's timers, timeouts of waits), the earliest first.

    Operations that are done in the meantime are dropped when they come up.
    """

    def __init__(self) -> None:
        self.heap: list[tuple[datetime, int, Operation]] = []
        self._count = 0

    def add(self, operation: Operation) -> None:
        if operation.until is not None:
            self._count += 1
            heapq.heappush(self.heap, (operation.until, self._count, operation))

    def first(self) -> Operation | None:
        while self.heap:
            operation = self.heap[0][2]
            if not operation.future.done():
                return operation
            heapq.heappop(self.heap)
        return None

    def next_at(self) -> datetime | None:
        first = self.first()
        return first.until if first is not None else None
