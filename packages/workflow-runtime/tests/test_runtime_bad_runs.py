"""Bad runs, bad middleware, bad connections: what goes wrong with one run is that run's, and a sweep goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from workflow.core import Context, MiddlewareError, create_workflow, middleware
from workflow.runtime.testing import CrashingStore, CrashPoint, LostConnection

from .runtime_kit import MINUTE, App, World, asynchronous


async def make_queued(world: World, count: int) -> None:
    runtime = world.runtime()
    for number in range(count):
        await runtime.start_run("greet", run_id=f"q{number}", input="Ann", drive=False)


@middleware
async def breaking(ctx: Context[Any], call_next: Callable[..., Any]) -> Any:
    raise ConnectionError("no database today")


@middleware
async def stray_cancellation(ctx: Context[Any], call_next: Callable[..., Any]) -> Any:
    raise asyncio.CancelledError


def bad_workflows(app: App) -> list[Any]:
    @create_workflow(id="bad-middleware", middleware=[breaking])
    async def bad_middleware(ctx: Context[None]) -> None: ...

    @create_workflow(id="stray", middleware=[stray_cancellation])
    async def stray(ctx: Context[None]) -> None: ...

    @create_workflow(id="spins")
    async def spins(ctx: Context[None]) -> None:
        await asyncio.get_running_loop().create_future()

    @create_workflow(id="raises")
    async def raises(ctx: Context[None]) -> None:
        raise KeyError("oops")

    @create_workflow(id="bad-output")
    async def bad_output(ctx: Context[None]) -> int:
        return "no number"  # type: ignore[return-value]

    return [bad_middleware, stray, spins, raises, bad_output]


@asynchronous
async def test_a_bad_run_never_stops_the_others() -> None:
    """Whatever goes wrong with one run is that run's result; the good ones are driven to their end."""
    world = World()
    bad = bad_workflows(world.app)
    runtime = world.runtime(workflows=[*world.app.workflows, *bad], concurrency=2)
    for workflow in bad:
        await runtime.start_run(workflow, run_id=workflow.id, drive=False)
    await make_queued(world, 5)
    swept = await runtime.sweep()
    kinds = {result.run_id: result.kind for result in swept.ready}
    assert [kinds[f"q{number}"] for number in range(5)] == ["completed"] * 5
    assert [kinds[id] for id in ("spins", "raises", "bad-output")] == ["errored"] * 3
    assert kinds["bad-middleware"] == "paused"
    await world.check()


@asynchronous
async def test_a_middleware_that_fails_is_tried_again_later() -> None:
    """A run whose middleware has failed waits a minute; it is tried again as often as `max_recoveries` says."""
    world = World()
    runtime = world.runtime(workflows=bad_workflows(world.app)[:1], max_recoveries=2)
    kinds = [(await runtime.start_run("bad-middleware", run_id="r")).kind]
    for _ in range(2):
        world.clock.advance(MINUTE)
        kinds += [result.kind for result in (await runtime.sweep()).timers]
    assert kinds == ["paused", "paused", "errored"]


@asynchronous
async def test_a_broken_contract_of_middleware_is_final() -> None:
    """A middleware that is written wrongly ends its run: no later attempt could succeed."""

    @middleware
    async def forgets(ctx: Context[Any], call_next: Callable[..., Any]) -> Any:
        return None

    @create_workflow(id="forgotten", middleware=[forgets])
    async def forgotten(ctx: Context[None]) -> None: ...

    result = await World().runtime(workflows=[forgotten]).start_run("forgotten")
    assert result.kind == "errored"
    assert isinstance(result.exception, MiddlewareError)


@asynchronous
async def test_a_store_that_fails_for_one_run_fails_only_that_run() -> None:
    """A commit that the store refuses for reasons of its own leaves one run leased, and the others go on."""
    world = World()
    await make_queued(world, 3)
    failing = CrashingStore(world.store, CrashPoint("commit", 2, "before", fatal=False))
    swept = await world.runtime(failing, concurrency=1).sweep()
    assert swept.summary.ready == {"completed": 2, "running": 1}
    (left,) = [result for result in swept.ready if result.kind == "running"]
    assert left.error is not None and left.error.type == "LostConnection"
    await world.check()
    world.clock.advance(31)
    assert (await world.runtime().sweep()).summary.recovered == {"completed": 1}


@asynchronous
async def test_a_store_that_cannot_claim_is_an_error() -> None:
    """What the store raises when nothing can be claimed reaches the caller, after what was claimed is done."""
    world = World()
    await make_queued(world, 2)
    failing = CrashingStore(world.store, CrashPoint("claim_due", 3, "before", fatal=False))
    with pytest.raises(LostConnection):
        await world.runtime(failing, concurrency=1).sweep()
    assert len(world.app.journal) == 1
    assert (await world.runtime().sweep()).summary.ready == {"completed": 1}
