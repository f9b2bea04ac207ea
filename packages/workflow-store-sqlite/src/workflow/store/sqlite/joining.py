"""The app's own transaction: batches on a connection of the app's, and what is wrong with one."""

from __future__ import annotations

import os
import sqlite3
from typing import Any

from workflow.core.errors import InvalidArgumentError

from .connection import Database
from .executor import Batch, Row
from .schema import HAS_SCHEMA, READ_VERSION

__all__ = ["check_connection", "run_batch", "schema_version"]

_SAVEPOINT = "workflow_batch"


def check_connection(connection: Any, database: Database) -> sqlite3.Connection:
    """The connection, if it has an open transaction on this database. Raises `InvalidArgumentError` otherwise."""
    if database.in_memory:
        raise InvalidArgumentError(
            "A database in memory has one connection, the store's own: connection= needs a file."
        )
    if not isinstance(connection, sqlite3.Connection):
        raise InvalidArgumentError(f"connection= takes an sqlite3.Connection, not {type(connection).__qualname__}.")
    if not connection.in_transaction:
        raise InvalidArgumentError(
            "connection= has no open transaction: begin one first, as in `connection.execute('BEGIN IMMEDIATE')`."
        )
    if connection.text_factory is not str:
        raise InvalidArgumentError("connection= has a text_factory of its own: the store needs `str`.")
    _check_file(connection, database)
    return connection


def _check_file(connection: sqlite3.Connection, database: Database) -> None:
    path = next((str(row[2]) for row in _plain(connection).execute("PRAGMA database_list") if row[1] == "main"), "")
    if not path or not os.path.exists(database.path) or not os.path.samefile(path, database.path):
        raise InvalidArgumentError(
            f"connection= is of the file {path or '(in memory)'!r}, and the store's is {database.path!r}: no "
            "transaction can hold both. Keep the tables of the app and of the store in one file."
        )


def run_batch(connection: sqlite3.Connection, statements: Batch) -> list[list[Row]]:
    """Run a batch within the transaction: all of it or, where a statement fails, nothing, and the transaction goes on.

    Raises what sqlite3 raises: it is the app's transaction.
    """
    cursor = _plain(connection)
    cursor.execute(f"SAVEPOINT {_SAVEPOINT}")
    try:
        results = [cursor.execute(sql, values).fetchall() for sql, values in statements]
    except BaseException:
        if connection.in_transaction:
            cursor.execute(f"ROLLBACK TO {_SAVEPOINT}")
            cursor.execute(f"RELEASE {_SAVEPOINT}")
        raise
    cursor.execute(f"RELEASE {_SAVEPOINT}")
    return results


def schema_version(connection: sqlite3.Connection) -> int:
    """The version of the schema as this connection sees it; 0 where there is none."""
    cursor = _plain(connection)
    if not cursor.execute(*HAS_SCHEMA).fetchone()[0]:
        return 0
    return cursor.execute(*READ_VERSION).fetchone()[0] or 0


def _plain(connection: sqlite3.Connection) -> sqlite3.Cursor:
    """A cursor that gives tuples, whatever the app has its rows made into."""
    cursor = connection.cursor()
    cursor.row_factory = None
    return cursor
