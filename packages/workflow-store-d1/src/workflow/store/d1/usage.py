"""How much of D1 a store has used: what a Worker's invocation is limited in."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Usage"]


@dataclass(slots=True)
class Usage:
    """Counts since the store was made, of what was sent to the database, repetitions included."""

    calls: int = 0
    """Round trips: each is a batch, and takes as long as the way to the database and back."""
    queries: int = 0
    """Statements in those batches. Cloudflare limits them in each invocation of a Worker."""

    def add(self, queries: int) -> None:
        """Count one call of so many queries."""
        self.calls += 1
        self.queries += queries
