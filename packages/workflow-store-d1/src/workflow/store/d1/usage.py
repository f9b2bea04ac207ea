"""How much of D1 a store has used: what a Worker's invocation is limited in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

__all__ = ["Usage"]


@dataclass(slots=True)
class Usage:
    """Counts since the store was made, of what was sent to the database, repetitions included."""

    calls: int = 0
    """Round trips: each is a batch, and takes as long as the way to the database and back."""
    queries: int = 0
    """Statements in those batches. Cloudflare limits them in each invocation of a Worker."""
    _watchers: list[tuple[int, Callable[[], None]]] = field(
        default_factory=list[tuple[int, Callable[[], None]]], repr=False, compare=False
    )

    def add(self, queries: int) -> None:
        """Count one call of so many queries."""
        self.calls += 1
        self.queries += queries
        for watcher in [watcher for watcher in self._watchers if watcher[0] <= self.queries]:
            self._watchers.remove(watcher)
            watcher[1]()

    def watch(self, queries: int, act: Callable[[], None]) -> None:
        """Call `act` once, when so many queries have been counted, before the call that reaches it is sent."""
        self._watchers.append((queries, act))
