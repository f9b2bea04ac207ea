"""The schema: made by hand, by HTTP or by wrangler, and checked without a call of its own."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from workflow.core.errors import StoreError
from workflow.store.d1 import D1Store
from workflow.store.d1.__main__ import main
from workflow.store.d1.schema import write_wrangler_files
from workflow.store.sqlite.schema import current_version, migrations, split

TABLES = ("schema", "runs", "log", "mail", "schedules", "ticks")


@pytest.fixture
def url(d1_url: str) -> str:
    """The REST API with the database `empty`, which has no tables."""
    drop = [(f"DROP TABLE IF EXISTS workflow_{name}", ()) for name in TABLES]
    run(d1_url, lambda store: store._patient.batch(drop))
    return d1_url


def run(url: str, act: Any) -> Any:
    async def on_a_store() -> Any:
        store = D1Store.from_http("account", "empty", "token", base_url=url)
        try:
            return await act(store)
        finally:
            await store.close()

    return asyncio.run(on_a_store())


def test_no_schema(url: str) -> None:
    """Without a schema the first use says so, and how to make one; nothing is created by the way."""
    for _ in range(2):
        with pytest.raises(StoreError, match=r"no workflow schema.*migrate"):
            run(url, lambda store: store.get_run("r"))


def test_another_version(url: str) -> None:
    """A schema of another version is refused by the first batch, which then writes nothing."""
    newer = current_version() + 1

    async def use(store: D1Store) -> None:
        await store.migrate()
        await store._patient.batch([("INSERT INTO workflow_schema VALUES (?, 'next', 0)", (newer,))])
        other = D1Store.from_http("account", "empty", "token", base_url=url)
        calls = other.usage.calls
        try:
            with pytest.raises(StoreError, match=f"version {newer}"):
                await other._batch([("DELETE FROM workflow_schema", ())])
            assert other.usage.calls > calls
            with pytest.raises(StoreError, match=f"version {newer}"):
                await other.check()
        finally:
            await other.close()

    run(url, use)


def test_the_check_costs_no_call(url: str) -> None:
    """A new store's first operation is one call, and so is the next."""
    run(url, lambda store: store.migrate())

    async def use(store: D1Store) -> list[int]:
        counts: list[int] = []
        for _ in range(2):
            await store.next_due(["w"])
            counts.append(store.usage.calls)
        return counts

    assert run(url, use) == [1, 2]


def test_migrating_at_once(url: str) -> None:
    """Two deployments that migrate an empty database at once both succeed."""

    async def both(store: D1Store) -> None:
        other = D1Store.from_http("account", "empty", "token", base_url=url)
        try:
            await asyncio.gather(store.migrate(), other.migrate())
            await other.check()
        finally:
            await other.close()

    run(url, both)


def test_the_command_line(url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """`check` fails until `migrate` has run, and the token comes from the environment."""
    monkeypatch.setenv("CLOUDFLARE_API_TOKEN", "token")
    arguments = ["--account", "account", "--database", "empty", "--base-url", url]
    assert main(["check", *arguments]) == 1
    assert "no workflow schema" in capsys.readouterr().err
    assert main(["migrate", *arguments]) == 0
    assert main(["check", *arguments]) == 0
    monkeypatch.setenv("CLOUDFLARE_API_TOKEN", "wrong")
    assert main(["check", *arguments]) == 1
    assert "D1:Edit" in capsys.readouterr().err


# -- Files for wrangler


def test_wranglers_files_make_the_schema(url: str, tmp_path: Path) -> None:
    """What wrangler applies is what `migrate` would have made, and the store accepts it."""
    files = write_wrangler_files(tmp_path)
    statements = [(sql, ()) for path in files for sql in split(path.read_text("utf-8"))]
    schema = "SELECT name, sql FROM sqlite_master WHERE name LIKE 'workflow%' ORDER BY name"

    async def apply(store: D1Store) -> Any:
        await store._patient.batch(statements)
        await store.check()
        await store.next_due(["w"])
        return await store._patient.batch([(schema, ())])

    async def migrate(store: D1Store) -> Any:
        await store._patient.batch([(f"DROP TABLE workflow_{name}", ()) for name in TABLES])
        await store.migrate()
        return await store._patient.batch([(schema, ())])

    assert run(url, apply) == run(url, migrate)


def test_wranglers_files_are_numbered_after_the_apps(tmp_path: Path) -> None:
    """Files of the app keep their numbers; ours follow, and are written once."""
    (tmp_path / "0007_orders.sql").write_text("CREATE TABLE orders (id TEXT)")
    written = write_wrangler_files(tmp_path)
    assert [path.name for path in written] == [
        f"{8 + n:04}_workflow_{m.name[5:]}.sql" for n, m in enumerate(migrations())
    ]
    assert write_wrangler_files(tmp_path) == []


def test_every_statement_ends_as_wrangler_expects(tmp_path: Path) -> None:
    """No comment or text of a file has a semicolon at a line's end, where wrangler's splitter would cut."""
    for path in write_wrangler_files(tmp_path):
        text = path.read_text("utf-8")
        assert all(not line.rstrip().endswith(";") for line in text.splitlines() if line.lstrip().startswith("--"))
        assert len(re.findall(r";\s*$", text, re.MULTILINE)) == len(split(text))


def test_the_module_runs(tmp_path: Path) -> None:
    """`python -m workflow.store.d1 files FOLDER` writes the files and names them."""
    command = [sys.executable, "-m", "workflow.store.d1", "files", str(tmp_path / "migrations")]
    first = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "0001_workflow_initial.sql" in first
    assert "has all migrations" in subprocess.run(command, capture_output=True, text=True, check=True).stdout
