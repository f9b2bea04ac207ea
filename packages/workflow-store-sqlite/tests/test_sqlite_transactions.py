"""Database steps and the app's own transactions on one file."""

from __future__ import annotations

import asyncio
import contextvars
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Coroutine
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from workflow.core import (
    Context,
    HandlerError,
    InvalidArgumentError,
    StepError,
    StoreError,
    create_workflow,
    current_step,
)
from workflow.runtime import WorkflowRuntime
from workflow.store.sqlite import SQLiteStore

Handler = Callable[[Context[Any]], Coroutine[Any, Any, Any]]


def pay(connection: sqlite3.Connection, note: str) -> str:
    connection.execute("INSERT INTO notes VALUES (?)", (note,))
    return note


def make_notes(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE notes (note TEXT UNIQUE)")


def notes(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as connection:
        return [note for (note,) in connection.execute("SELECT note FROM notes ORDER BY rowid")]


def output_of(path: Path, handler: Handler) -> Any:
    """Run it once, to its end, on a file with a table of notes."""
    make_notes(path)

    async def main() -> Any:
        async with WorkflowRuntime(SQLiteStore(path), [workflow := create_workflow(id="bank")(handler)]) as runtime:
            result = await runtime.start_run(workflow, run_id="r")
            assert result.kind == "completed", result
            assert result.run is not None
            return result.run.output

    return asyncio.run(main())


async def message_of(ctx: Context[Any], fn: Callable[[Any], Any], error: type[BaseException]) -> str:
    """What the step says that must fail with this error."""
    try:
        await ctx.transaction(fn.__name__, fn)
    except StepError as failure:
        return f"{failure.is_type(error)}: {failure.message}"
    return "it did not fail"


def test_what_a_function_must_not_do(tmp_path: Path) -> None:
    """A function that ends the transaction, by whatever means, fails and leaves nothing; so does an `async def`."""

    def commits(connection: sqlite3.Connection) -> None:
        pay(connection, "committed")
        connection.commit()

    def says_commit(connection: sqlite3.Connection) -> None:
        pay(connection, "said commit")
        connection.execute("COMMIT")

    def runs_a_script(connection: sqlite3.Connection) -> None:
        pay(connection, "a script")
        connection.executescript("SELECT 1")

    def rolls_back(connection: sqlite3.Connection) -> None:
        pay(connection, "rolled back")
        connection.rollback()

    def swallows(connection: sqlite3.Connection) -> None:
        pay(connection, "swallowed")
        try:
            connection.execute("ROLLBACK")
        except sqlite3.Error:
            pass

    async def awaits(connection: sqlite3.Connection) -> None: ...

    async def w(ctx: Context[Any]) -> list[str]:
        ends = [commits, says_commit, runs_a_script, rolls_back]
        found = [await message_of(ctx, fn, HandlerError) for fn in ends]
        await ctx.transaction("swallows", swallows)
        return [*found, await message_of(ctx, awaits, InvalidArgumentError)]

    *ends, last = output_of(tmp_path / "w.db", w)
    assert {end[:60] for end in ends} == {"True: The function of a ctx.transaction() must not begin, commi"[:60]}
    assert last.startswith("True: SQLiteStore calls the function")
    assert notes(tmp_path / "w.db") == ["swallowed"]


def test_errors_of_the_function_come_out_as_they_are(tmp_path: Path) -> None:
    """A violated constraint, a locked table of another file or a bug are the step's failure, with their own class."""

    def violates(connection: sqlite3.Connection) -> None:
        pay(connection, "twice")
        pay(connection, "twice")

    def exits(connection: sqlite3.Connection) -> None:
        sys.exit(3)

    async def w(ctx: Context[Any]) -> list[str]:
        first = await message_of(ctx, violates, sqlite3.IntegrityError)
        second = await message_of(ctx, exits, RuntimeError)
        await ctx.transaction("pay", pay, "after")
        return [first, second]

    first, second = output_of(tmp_path / "w.db", w)
    assert first == "True: UNIQUE constraint failed: notes.note"
    assert second.startswith("True: The function raised SystemExit(3)")
    assert notes(tmp_path / "w.db") == ["after"]


def test_a_constraint_that_is_checked_at_the_end_fails_the_step(tmp_path: Path) -> None:
    """A deferred foreign key is refused by COMMIT: that is the step's failure, too."""
    path = tmp_path / "w.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE a (id INTEGER PRIMARY KEY)")
        connection.execute("CREATE TABLE b (a REFERENCES a DEFERRABLE INITIALLY DEFERRED)")

    def orphan(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO b VALUES (1)")

    async def w(ctx: Context[Any]) -> str:
        return await message_of(ctx, orphan, sqlite3.IntegrityError)

    store = SQLiteStore(path)

    async def main() -> str:
        await store.migrate()
        await store._file.batch([("SELECT 1", ())])
        connection = store._file._writer._connection  # type: ignore[attr-defined]
        assert connection is not None
        connection.execute("PRAGMA foreign_keys = ON")
        async with WorkflowRuntime(store, [workflow := create_workflow(id="bank")(w)]) as runtime:
            result = await runtime.start_run(workflow)
            assert result.run is not None
            return str(result.run.output)

    assert asyncio.run(main()) == "True: FOREIGN KEY constraint failed"


def test_the_function_sees_its_step(tmp_path: Path) -> None:
    """On the writing thread the function has `current_step()` and the context variables of the handler."""
    user: contextvars.ContextVar[str] = contextvars.ContextVar("user")

    def look(connection: sqlite3.Connection) -> list[str]:
        connection.row_factory = sqlite3.Row
        return [current_step().idempotency_key, user.get(), threading.current_thread().name]

    async def w(ctx: Context[Any]) -> list[str]:
        user.set("ann")
        await ctx.transaction("first", look)
        return await ctx.transaction("look", look)

    assert output_of(tmp_path / "w.db", w) == ["r:look", "ann", "workflow-sqlite-writer"]


def test_transactions_among_other_work(tmp_path: Path) -> None:
    """Transactions of many runs, with steps, signals and starts among them on the same file, all happen once."""
    path = tmp_path / "w.db"
    make_notes(path)

    async def echo(value: str) -> str:
        return value

    @create_workflow(id="w")
    async def w(ctx: Context[str]) -> list[str]:
        ends = await asyncio.gather(
            ctx.transaction("a", pay, f"{ctx.input}-a"),
            ctx.step("s", echo, ctx.input),
            ctx.transaction("b", pay, f"{ctx.input}-b"),
            ctx.wait_for_event("go", str),
        )
        return list(ends)

    async def main() -> None:
        async with WorkflowRuntime(SQLiteStore(path, synchronous="OFF"), [w]) as runtime:

            async def one(name: str) -> Any:
                await asyncio.gather(
                    runtime.start_run(w, run_id=name, input=name),
                    runtime.start_run(w, run_id=f"{name}-later", input="x", drive=False),
                )
                result = await runtime.deliver_signal(run_id=name, signal_id="s", name="go", payload=name)
                assert result.run is not None
                return result.run.output

            names = [f"r{number}" for number in range(25)]
            outputs = await asyncio.gather(*map(one, names))
            assert outputs == [[f"{name}-a", name, f"{name}-b", name] for name in names]
            assert sorted(notes(path)) == sorted(f"{name}-{branch}" for name in names for branch in "ab")

    asyncio.run(main())


def test_order_and_workflow_in_one_transaction(tmp_path: Path) -> None:
    """The app's order and its run are committed together, and a worker ships it; after a rollback there is neither."""
    path = tmp_path / "shop.db"

    @create_workflow(id="ship")
    async def ship(ctx: Context[str]) -> str:
        return f"shipped {ctx.input}"

    async def main() -> None:
        async with WorkflowRuntime(SQLiteStore(path), [ship]) as runtime:
            await runtime.migrate()
            make_notes(path)
            with closing(sqlite3.connect(path)) as app:
                for end in (app.rollback, app.commit):
                    app.execute("INSERT INTO notes VALUES ('order')")  # which begins a transaction
                    result = await runtime.start_run(ship, run_id="r", input="shoes", connection=app)
                    assert (result.kind, result.created) == ("queued", True)
                    end()
                    assert (await runtime.get_run("r") is None) == (not notes(path))
            assert [result.kind for result in (await runtime.sweep()).ready] == ["completed"]

    asyncio.run(main())


def test_connections_that_will_not_do(tmp_path: Path) -> None:
    """Another file, a file without the store's schema, and a store in memory are refused with the reason."""
    path = tmp_path / "w.db"

    @create_workflow(id="w")
    async def w(ctx: Context[None]) -> None: ...

    async def refused(store: SQLiteStore, connection: sqlite3.Connection, match: str) -> None:
        runtime = WorkflowRuntime(store, [w])
        connection.execute("BEGIN IMMEDIATE")
        with pytest.raises((InvalidArgumentError, StoreError), match=match):
            await runtime.start_run(w, connection=connection)
        connection.rollback()
        await runtime.close()

    async def main() -> None:
        with closing(sqlite3.connect(path)) as connection, closing(sqlite3.connect(tmp_path / "b.db")) as other:
            await refused(SQLiteStore(path), connection, "call `await store.migrate")
            await refused(SQLiteStore(path), other, "no transaction can hold both")
            await refused(SQLiteStore(":memory:"), connection, "needs a file")
            connection.text_factory = bytes
            await refused(SQLiteStore(path), connection, "text_factory")

    asyncio.run(main())


KILLED = """
import asyncio, os, signal, sys
from workflow.core import Context, create_workflow
from workflow.runtime import WorkflowRuntime
from workflow.store.sqlite import SQLiteStore, lanes

path, when = sys.argv[1:]

def pay(connection, note: str) -> str:
    connection.execute("INSERT INTO notes VALUES (?)", (note,))
    return note

finish = lanes._finish

def dies_after(jobs):
    if any(job.alone for job in jobs):
        os.kill(os.getpid(), signal.SIGKILL)
    finish(jobs)

@create_workflow(id="bank")
async def bank(ctx: Context):
    await ctx.transaction("pay", pay, "paid")

async def main():
    from workflow.store.sqlite.transacting import StepJob
    if when == "after":
        lanes._answer.__globals__["_finish"] = dies_after
    else:
        run = StepJob.run
        StepJob.run = lambda job, connection: (run(job, connection), os.kill(os.getpid(), signal.SIGKILL))
    runtime = WorkflowRuntime(SQLiteStore(path), [bank])
    await runtime.start_run(bank, run_id="r")

asyncio.run(main())
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_process_that_is_killed_around_its_commit(tmp_path: Path, when: str) -> None:
    """A real process dies before or after COMMIT: the app's row and the step's record are both there, or neither is."""
    path, script = tmp_path / "w.db", tmp_path / "killed.py"
    make_notes(path)
    script.write_text(KILLED)
    done = subprocess.run([sys.executable, str(script), str(path), when], capture_output=True, text=True, timeout=60)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert notes(path) == (["paid"] if when == "after" else [])

    @create_workflow(id="bank")
    async def bank(ctx: Context[None]) -> None:
        await ctx.transaction("pay", pay, "paid")

    async def main() -> None:
        store = SQLiteStore(path)
        async with WorkflowRuntime(store, [bank]) as runtime:
            assert len(await store.read_log("r")) == (when == "after")
            run = await runtime.get_run("r")
            assert run is not None
            assert run.due_at is not None
            assert [result.kind for result in (await runtime.sweep(now=run.due_at)).recovered] == ["completed"]

    asyncio.run(main())
    assert notes(path) == ["paid"]
