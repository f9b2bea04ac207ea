"""The schema in D1: checked on the way, and written out as files for wrangler.

The tables are those of `workflow.store.sqlite`, and so are the migrations.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

from workflow.core.errors import InvalidArgumentError, StoreError
from workflow.store.sqlite import Statement
from workflow.store.sqlite.schema import Migration, current_version, migrations

__all__ = ["explained", "version_guard", "wrangler_file", "write_wrangler_files"]

_GUARD = """
SELECT CASE WHEN max(version) = ? THEN 1 ELSE json('version ' || coalesce(max(version), 0)) END AS version
FROM workflow_schema
"""


def version_guard() -> Statement:
    """A statement that fails, and its whole batch with it, unless the schema is of this package's version."""
    return _GUARD, (current_version(),)


async def explained(error: StoreError, check: Callable[[], Awaitable[None]]) -> None:
    """Raise what `check` finds wrong with the schema, because of `error`. Return if it finds nothing."""
    try:
        await check()
    except StoreError as found:
        raise found from error


def wrangler_file(migration: Migration) -> tuple[str, str]:
    """The name and the text of a migration for `wrangler d1 migrations apply`."""
    name = f"{migration.version:04}_workflow_{migration.name.split('_', 1)[1]}.sql"
    record = (
        "INSERT INTO workflow_schema (version, name, applied_at)\n"
        f"VALUES ({migration.version}, '{migration.name}', CAST(strftime('%s', 'now') AS INTEGER) * 1000000);"
    )
    return name, f"{migration.sql.rstrip()}\n\n{record}\n"


def write_wrangler_files(folder: Path) -> list[Path]:
    """Write the migrations that the folder doesn't have yet, numbered after those that it has.

    Returns what was written. A file of ours keeps its number, so what wrangler has applied stays applied.
    """
    if folder.exists() and not folder.is_dir():
        raise InvalidArgumentError(f"{folder} is no directory.")
    folder.mkdir(parents=True, exist_ok=True)
    present = {path.name.partition("_")[2] for path in folder.glob("*.sql")}
    following = 1 + max((_number(path) for path in folder.glob("*.sql")), default=0)
    written: list[Path] = []
    for migration in migrations():
        name, text = wrangler_file(migration)
        name = name.partition("_")[2]
        if name in present:
            continue
        path = folder / f"{following + len(written):04}_{name}"
        path.write_text(text, encoding="utf-8")
        written.append(path)
    return written


def _number(path: Path) -> int:
    digits = path.name.partition("_")[0]
    return int(digits) if digits.isdecimal() else 0
