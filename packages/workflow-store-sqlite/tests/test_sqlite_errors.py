"""What a user reads when the file, the schema or the arguments are wrong; nothing is ever lost by it."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from workflow.core.errors import InvalidArgumentError, StoreError
from workflow.core.records import NewRun
from workflow.store.sqlite import SQLiteStore, logic, schema
from workflow.store.sqlite.schema import Migration

NOW = datetime(2030, 1, 1, tzinfo=UTC)
NEW = NewRun("run", "w", None, "{}", NOW)
LAST = schema.current_version()


def use(path: Path, **options: Any) -> None:
    """Create a run, as an app would first do."""

    async def main() -> None:
        store = SQLiteStore(path, **options)
        try:
            await store.create_run(NEW, lease=None, now=NOW)
        finally:
            await store.close()

    asyncio.run(main())


def migrate(path: Path) -> None:
    async def main() -> None:
        store = SQLiteStore(path, migrate=False)
        try:
            await store.migrate()
            await store.check()
        finally:
            await store.close()

    asyncio.run(main())


def query(path: Path, sql: str) -> list[Any]:
    connection = sqlite3.connect(path)
    with connection:
        rows = connection.execute(sql).fetchall()
    connection.close()
    return rows


def test_foreign_file(tmp_path: Path) -> None:
    """A file that is no database is refused by name and left as it was."""
    path = tmp_path / "notes.txt"
    path.write_text("Dear diary, this is no database at all.\n" * 100)
    before = path.read_bytes()
    with pytest.raises(StoreError, match=r"notes\.txt is not an SQLite database"):
        use(path)
    with pytest.raises(StoreError, match="is not an SQLite database"):
        migrate(path)
    assert path.read_bytes() == before


def test_damaged_file(tmp_path: Path) -> None:
    """A damaged file is called damaged, with a way out."""
    path = tmp_path / "w.db"
    use(path)
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    path.write_bytes(content)
    with pytest.raises(StoreError, match=r"w\.db is damaged .* backup"):
        use(path)


def test_newer_schema(tmp_path: Path) -> None:
    """A schema from a newer release is refused with both versions and what to do, by every way in."""
    path = tmp_path / "w.db"
    use(path)
    query(path, "INSERT INTO workflow_schema VALUES (7, 'from the future', 0)")
    for refused in (lambda: use(path), lambda: use(path, migrate=False), lambda: migrate(path)):
        with pytest.raises(StoreError, match=r"version 7, and .* up to \d: .*Upgrade workflow-store-sqlite"):
            refused()


def test_migrate_false_without_file(tmp_path: Path) -> None:
    """With migrate=False a missing file is not created, and the error names what to call."""
    path = tmp_path / "w.db"
    with pytest.raises(StoreError, match=r"does not exist: call `await store.migrate\(\)` or run `workflow migrate`"):
        use(path, migrate=False)
    assert not path.exists()


def test_a_check_makes_no_file(tmp_path: Path) -> None:
    """A store that would make its file on first use does not make it when it is asked whether all is well."""

    async def main() -> None:
        store = SQLiteStore(tmp_path / "w.db")
        with pytest.raises(StoreError, match="does not exist: call"):
            await store.check()
        assert list(tmp_path.iterdir()) == []
        await store.create_run(NEW, lease=None, now=NOW)
        await store.check()
        await store.close()

    asyncio.run(main())


def test_migrate_false_without_schema(tmp_path: Path) -> None:
    """With migrate=False a database without our tables stays without them until migrate() is called."""
    path = tmp_path / "app.db"
    query(path, "CREATE TABLE users (name TEXT)")
    with pytest.raises(
        StoreError, match=r"has no workflow schema: call `await store.migrate\(\)` or run `workflow migr"
    ):
        use(path, migrate=False)
    assert query(path, "SELECT name FROM sqlite_master") == [("users",)]
    migrate(path)
    use(path, migrate=False)


def test_tables_of_the_app_stay(tmp_path: Path) -> None:
    """The store lives beside the app's own tables in one file and doesn't touch them."""
    path = tmp_path / "app.db"
    query(path, "CREATE TABLE runs (name TEXT)")
    query(path, "INSERT INTO runs VALUES ('mine')")
    use(path)
    assert query(path, "SELECT * FROM runs") == [("mine",)]
    tables = query(path, "SELECT name FROM sqlite_master WHERE type = 'table' AND name <> 'runs'")
    assert all(name.startswith("workflow_") for (name,) in tables)


def test_a_table_of_ours_that_is_not_ours(tmp_path: Path) -> None:
    """A table of the app that has one of our names stops the migration, which changes nothing."""
    path = tmp_path / "app.db"
    query(path, "CREATE TABLE workflow_log (name TEXT)")
    with pytest.raises(StoreError, match="table workflow_log already exists"):
        use(path)
    assert query(path, "SELECT name FROM sqlite_master") == [("workflow_log",)]


def test_older_schema(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An older schema is upgraded on first use, or with migrate=False refused with the command that upgrades it."""
    path = tmp_path / "w.db"
    use(path)
    add_migration(monkeypatch, "CREATE TABLE workflow_more (\n    a TEXT\n) STRICT;\n")
    told = rf"version {LAST}, not {LAST + 1}: call `await store.migrate\(\)` or run `workflow migrate`"
    with pytest.raises(StoreError, match=told):
        use(path, migrate=False)
    use(path)
    assert query(path, "SELECT version, name FROM workflow_schema")[LAST - 1 :] == [
        (LAST, schema.migrations()[LAST - 1].name),
        (LAST + 1, "more"),
    ]


