"""The door between what the store means and how its SQL gets to a database.

Everything that `SqlExecutionStore` does is one *batch*: a few statements that happen together or not at all, whose
answers come back together. A batch never looks at an answer half-way, so a door needs no interactive transaction:
Cloudflare D1's `batch()` is one, and so is a transaction on a local file.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeAlias

__all__ = ["Batch", "Executor", "Row", "SqlValue", "Statement"]

SqlValue: TypeAlias = str | int | None
"""What is bound: text, NULL, and integers below 2**53, written to or compared with typed columns, so that a door may
bind them as REAL. Never floats or bytes. No answer holds a larger integer either."""

Statement: TypeAlias = tuple[str, Sequence[SqlValue]]
"""SQL with plain `?` placeholders, at most 100 of them, and what is bound to them."""

Batch: TypeAlias = Sequence[Statement]

Row: TypeAlias = Sequence[Any]
"""The columns of a row in the order of the SELECT or RETURNING. Column names are unique in each result, so that a door
which is given dictionaries can answer `tuple(row.values())`."""


class Executor(Protocol):
    """Runs batches. The only thing that a store on another SQLite has to bring."""

    async def batch(self, statements: Batch, *, readonly: bool = False) -> list[list[Row]]:
        """Run the statements in order, all or nothing, and answer the rows of each (empty where it gives none).

        The effect is durable before this returns. Writing batches are serialized: none sees another half done.
        `readonly` promises that no statement writes, so the batch may go where it waits for no writer; it sees one
        consistent state, with everything that was answered before it was sent.
        Raises `StoreError` where the database refuses; then nothing was written, unless the connection itself was
        lost half-way.
        """
        ...
