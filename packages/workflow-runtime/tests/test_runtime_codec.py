"""Payloads that the store can't read, and those that nobody can."""

from __future__ import annotations

import base64
import sqlite3
import zlib
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from workflow.core import Context, PayloadError, Retry, create_workflow, middleware
from workflow.core.records import RunRecord
from workflow.runtime import MemoryStore, WorkflowRuntime
from workflow.runtime.testing import all_runs, skip_time

from .runtime_kit import DAY, MINUTE, START, Order, Receipt, World, asynchronous

SECRET = "the-secret-word"


class Scrambler:
    """Stands for encryption: what it makes is unreadable, and it notices damage and other keys."""

    def __init__(self, key: str = "k") -> None:
        self.key = key

    def encode(self, text: str) -> str:
        return self.key + base64.b85encode(zlib.compress(text.encode())).decode()

    def decode(self, text: str) -> str:
        if not text.startswith(self.key):
            raise ValueError("another key")
        return zlib.decompress(base64.b85decode(text[1:])).decode()


def everything(store: MemoryStore) -> str:
    """All that the store holds, as text."""
    parts: list[Any] = []
    for run in store._runs.values():
        parts += [run.record(), run.log, run.inbox, run.delivered]
    return repr(parts)


@middleware
async def telling(ctx: Context[Any], call_next: Callable[..., Any]) -> Any:
    raise ConnectionError(f"no database for {SECRET}")


def secretive(world: World) -> Any:
    @create_workflow(id="secretive", default_retry=Retry(max_attempts=2, initial_delay=3600))
    async def secret(ctx: Context[str, dict[str, str]]) -> str:
        ctx.state["word"] = ctx.input
        ctx.state["word"] = await ctx.step("echo", world.app.work, ctx.input)
        try:
            await ctx.step("break", world.app.fail, ctx.input)
        except Exception:
            pass
        said = await ctx.wait_for_event("word", str)
        decision = await ctx.approve("Well?", id="well")
        await ctx.sleep(60)
        return said + str(decision.feedback)

    @create_workflow(id="spoiled", middleware=[telling])
    async def spoiled(ctx: Context[None]) -> None: ...

    return [secret, spoiled]


async def play(runtime: WorkflowRuntime, world: World, look: Callable[[], None]) -> Any:
    """A run that has every kind of payload; `look` is called between its parts."""
    await runtime.start_run("secretive", run_id="r", input=SECRET)
    look()
    await runtime.deliver_signal(run_id="r", signal_id="s", name="word", payload=SECRET)
    look()
    await skip_time(runtime, world.clock)
    await runtime.deliver_approval(run_id="r", approval_id="well", approved=True, feedback=SECRET)
    look()
    await runtime.start_run("fail", run_id="f", input=SECRET)
    await runtime.start_run("book", run_id="b")
    await runtime.cancel_run("b", reason=SECRET, drive=False)
    await runtime.start_run("spoiled", run_id="m")
    look()
    await runtime.sweep()
    world.clock.advance(DAY)
    await runtime.sweep()
    look()


@asynchronous
async def test_no_payload_is_readable_in_the_store() -> None:
    """Inputs, outputs, results, errors, signals, decisions, reasons, states: the store has none of them in clear."""
    store = MemoryStore()
    world = World(store)
    runtime = world.runtime(codec=Scrambler(), workflows=[*world.app.workflows, *secretive(world)])

    def look() -> None:
        assert SECRET not in everything(store)

    await play(runtime, world, look)
    run = await runtime.get_run("r")
    assert run is not None
    assert (run.input, run.output, run.state) == (SECRET, SECRET * 2, {"word": SECRET})
    failed, spoiled = await runtime.get_run("f"), await runtime.get_run("m")
    assert failed is not None and failed.error is not None and SECRET in failed.error.message
    assert spoiled is not None and SECRET in str(spoiled.waits[0].detail)
    events: Any = await runtime.get_timeline("b")
    assert [event.reason for event in events if event.type == "CANCEL_REQUESTED"] == [SECRET]
    await world.check()


@asynchronous
async def test_nothing_of_a_payload_is_in_the_file(tmp_path: Path) -> None:
    """The same for a file of SQLite's: not one byte of it is in clear."""
    sqlite = pytest.importorskip("workflow.store.sqlite")
    world = World(sqlite.SQLiteStore(tmp_path / "w.db", synchronous="NORMAL"))
    runtime = world.runtime(codec=Scrambler(), workflows=[*world.app.workflows, *secretive(world)])
    await play(runtime, world, lambda: None)
    await runtime.close()
    held = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert b"secretive" in held
    assert SECRET.encode() not in held


@asynchronous
async def test_transactions_go_through_a_codec(tmp_path: Path) -> None:
    """Results of database steps, and inputs and payloads written within the app's transaction, are encoded as well."""
    sqlite = pytest.importorskip("workflow.store.sqlite")
    path = tmp_path / "w.db"

    def tell(connection: Any, word: str) -> str:
        connection.execute("CREATE TABLE IF NOT EXISTS told (n)")
        return word

    @create_workflow(id="tell")
    async def telling(ctx: Context[str]) -> list[str]:
        said = await ctx.transaction("tell", tell, ctx.input)
        return [said, await ctx.wait_for_event("more", str), await ctx.transaction("again", tell, ctx.input)]

    runtime = World(sqlite.SQLiteStore(path)).runtime(codec=Scrambler(), workflows=[telling])
    await runtime.migrate()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        started = await runtime.start_run(telling, run_id="r", input=SECRET, connection=connection)
        more: dict[str, Any] = {"run_id": "r", "signal_id": "s", "name": "more", "payload": SECRET}
        assert (await runtime.deliver_signal(**more, connection=connection)).kind == "buffered"
        connection.commit()
    assert started.run is not None
    assert started.run.input == SECRET
    (done,) = (await runtime.sweep()).ready
    assert done.output == [SECRET] * 3
    await runtime.close()
    held = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert b"telling" in held or b"tell" in held
    assert SECRET.encode() not in held


