"""A host that runs out of something else than time winds its runtime down."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from workflow.core import Context, create_workflow
from workflow.runtime import WorkflowRuntime
from workflow.runtime.memory import MemoryStore
from workflow.runtime.testing import TestClock

DONE: list[str] = []


@create_workflow(id="count")
async def count(ctx: Context[int]) -> int:
    for number in range(ctx.input):
        await ctx.step(f"step-{number}", one_more, f"{ctx.run_id}/{number}")
    return ctx.input


async def one_more(what: str) -> None:
    DONE.append(what)
    if what == "a/2":
        WIND_DOWN[0].wind_down()
        await asyncio.sleep(0)
        DONE.append(f"{what} went on")


WIND_DOWN: list[WorkflowRuntime] = []


@pytest.fixture(autouse=True)
def _fresh() -> None:
    DONE.clear()
    WIND_DOWN.clear()


def runtime_on(store: MemoryStore, clock: TestClock) -> WorkflowRuntime:
    runtime = WorkflowRuntime(store, [count], clock=clock, concurrency=1)
    WIND_DOWN[:] = [runtime]
    return runtime


@pytest.mark.parametrize("max_duration", [None, 50.0])
def test_a_drive_yields_and_goes_on_elsewhere(max_duration: float | None) -> None:
    """The step under way ends, no other begins, and another process goes on where it stopped: once for each step."""

    async def run() -> None:
        store, clock = MemoryStore(), TestClock()
        first = runtime_on(store, clock)
        result = await first.start_run(count, run_id="a", input=5, max_duration=max_duration)
        assert result.kind == "queued"
        assert DONE == ["a/0", "a/1", "a/2", "a/2 went on"]
        assert (await runtime_on(store, clock).sweep()).summary.ready == {"completed": 1}
        assert DONE[4:] == ["a/3", "a/4"]

    asyncio.run(run())


def test_a_sweep_claims_no_more() -> None:
    """A sweep of a runtime that is winding down ends early, and says that there may be more to do."""

    async def run() -> None:
        store, clock = MemoryStore(), TestClock()
        runtime = runtime_on(store, clock)
        for run_id in ("a", "b", "c"):
            await runtime.start_run(count, run_id=run_id, input=3, drive=False)
            clock.advance(timedelta(seconds=1))
        swept = await runtime.sweep(max_duration=50)
        assert swept.remaining_may_exist
        assert {name.split("/")[0] for name in DONE} == {"a"}
        assert (await runtime_on(store, clock).sweep()).summary.ready["completed"] >= 2

    asyncio.run(run())
