"""Mail that a retry delivers again: in the order in which it was sent, and in time if it was in time."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from workflow.core import EventTimeoutError, create_workflow
from workflow.core.context import Context
from workflow.runtime import MemoryStore, WorkflowRuntime
from workflow.runtime.codec import Codec
from workflow.store.sqlite import SQLiteStore

from .runtime_kit import DAY, MINUTE, START, World, asynchronous


class Reader:
    """A workflow that reads three letters, with a step before them and one, which may fail, after each."""

    def __init__(self) -> None:
        self.broken: set[str] = set()
        self.workflow = create_workflow(id="read")(self.handle)

    async def work(self, name: str) -> None:
        if name in self.broken:
            raise ValueError(f"{name} is broken")

    async def handle(self, ctx: Context[None]) -> list[str]:
        await ctx.step("begin", self.work, "begin")
        letters: list[str] = []
        for number in range(3):
            try:
                letters.append(await ctx.wait_for_event("letter", str, deadline=START + MINUTE))
            except EventTimeoutError:
                letters.append("too late")
            await ctx.step(f"after-{number}", self.work, f"after-{number}")
        return letters


async def send(runtime: WorkflowRuntime, *letters: str, drive: bool = False) -> None:
    for letter in letters:
        await runtime.deliver_signal(run_id="r", signal_id=letter, name="letter", payload=letter, drive=drive)


class Reversed:
    """A codec."""

    def encode(self, text: str) -> str:
        return text[::-1]

    decode = encode


@pytest.mark.parametrize("codec", [None, Reversed()])
@pytest.mark.parametrize("store", ["memory", "sqlite"])
@asynchronous
async def test_mail_that_is_delivered_again_comes_before_what_was_never_read(
    store: str, codec: Codec | None, tmp_path: Any
) -> None:
    """What was received before the retry was sent before: the handler gets it in that order again."""
    reader = Reader()
    world = World(MemoryStore() if store == "memory" else SQLiteStore(tmp_path / "w.db"))
    await world.store.migrate()
    async with world.runtime(workflows=[reader.workflow], codec=codec) as runtime:
        reader.broken = {"after-1"}
        await runtime.start_run("read", run_id="r")
        await send(runtime, "1", "2", "3")
        assert (await runtime.sweep()).summary.ready == {"errored": 1}
        reader.broken.clear()
        result = await runtime.retry_run("r", from_step="begin")
        assert (result.kind, result.output) == ("completed", ["1", "2", "3"])


@asynchronous
async def test_the_order_outlives_several_retries() -> None:
    """Also where one letter was delivered again once more than another."""
    reader, world = Reader(), World()
    runtime = world.runtime(workflows=[reader.workflow])
    reader.broken = {"after-1"}
    await runtime.start_run("read", run_id="r")
    await send(runtime, "1", "2", "3")
    await runtime.sweep()
    reader.broken = {"after-0"}
    assert (await runtime.retry_run("r", from_step="begin")).kind == "errored"
    reader.broken.clear()
    result = await runtime.retry_run("r", from_step="begin")
    assert result.output == ["1", "2", "3"]
    await world.check()


@asynchronous
async def test_what_was_in_time_is_in_time_again() -> None:
    """A letter that beat a deadline beats it again, however much later the retry comes; one that didn't does not."""
    reader, world = Reader(), World()
    runtime = world.runtime(workflows=[reader.workflow])
    await runtime.start_run("read", run_id="r")
    await send(runtime, "1", drive=True)
    world.clock.advance(timedelta(minutes=2))
    reader.broken = {"after-2"}
    await send(runtime, "2")
    assert (await runtime.sweep()).summary.total == 1
    failed = await runtime.get_run("r")
    assert failed is not None and failed.status == "errored"
    reader.broken.clear()
    world.clock.advance(DAY)
    result = await runtime.retry_run("r", from_step="begin")
    assert result.output == ["1", "too late", "too late"]