@asynchronous
async def test_everything_works_through_a_codec() -> None:
    """A whole life with a codec gives what it gives without: results, duplicates, lists, streams."""
    world = World()
    runtime = world.runtime(codec=Scrambler())
    started = await runtime.start_run("pay", run_id="r", input=Order(order_id="o"))
    assert started.run == await runtime.get_run("r")
    assert not (await runtime.start_run("pay", run_id="r", input=Order(order_id="p"))).created
    paid: dict[str, Any] = {"run_id": "r", "signal_id": "s", "name": "paid", "payload": "card"}
    result = await runtime.deliver_signal(**paid)
    assert result.output == Receipt(order_id="o", payment="card")
    assert (await runtime.deliver_signal(**paid)).kind == "duplicate"
    assert [run.input for run in (await runtime.list_runs()).runs] == [Order(order_id="o")]
    events: Any = [event async for event in runtime.stream("r")]
    assert events == list(await runtime.get_timeline("r"))
    assert events[-1].output.value == {"order_id": "o", "payment": "card"}
    await runtime.start_run("retry", run_id="t", input=3600.0)
    await skip_time(runtime, world.clock)
    assert [run.output for run in (await runtime.list_runs(workflow_id="retry")).runs] == ["lucky"]


async def make_unreadable(world: World) -> WorkflowRuntime:
    """Two queued runs and a paused one, of which one queued one and the paused one were written with another key."""
    other = world.runtime(codec=Scrambler("x"))
    await other.start_run("greet", run_id="bad", input="Ann", drive=False)
    await other.start_run("pay", run_id="waits", input=Order(order_id="o"))
    runtime = world.runtime(codec=Scrambler())
    await runtime.start_run("greet", run_id="good", input="Ann", drive=False)
    return runtime


@asynchronous
async def test_a_run_that_cannot_be_decoded_never_stops_the_others() -> None:
    """It is put back, with the reason, and not recovered again and again; with the right key it goes on."""
    world = World()
    runtime = await make_unreadable(world)
    swept = await runtime.sweep()
    assert {result.run_id: result.kind for result in swept.ready} == {"good": "completed"}
    await world.check()
    row = await world.store.get_run("bad")
    assert row is not None
    assert (row.status, row.due_at, row.recoveries) == ("paused", START + MINUTE, 0)
    for _ in range(15):
        world.clock.advance(2 * MINUTE)
        await runtime.sweep()
    assert (await world.runtime(codec=Scrambler("x")).sweep(now=world.clock.now() + DAY)).summary.timers == {
        "completed": 1
    }


@asynchronous
async def test_a_run_that_cannot_be_decoded_says_so() -> None:
    """Lists show it with the reason as its error; its log is an error; a signal for it is taken all the same."""
    world = World()
    runtime = await make_unreadable(world)
    shown = {run.run_id: run for run in (await runtime.list_runs()).runs}
    error = shown["bad"].error
    assert error is not None
    assert (error.code, "The codec can't decode a payload of run 'bad'" in error.message) == ("store", True)
    assert shown["good"].error is None
    with pytest.raises(Exception, match="can't decode"):
        await runtime.get_timeline("waits")
    result = await runtime.deliver_signal(run_id="waits", signal_id="s", name="paid", payload="card")
    assert (result.kind, result.run and result.run.status) == ("paused", "paused")
    await world.check()
    unread: list[RunRecord] = [row async for row in all_runs(world.store) if row.run_id == "waits"]
    assert [(row.status, row.mail_count) for row in unread] == [("paused", 1)]


class Swelling(Scrambler):
    def encode(self, text: str) -> str:
        return super().encode(text) + " " * (16 * 1024 * 1024)


@asynchronous
async def test_what_a_codec_makes_too_large_is_refused() -> None:
    """A payload that does not fit once it is encoded is refused before anything is written."""
    world = World()
    with pytest.raises(PayloadError, match="The input of run 'r', encoded, has"):
        await world.runtime(codec=Swelling()).start_run("greet", run_id="r", input="Ann")
    assert await world.store.get_run("r") is None


class Broken(Scrambler):
    def encode(self, text: str) -> str:
        raise RuntimeError("no key today")


@asynchronous
async def test_a_codec_that_fails_writes_nothing() -> None:
    """Where nothing can be encoded, nothing is written, and the caller hears of it."""
    world = World()
    with pytest.raises(RuntimeError, match="no key today"):
        await world.runtime(codec=Broken()).start_run("greet", run_id="r", input="Ann")
    assert await world.store.get_run("r") is None


@asynchronous
async def test_a_runtime_without_the_codec_says_what_it_lacks() -> None:
    """Who looks at encoded runs without their codec is told which run it is, and what is missing."""
    world = World()
    await world.runtime(codec=Scrambler()).start_run("ask", run_id="r")
    runtime = world.runtime()
    with pytest.raises(PayloadError, match=r"The stored input of run 'r' .* codec"):
        await runtime.get_run("r")
    with pytest.raises(PayloadError, match="run 'r'"):
        await runtime.list_runs()
