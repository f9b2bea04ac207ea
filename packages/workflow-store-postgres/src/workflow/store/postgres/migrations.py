"""The schema: numbered SQL files, applied in order under a lock; each in full, or not at all.

The files use psql's notation for the schema's name, `:"schema"`, so a database administrator can run them without this
package: `python -m workflow.store.postgres migrate --sql | psql`.

A process checks the schema, and never changes it unless it is told to `migrate`. An old and a new version of this
package may run side by side while a system is deployed: a migration that only adds (a table, a nullable column, an
index) leaves `works_from` as it was, and what runs goes on; the new version needs the new schema, so migrate first, and
deploy then. An index may be replaced by one that serves the old statements, too. What takes something away comes a
release later, when nothing uses it any more, and raises `works_from` to the version that stopped using it: older
processes then refuse to work, with a message, and don't fail in the middle.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from itertools import groupby

from workflow.core.errors import InvalidArgumentError, StoreError

from .drivers import Driver
from .statements import quoted, with_schema

__all__ = [
    "LATEST",
    "Migration",
    "SchemaState",
    "as_sql",
    "check_schema_name",
    "lock_key",
    "migrations",
    "plain",
    "read_state",
]

_NAME_BYTES = 63


@dataclass(frozen=True, slots=True)
class Migration:
    version: int
    name: str
    sql: str

    @property
    def concurrent(self) -> bool:
        """Whether it is applied outside of a transaction, beside what goes on."""
        return "INDEX CONCURRENTLY" in self.sql


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
    if name.startswith("pg_"):
        raise InvalidArgumentError(f"The schema name {name!r} begins with pg_, which Postgres keeps for itself.")
    return name


def as_sql(schema: str, *, after: int = 0) -> str:
    """Everything after a version as a script for psql.

    For an empty database all of it happens, or nothing. For one with tables the same is true of each migration, except
    for those that say CONCURRENTLY: these are run statement by statement, and may be run again.
    """
    chosen = [migration for migration in migrations() if migration.version > after]
    parts = ["\\set ON_ERROR_STOP on"] if after else []
    for concurrent, group in groupby(chosen, lambda migration: bool(after) and migration.concurrent):
        texts = [f"\n-- {migration.version:04} {migration.name}\n\n{migration.sql.strip()}" for migration in group]
        parts += texts if concurrent else _as_transaction(schema, [plain(text) for text in texts], first=not after)
    return with_schema("\n".join(parts) + "\n", schema)


def _as_transaction(schema: str, texts: list[str], *, first: bool) -> list[str]:
    make = [f"CREATE SCHEMA IF NOT EXISTS {quoted(schema)};"] if first else []
    return ["BEGIN;", f"SELECT pg_advisory_xact_lock({lock_key(schema)});", *make, *texts, "\nCOMMIT;"]


async def read_state(driver: Driver, schema: str) -> SchemaState:
    """What is there; one or two reads, and nothing is locked."""
    table = f"{quoted(schema)}.workflow_schema"
    # Read from the catalog's tables: to_regclass asks the session's cache, in which a table that a rival has made since
    # this transaction began may still be missing.
    found = await driver.fetch(
        "SELECT 1 FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace "
        "WHERE n.nspname = $1::text AND c.relname = 'workflow_schema'",
        (schema,),
    )
    if not found:
        return SchemaState()
    (row,) = await driver.fetch(f"SELECT max(v.version), max(v.works_from) FROM {table} v", ())
    return SchemaState(row[0] or 0, row[1] or 0)


def plain(sql: str) -> str:
    """For a transaction, in which nothing can be done concurrently."""
    return sql.replace(" CONCURRENTLY", "")


def lock_key(schema: str) -> int:
    digest = hashlib.sha256(f"workflow.store.postgres:{schema}".encode()).digest()
    return int.from_bytes(digest[:8], signed=True)


def _shell(text: str) -> str:
    return text if re.fullmatch(r"[\w.-]+", text, re.ASCII) else "'" + text.replace("'", "'\\''") + "'"
