"""The schema: made once however many do it, never by a request, under any name, and out of Alembic's sight."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from collections.abc import Callable, Sequence

import asyncpg
import pytest

from workflow.core.errors import InvalidArgumentError, StoreError
from workflow.core.records import ClaimedRun, Commit, NewMail, NewRun, Transition, Wait
from workflow.runtime.contract import ClaimLimits
from workflow.runtime.testing.suite.samples import at, create, lease, row, start
from workflow.store.postgres import PostgresStore, StoreUnavailableError, alembic_include_name, migrations
from workflow.store.postgres.__main__ import main
from workflow.store.postgres.alembic import TABLES
from workflow.store.postgres.statements import Statements

HOSTILE = [
    "a b",
    'quote"d',
    "'; DROP SCHEMA public CASCADE; --",
    "$1",
    ':"schema"',
    "%s %(x)s {0}",
    "Größe_日本",
    "SELECT",
    "back\\slash",
    "x" * 63,
]


def _plain(url: str) -> str:
    return url.replace("+asyncpg", "")


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
@pytest.mark.parametrize("name", HOSTILE)
def test_any_schema_name(postgres_url: str, new_schema: Callable[[], str], name: str, driver: str):
    """A schema name is a name, whatever it looks like: the tables are in the schema of exactly that name."""
    schema = name if len(name) == 63 else f"{name}{new_schema()}"

    async def use() -> None:
        store = PostgresStore(postgres_url.replace("asyncpg", driver), schema=schema)
        await store.migrate()
        await store.check()
        await create(store, "r" + driver)
        assert (await row(store, "r" + driver)).status == "queued"
        await store.close()
        connection = await asyncpg.connect(_plain(postgres_url))
        found = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = $1", schema)
        assert {table[0] for table in found} == TABLES
        await connection.close()

    asyncio.run(use())


@pytest.mark.parametrize("name", ["", "a\0b", "x" * 64, "ü" * 32, "\ud800", "pg_x"])
def test_impossible_schema_names(name: str):
    """A name that Postgres would cut, or can't hold, is refused where the store is made."""
    with pytest.raises(InvalidArgumentError, match="schema name"):
        PostgresStore("postgresql://h/d", schema=name)


@pytest.mark.parametrize("text", ["'; DROP TABLE x; --", '"', "$1", "\\", "%s", "{}", "é日本🎉", " "])
def test_ids_and_names_are_data(postgres_url: str, schema: str, text: str):
    """A hostile run id, workflow id, owner, signal id or name comes back as it went in."""

    async def use() -> None:
        store = PostgresStore(postgres_url, schema=schema)
        await store.migrate()
        owned = lease(text)
        created = await store.create_run(NewRun(text, text, text, text, at(0)), lease=owned, now=at(0))
        assert created.claimed is not None
        wait = Wait("signal", text, text, detail=text, meta={text: text})
        await store.commit(Commit(text, 1, 0, at(1), owned, transition=Transition("paused", None, (wait,))))
        delivered = await store.deliver(text, NewMail("signal", text, text, text), lease=owned, now=at(2))
        assert (delivered.outcome, delivered.awaited) == ("accepted", True)
        assert delivered.claimed is not None
        run, (mail,) = delivered.claimed.run, delivered.claimed.mail
        assert (run.run_id, run.workflow_id, run.workflow_version, run.input, run.owner) == (text,) * 5
        assert (mail.id, mail.name, mail.payload, run.waits) == (text, text, text, (wait,))
        assert [held.run.run_id for held in await _claims(store, text)] == [text]
        await store.close()

    asyncio.run(use())


async def _claims(store: PostgresStore, workflow_id: str) -> Sequence[ClaimedRun]:
    return await store.claim_due([workflow_id], lease("x", 10**6), limits=ClaimLimits.all(5), now=at(10**5))


@pytest.mark.parametrize("bad", ["nul\0", "\ud800"])
def test_ids_that_postgres_cannot_hold(postgres_url: str, schema: str, bad: str):
    """An id with a NUL or a lone surrogate is the caller's error, and nothing is sent."""

    async def use() -> None:
        store = PostgresStore(postgres_url, schema=schema, retry_for=0)
        for attempt in (
            store.get_run(bad),
            store.read_log(bad),
            create(store, bad),
            store.claim_due([bad], lease(), limits=ClaimLimits.all(1), now=at(0)),
        ):
            with pytest.raises(InvalidArgumentError):
                await attempt
        await store.close()

    asyncio.run(use())


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
def test_a_schema_of_the_app(postgres_url: str, schema: str, driver: str):
    """A schema that is there already gets the tables, beside those of the app."""

    async def use() -> None:
        connection = await asyncpg.connect(_plain(postgres_url))
        await connection.execute(f'CREATE SCHEMA "{schema}"; CREATE TABLE "{schema}".orders (id text)')
        await connection.close()
        store = PostgresStore(postgres_url.replace("asyncpg", driver), schema=schema)
        await store.migrate()
        await store.check()
        await store.close()

    asyncio.run(use())


def test_many_first_boots_at_once(postgres_url: str, schema: str):
    """Eight processes that migrate an empty database at the same moment all succeed, and do it once."""

    async def boot() -> None:
        stores = [PostgresStore(postgres_url, schema=schema) for _ in range(8)]
        async with asyncio.TaskGroup() as group:
            for store in stores:
                group.create_task(store.migrate())
        await asyncio.gather(*(store.check() for store in stores))
        applied = await asyncio.gather(*(store.apply_migrations() for store in stores))
        assert not any(applied)
        await asyncio.gather(*(store.close() for store in stores))

    asyncio.run(boot())