def test_failing_migration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A migration that fails half-way leaves nothing of itself, and the old version works on."""
    path = tmp_path / "w.db"
    use(path)
    with monkeypatch.context() as patch:
        add_migration(patch, "CREATE TABLE workflow_more (a TEXT);\nALTER TABLE nowhere ADD COLUMN b TEXT;\n")
        with pytest.raises(StoreError, match="no such table: nowhere"):
            use(path)
    assert query(path, "SELECT count(*) FROM sqlite_master WHERE name = 'workflow_more'") == [(0,)]
    use(path)


def add_migration(monkeypatch: pytest.MonkeyPatch, sql: str) -> None:
    more = (*schema.migrations(), Migration(LAST + 1, "more", sql))
    for module in (schema, logic):
        monkeypatch.setattr(module, "migrations", lambda: more)


def test_missing_directory(tmp_path: Path) -> None:
    """A missing directory is named, and not created."""
    with pytest.raises(StoreError, match=r"there is no directory .*nowhere\. Create it"):
        use(tmp_path / "nowhere" / "w.db")
    assert not (tmp_path / "nowhere").exists()


def test_directory_as_file(tmp_path: Path) -> None:
    """The path of a directory is called that."""
    with pytest.raises(StoreError, match="it is a directory"):
        use(tmp_path)


def test_odd_file_names(tmp_path: Path) -> None:
    """A path is a path, whatever it means in a URI."""
    path = tmp_path / "a?mode=ro#b%20c ä.db"
    use(path)
    assert path.exists()


@pytest.fixture
def public_path() -> Iterator[Path]:
    """A directory that another user can reach."""
    path = Path(tempfile.mkdtemp(dir="/tmp"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="root becomes somebody who may not write")
def test_read_only_file(public_path: Path) -> None:
    """A file that this user may not write is called read-only, on an existing schema and on none."""
    for name in ("w.db", "empty.db"):
        path = public_path / name
        use(path) if name == "w.db" else path.touch()
        path.chmod(0o444)
        script = _AS_NOBODY.format(path=str(path))
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
        assert "is read-only for this user" in done.stdout, done.stderr


_AS_NOBODY = """
import asyncio, os
from datetime import UTC, datetime
from workflow.core.errors import StoreError
from workflow.core.records import NewRun
from workflow.store.sqlite import SQLiteStore
NOW = datetime(2030, 1, 1, tzinfo=UTC)
asyncio.run(SQLiteStore({path!r} + ".warm").migrate())  # imports what may be out of the other user's reach
store = SQLiteStore({path!r})
os.seteuid(65534)
try:
    asyncio.run(store.create_run(NewRun("other", "w", None, "{{}}", NOW), lease=None, now=NOW))
except StoreError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("path", "options", "message"),
    [
        ("", {}, "path"),
        ("file:w.db?mode=ro", {}, "path"),
        ("w.db", {"synchronous": "SOMETIMES"}, "synchronous must be one of OFF, NORMAL, FULL, EXTRA"),
        ("w.db", {"group_size": 0}, "group_size"),
    ],
)
def test_wrong_arguments(path: str, options: dict[str, Any], message: str) -> None:
    """Wrong arguments fail where they are written."""
    with pytest.raises(InvalidArgumentError, match=message):
        SQLiteStore(path, **options)


def test_nothing_is_opened_before_the_first_use(tmp_path: Path) -> None:
    """Making a store touches no file, and closing one that was never used neither."""
    store = SQLiteStore(tmp_path / "w.db")
    asyncio.run(store.close())
    assert list(tmp_path.iterdir()) == []


def test_closed_store(tmp_path: Path) -> None:
    """A closed store says that it is closed, to reads and writes, and may be closed again."""

    async def main() -> None:
        store = SQLiteStore(tmp_path / "w.db")
        await store.create_run(NEW, lease=None, now=NOW)
        await asyncio.gather(store.close(), store.close())
        await store.close()
        with pytest.raises(StoreError, match="has been closed"):
            await store.get_run("run")
        with pytest.raises(StoreError, match="has been closed"):
            await store.create_run(NEW, lease=None, now=NOW)

    asyncio.run(main())
