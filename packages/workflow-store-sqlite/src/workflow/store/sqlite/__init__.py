"""The embedded store: one SQLite file, with the standard library's `sqlite3`.

`SQLiteStore(path)` is what an app uses. `SqlExecutionStore` is the same store without the file: all of its logic and
SQL over an `Executor`, for databases that speak SQLite's SQL through another door. Importing this package loads neither
`sqlite3` nor threads, which some platforms don't have.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .executor import Batch, Executor, Row, SqlValue, Statement
from .logic import SqlExecutionStore

if TYPE_CHECKING:
    from .store import SQLiteStore

__all__ = ["Batch", "Executor", "Row", "SQLiteStore", "SqlExecutionStore", "SqlValue", "Statement"]


def __getattr__(name: str) -> Any:
    if name == "SQLiteStore":
        from .store import SQLiteStore

        return SQLiteStore
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