def test_a_lock_that_is_held_too_long(postgres_url: str, schema: str):
    """Who waits longer than asked for another migration says so, has changed nothing, and can try again."""

    async def boot() -> None:
        rival = await asyncpg.connect(_plain(postgres_url))
        await rival.execute(f"SELECT pg_advisory_lock({migrations.lock_key(schema)})")
        store = PostgresStore(postgres_url, schema=schema, migration_timeout=0.2)
        with pytest.raises(StoreError, match="Another process has been migrating"):
            await store.migrate()
        await rival.close()
        await store.migrate()
        await store.check()
        await store.close()

    asyncio.run(boot())


def test_a_missing_schema_names_the_command(postgres_url: str, schema: str):
    """Without tables every operation says which command makes them, and makes none by itself."""

    async def use() -> None:
        store = PostgresStore(postgres_url, schema=schema)
        for attempt in (store.check(), store.get_run("r"), start(store), store.next_due(["w"])):
            with pytest.raises(StoreError, match=f"python -m workflow.store.postgres migrate --schema {schema}"):
                await attempt
        await store.migrate()
        assert await store.get_run("r") is None
        await store.close()

    asyncio.run(use())


def test_old_and_new_versions_of_the_schema(postgres_url: str, schema: str):
    """A newer schema is worked on as long as it says so; one that has moved on, or an older one, names what helps."""

    async def use() -> None:
        store = PostgresStore(postgres_url, schema=schema)
        await store.migrate()
        connection = await asyncpg.connect(_plain(postgres_url))
        versions = f"{schema}.workflow_schema"
        insert = f"INSERT INTO {versions} (version, works_from, name) VALUES ($1, $2, 'later')"
        await connection.execute(insert, migrations.LATEST + 1, 1)
        await store.check()
        assert await store.apply_migrations() == []
        await connection.execute(insert, migrations.LATEST + 2, migrations.LATEST + 1)
        with pytest.raises(StoreError, match="pip install -U"):
            await store.check()
        await connection.execute(f"DELETE FROM {versions}")
        with pytest.raises(StoreError, match="migrate --schema"):
            await store.check()
        await connection.close()
        await store.close()

    asyncio.run(use())


def test_files_are_numbered_and_say_so_themselves():
    """Migrations are numbered without a gap, and each enters itself: psql alone leaves what `check` accepts."""
    for number, migration in enumerate(migrations.migrations(), 1):
        assert migration.version == number
        assert re.search(rf"INSERT INTO :\"schema\".workflow_schema .*VALUES \({number}, \d+, '", migration.sql)


def test_the_printed_sql_does_the_same(postgres_url: str, schema: str):
    """What `--sql` prints makes the tables by itself, and a second time it changes nothing."""

    async def use() -> None:
        connection = await asyncpg.connect(_plain(postgres_url))
        await connection.execute(migrations.as_sql(schema))
        store = PostgresStore(postgres_url, schema=schema)
        await store.check()
        await create(store)
        with pytest.raises(asyncpg.DuplicateTableError):
            await connection.execute(migrations.as_sql(schema))
        await connection.execute("ROLLBACK")
        assert (await row(store)).run_id == "r"
        await connection.close()
        await store.close()

    asyncio.run(use())


def test_the_command_line(postgres_url: str, schema: str, capsys: pytest.CaptureFixture[str]):
    """`status` and `migrate` say what is there and what was done, with exit codes for scripts."""
    place = ["--url", _plain(postgres_url), "--schema", schema]
    assert main(["status", *place]) == 1
    assert "There are no workflow tables" in capsys.readouterr().out
    assert main(["migrate", *place]) == 0
    assert "0001 initial: applied" in capsys.readouterr().out
    assert main(["migrate", *place]) == 0
    assert main(["status", *place]) == 0
    assert main(["migrate", "--sql", "--schema", schema]) == 0
    assert f'CREATE TABLE "{schema}".workflow_runs' in capsys.readouterr().out
    assert main(["status", "--url", "mysql://x", "--schema", schema]) == 2
    assert "postgresql+asyncpg" in capsys.readouterr().err


def test_the_command_as_a_process(postgres_url: str, schema: str):
    """Two processes that boot at once run the same command, and both succeed."""
    command = [sys.executable, "-m", "workflow.store.postgres", "migrate", "--url", postgres_url, "--schema", schema]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    outputs = [process.communicate(timeout=60)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert sorted("applied" in output for output in outputs) == [False, True]


def test_alembic_sees_none_of_it():
    """Autogenerate is kept from our tables in our schema, and from nothing else; an app's own filter still counts."""
    include = alembic_include_name(schema="public", then=lambda name, type_, parents: name != "hidden")
    ours, theirs = {"schema_name": None}, {"schema_name": "other"}
    assert not include("workflow_runs", "table", ours)
    assert not include("workflow_runs_due", "index", {**ours, "table_name": "workflow_runs"})
    assert include("workflow_runs", "table", theirs)
    assert include("orders", "table", ours)
    assert not include("hidden", "table", ours)


def test_every_parameter_has_a_type():
    """Each parameter has a cast where it first occurs: drivers differ in what they make of a Python value."""
    for name, sql in Statements("public").texts():
        numbers = {int(number) for number in re.findall(r"\$(\d+)", sql)}
        assert numbers == set(range(1, len(numbers) + 1)), name
        for number in numbers:
            assert re.search(rf"\${number}::", sql), f"${number} of {name}"


def test_a_server_that_is_away_is_named_as_such() -> None:
    """`check` and `migrate` say in an error of ours that the database can't be reached."""

    async def scenario() -> None:
        store = PostgresStore("postgresql+asyncpg://nobody@127.0.0.1:1/nothing")
        try:
            for verb in (store.check, store.migrate):
                with pytest.raises(StoreUnavailableError, match="can't be reached"):
                    await verb()
        finally:
            await store.close()

    asyncio.run(scenario())
