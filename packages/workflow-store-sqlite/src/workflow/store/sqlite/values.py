"""Many rows in few statements, each with fewer parameters than the hundred that D1 allows."""

from __future__ import annotations

from collections.abc import Sequence

from .executor import SqlValue, Statement

__all__ = ["values_statements"]

_MOST = 100


def values_statements(
    insert: str,
    rows: Sequence[tuple[SqlValue, ...]],
    guard: str,
    *,
    before: tuple[SqlValue, ...],
    after: tuple[SqlValue, ...],
) -> list[Statement]:
    """`insert`, which ends as a SELECT of `new.*`, for all these rows, where `guard` holds.

    `before` is bound in `insert`, `after` in `guard`.
    """
    if not rows:
        return []
    width = len(rows[0])
    size = (_MOST - len(before) - len(after)) // width
    chunks = [rows[start : start + size] for start in range(0, len(rows), size)]
    return [
        (
            f"{insert} FROM ({_values(len(chunk), width)}) AS new WHERE {guard}",
            (*before, *(value for row in chunk for value in row), *after),
        )
        for chunk in chunks
    ]


def _values(count: int, width: int) -> str:
    row = f"({', '.join('?' * width)})"
    return f"VALUES {', '.join([row] * count)}"
