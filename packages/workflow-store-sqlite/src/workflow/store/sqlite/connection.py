"""Opening a database file, and SQLite's errors in words that help.

Write-ahead logging lets reads go on while somebody writes. `synchronous` says when a commit is on the disk: with FULL
before it is answered. Waiting for a lock is left to the lanes (see lanes.py): SQLite itself never waits here.
"""

from __future__ import annotations

import os
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from workflow.core.errors import PayloadError, StoreError, StoreUnavailableError, WorkflowError

__all__ = ["MEMORY", "Database", "Synchronous", "is_busy", "is_unusable", "sqlite_error"]

Synchronous: TypeAlias = Literal["OFF", "NORMAL", "FULL", "EXTRA"]

MEMORY = ":memory:"
_OLDEST = (3, 37, 0)

# Primary result codes of SQLite.
_BUSY, _LOCKED, _READONLY, _IOERR, _CORRUPT, _FULL, _CANTOPEN, _PROTOCOL = 5, 6, 8, 10, 11, 13, 14, 15
_TOOBIG, _NOTADB = 18, 26


@dataclass(slots=True)
class Database:
    """One database: where it is, and how to open it. `create` says whether a missing file is made."""

    path: str
    synchronous: Synchronous = "FULL"
    create: bool = True

    @property
    def in_memory(self) -> bool:
        return self.path == MEMORY

    @property
    def where(self) -> str:
        return "The database in memory" if self.in_memory else f"The database {self.path}"

    def require_file(self) -> None:
        """Raise `StoreError` where there is no file yet, and make none."""
        if not self.in_memory and not Path(self.path).exists():
            raise StoreError(f"{self.where} {_cannot_open(Path(self.path), create=False)}")

    def open_to_write(self) -> sqlite3.Connection:
        """Raises sqlite3 errors (busy ones too, in a rare moment), and `StoreError` where WAL is impossible."""
        connection = self._open()
        try:
            if not self.in_memory:
                self._write_ahead(connection)
            connection.execute(f"PRAGMA synchronous = {self.synchronous}")
        except BaseException:
            connection.close()
            raise
        return connection

    def open_to_read(self) -> sqlite3.Connection:
        connection = self._open()
        connection.execute("PRAGMA query_only = ON")
        return connection

    def _open(self) -> sqlite3.Connection:
        if sqlite3.sqlite_version_info < _OLDEST:
            raise StoreError(f"SQLite {sqlite3.sqlite_version} is too old: {'.'.join(map(str, _OLDEST))} is needed.")
        mode = "rwc" if self.create else "rw"
        name = MEMORY if self.in_memory else f"{Path(self.path).absolute().as_uri()}?mode={mode}"
        connection = sqlite3.connect(
            name,
            uri=not self.in_memory,
            timeout=0,
            isolation_level=None,  # transactions begin and end where the lanes say so
            cached_statements=256,
            check_same_thread=False,  # one lane uses it, and whoever forks closes it before
        )
        # A claim makes some thirty small tables of its own. For a file each would begin with 80 kB of cache, given back
        # to the system after every claim, which costs ten times what the claim does.
        connection.execute("PRAGMA temp_store = MEMORY")
        return connection

    def _write_ahead(self, connection: sqlite3.Connection) -> None:
        (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
        if mode != "wal":
            raise StoreError(
                f"{self.where} can't use write-ahead logging (its journal mode stays {mode!r}). "
                "Put it on a local disk: network filesystems don't work."
            )


def _code(error: BaseException) -> int:
    """The primary result code; 0 where the error is not of SQLite itself."""
    return (getattr(error, "sqlite_errorcode", 0) or 0) & 0xFF


def is_busy(error: BaseException) -> bool:
    """Whether another connection was in the way: trying again is all that it takes."""
    return _code(error) in (_BUSY, _LOCKED, _PROTOCOL)


def is_unusable(error: BaseException) -> bool:
    """Whether the connection had better be opened anew before the next use."""
    return _code(error) in (_READONLY, _IOERR, _CORRUPT, _CANTOPEN, _NOTADB)


def sqlite_error(error: Exception, database: Database) -> WorkflowError:
    """What to raise for an error of sqlite3, with that error as its cause: nothing of the batch was written."""
    if isinstance(error, WorkflowError):
        return error
    if isinstance(error, UnicodeEncodeError):
        ours: WorkflowError = PayloadError(
            f"A text with a lone surrogate can't be stored: {error}. Nothing was written."
        )
    elif isinstance(error, OverflowError) or _code(error) == _TOOBIG:
        ours = PayloadError(f"A value is too large for SQLite: {error}. Nothing was written.")
    else:
        kind = StoreUnavailableError if is_busy(error) else StoreError
        ours = kind(f"{database.where} {_explanation(error, database)}")
    ours.__cause__ = error
    return ours


def _explanation(error: Exception, database: Database) -> str:
    code, nothing = _code(error), "Nothing was written."
    if code == _CANTOPEN:
        return _cannot_open(Path(database.path), database.create)
    known = {
        _NOTADB: "is not an SQLite database (or is encrypted). Choose another path; the file was left as it is.",
        _CORRUPT: f"is damaged ({error}). Restore a backup, or salvage it with `sqlite3 FILE .recover`. {nothing}",
        _READONLY: f"is read-only for this user. Let it write the file and its directory. {nothing}",
        _FULL: f"can't grow: the disk is full. {nothing} Make room, and what was refused can be repeated.",
        _IOERR: f"can't be read or written: the disk reports an error ({error}).",
        _BUSY: f"stayed locked by another process for the whole of the busy timeout. {nothing} "
        "Look for a program that keeps a write transaction open on it.",
    }
    return known.get(code) or f"refused a statement: {type(error).__name__}: {error}. {nothing}"


def _cannot_open(path: Path, create: bool) -> str:
    if not path.parent.is_dir():
        return f"can't be opened: there is no directory {path.parent}. Create it first."
    if path.is_dir():
        return "can't be opened: it is a directory. Give the path of a file."
    if not create and not path.exists():
        return "does not exist: call `await store.migrate()` or run `workflow migrate` first."
    allowed = os.access(path if path.exists() else path.parent, os.R_OK | os.W_OK)
    return "can't be opened." if allowed else "can't be opened: this user may not read and write it."
