"""The schema: numbered SQL files, applied in order under a lock, each in full or not at all.

The files use psql's notation for the schema's name, `:"schema"`, so a database administrator can run them without this
package: `python -m workflow.store.postgres migrate --sql | psql`.

A process checks the schema, and never changes it unless it is told to `migrate`. An old and a new version of this
package may run side by side while a system is deployed: a migration that only adds (a table, a nullable column, an
index) leaves `works_from` as it was, and what runs goes on; the new version needs the new schema, so migrate first, and
deploy then. One that takes something away comes a release later, when nothing uses it any more, and raises `works_from`
to the version that stopped using it: older processes then refuse to work, with a message, and don't fail in the middle.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from workflow.core.errors import InvalidArgumentError, StoreError

from .drivers import Driver
from .statements import quoted, with_schema

__all__ = ["LATEST", "Migration", "SchemaState", "apply", "as_sql", "check_schema_name", "migrations", "read_state"]

_NAME_BYTES = 63


@dataclass(frozen=True, slots=True)
class Migration:
    version: int
    name: str
    sql: str


@dataclass(frozen=True, slots=True)
class SchemaState:
    """What a database has: both numbers are 0 where there is nothing of ours."""

    version: int = 0
    works_from: int = 0

    def problem(self, schema: str) -> str | None:
        """Why this package can't work on it, and the command that helps; None where it can."""
        where = f"schema {schema!r}"
        command = f"python -m workflow.store.postgres migrate --schema {_shell(schema)}"
        if self.version == 0:
            return f"There are no workflow tables in {where}. Make them: {command}"
        if self.version < LATEST:
            return f"The workflow tables in {where} have version {self.version}, this package needs {LATEST}: {command}"
        if self.works_from > LATEST:
            return (
                f"The workflow tables in {where} have version {self.version}, for packages that know version "
                f"{self.works_from}; this one knows {LATEST}. Upgrade it: pip install -U workflow-store-postgres"
            )
        return None


@cache
def migrations() -> tuple[Migration, ...]:
    """All files, in order."""
    folder = files("workflow.store.postgres") / "migrations"
    named = sorted((path.name, path) for path in folder.iterdir() if path.name.endswith(".sql"))
    return tuple(_migration(name, path.read_text(encoding="utf-8")) for name, path in named)


def _migration(file: str, sql: str) -> Migration:
    found = re.fullmatch(r"(\d{4})_(\w+)\.sql", file)
    if found is None:
        raise StoreError(f"{file!r} is no name of a migration.")
    return Migration(int(found[1]), found[2], sql)


LATEST = migrations()[-1].version


def check_schema_name(name: str) -> str:
    """Refuse a name that Postgres would cut or can't hold; any other is a name, whatever is in it."""
    if not name or "\0" in name or len(name.encode(errors="surrogatepass")) > _NAME_BYTES:
        raise InvalidArgumentError(f"The schema name {name!r} must have 1 to {_NAME_BYTES} bytes, and no NUL.")
    if any("\ud800" <= character <= "\udfff" for character in name):
        raise InvalidArgumentError(f"The schema name {name!r} has a lone surrogate.")
    return name


def as_sql(schema: str, *, after: int = 0) -> str:
    """Everything after a version as a script for psql; all of it happens, or nothing."""
    chosen = [migration for migration in migrations() if migration.version > after]
    parts = [
        "BEGIN;",
        f"SELECT pg_advisory_xact_lock({_lock_key(schema)});",
        *([f"CREATE SCHEMA IF NOT EXISTS {quoted(schema)};"] if after == 0 else []),
        *(f"\n-- {migration.version:04} {migration.name}\n\n{migration.sql.strip()}" for migration in chosen),
        "\nCOMMIT;\n",
    ]
    return with_schema("\n".join(parts), schema)


async def read_state(driver: Driver, schema: str) -> SchemaState:
    """What is there; one or two reads, and nothing is locked."""
    table = f"{quoted(schema)}.workflow_schema"
    (found,) = await driver.fetch("SELECT to_regclass($1::text) IS NOT NULL", (table,))
    if not found[0]:
        return SchemaState()
    (row,) = await driver.fetch(f"SELECT max(v.version), max(v.works_from) FROM {table} v", ())
    return SchemaState(row[0] or 0, row[1] or 0)


async def apply(driver: Driver, schema: str, *, timeout: float) -> list[Migration]:
    """Apply what is missing, in one transaction, and answer what that was.

    Under an advisory lock of this database and schema: of two processes one works and the other then finds nothing to
    do. It belongs to the transaction, so it is gone with it, whatever happens, also behind a pooler.
    """
    await driver.script("BEGIN")
    # Tables may be in use: rather give up than queue behind a long transaction, with all others behind us.
    await driver.script(f"SET LOCAL lock_timeout = {max(int(timeout * 1000), 1)}")
    await _lock(driver, schema, timeout)
    state = await read_state(driver, schema)
    missing = [migration for migration in migrations() if migration.version > state.version]
    if state.version == 0:
        await _make_schema(driver, schema)
    for migration in missing:
        await driver.script(with_schema(migration.sql, schema))
    await driver.script("COMMIT")
    return missing


async def _lock(driver: Driver, schema: str, timeout: float) -> None:
    try:
        await driver.fetch("SELECT pg_advisory_xact_lock($1::bigint)", (_lock_key(schema),))
    except Exception as error:
        if getattr(error, "sqlstate", None) != "55P03":
            raise
        raise StoreError(
            f"Another process has been migrating schema {schema!r} for more than {timeout:g} s. Nothing was changed "
            "here; look at pg_stat_activity and pg_locks, then migrate again."
        ) from error


async def _make_schema(driver: Driver, schema: str) -> None:
    # Looked up first: IF NOT EXISTS alone asks for the right to create schemas, also where there is nothing to create.
    found = await driver.fetch("SELECT FROM pg_catalog.pg_namespace WHERE nspname = $1::text", (schema,))
    if not found:
        await driver.script(f"CREATE SCHEMA {quoted(schema)}")


def _lock_key(schema: str) -> int:
    digest = hashlib.sha256(f"workflow.store.postgres:{schema}".encode()).digest()
    return int.from_bytes(digest[:8], signed=True)


def _shell(text: str) -> str:
    return text if re.fullmatch(r"[\w.-]+", text, re.ASCII) else "'" + text.replace("'", "'\\''") + "'"
