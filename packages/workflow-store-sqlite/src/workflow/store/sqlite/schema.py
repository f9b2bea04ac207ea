"""The numbered migrations of this package, and what to say about a database of another version.

A migration and the number it leaves in `workflow_schema` are one batch. Two processes that migrate at once need no
lock of their own: the second batch fails on what the first has created, changes nothing, and its process looks at the
version again.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from importlib.resources.abc import Traversable

from workflow.core.errors import StoreError

from .executor import Statement

__all__ = ["HAS_SCHEMA", "READ_VERSION", "Migration", "current_version", "migrations", "require_version"]

HAS_SCHEMA: Statement = (
    "SELECT count(*) AS tables FROM sqlite_master WHERE type = 'table' AND name = 'workflow_schema'",
    (),
)
READ_VERSION: Statement = ("SELECT max(version) AS version FROM workflow_schema", ())

_RECORD_VERSION = """
INSERT INTO workflow_schema (version, name, applied_at)
VALUES (?, ?, CAST(strftime('%s', 'now') AS INTEGER) * 1000000)
"""

_UPGRADE = "call `await store.migrate()` or run `workflow migrate`"


@dataclass(frozen=True, slots=True)
class Migration:
    """One numbered SQL file. `sql` may be applied by other means too, as long as the version is recorded with it."""

    version: int
    name: str
    sql: str

    def statements(self) -> list[Statement]:
        """The file's statements and the record of its version, to be run as one batch."""
        return [*((sql, ()) for sql in split(self.sql)), (_RECORD_VERSION, (self.version, self.name))]


def split(sql: str) -> list[str]:
    """The statements of a migration file: each ends with a semicolon at a line's end, comments have own lines."""
    code = "\n".join(line for line in sql.splitlines() if not line.lstrip().startswith("--"))
    return [statement.strip() for statement in re.split(r";\s*(?:\n|$)", code) if statement.strip()]


@lru_cache(maxsize=1)
def migrations() -> tuple[Migration, ...]:
    """All migrations in order. Their versions are 1, 2, 3, ..."""
    folder = files("workflow.store.sqlite") / "migrations"
    found = sorted((file for file in folder.iterdir() if file.name.endswith(".sql")), key=lambda file: file.name)
    return tuple(_load(file) for file in found)


def _load(file: Traversable) -> Migration:
    return Migration(int(file.name.split("_", 1)[0]), file.name.removesuffix(".sql"), file.read_text("utf-8"))


def current_version() -> int:
    """The schema version that this package works with."""
    return migrations()[-1].version


def require_version(found: int, where: str) -> None:
    """Raise a `StoreError` that says what to do, unless the schema is of this package's version (0: there is none)."""
    wanted = current_version()
    if found > wanted:
        raise StoreError(
            f"{where} has a workflow schema of version {found}, and this package knows versions up to {wanted}: a "
            "newer release has migrated it. Upgrade workflow-store-sqlite here; nothing was changed."
        )
    if found == 0:
        raise StoreError(f"{where} has no workflow schema: {_UPGRADE} first.")
    if found < wanted:
        raise StoreError(f"{where} has a workflow schema of version {found}, not {wanted}: {_UPGRADE} first.")
