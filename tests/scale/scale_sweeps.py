"""Sweeps over more than they have time for."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime

from workflow.core import Context, create_workflow
from workflow.core.records import NewRun
from workflow.runtime import ExecutionStore, RunFilter, SweepResult, WorkflowRuntime

from .scale_crew import in_batches

DURATION = 2.0


@create_workflow(id="small")
async def small(ctx: Context[int]) -> int:
    return ctx.input + 1


async def sweep_in_time(store: ExecutionStore, *, runs: int, seconds: float) -> None:
    """One sweep has two seconds for thousands of due runs; the next ones go on until nothing is left."""
    await store.migrate()
    async with WorkflowRuntime(store, [small], telemetry=False) as runtime, asyncio.timeout(seconds):
        now = datetime.now(UTC)
        new = (NewRun(f"run-{number}", "small", None, str(number), now) for number in range(runs))
        await in_batches((store.create_run(one, lease=None, now=now) for one in new), 500)
        began = time.monotonic()
        first = await runtime.sweep(max_ready=2 * runs, max_duration=DURATION)
        took = time.monotonic() - began
        assert took < DURATION + 0.5, f"it took {took:.2f} s"
        assert 0 < done(first) < runs, "the sweep must be cut short for this test to mean something"
        assert (first.deadline_reached, first.remaining_may_exist) == (True, True)
        assert await ended(store, runs) == done(first)
        total = done(first)
        while total < runs:
            again = await runtime.sweep(max_ready=2 * runs, max_duration=60 * DURATION)
            assert done(again) > 0
            total += done(again)
        last = await runtime.sweep(max_ready=2 * runs, max_duration=60 * DURATION)
        assert (done(last), last.deadline_reached, last.remaining_may_exist) == (0, False, False)
        assert (total, await ended(store, runs)) == (runs, runs)
    await store.close()


def done(sweep: SweepResult) -> int:
    assert {result.kind for result in sweep.ready} <= {"completed"}
    return len(sweep.ready)


async def ended(store: ExecutionStore, runs: int) -> int:
    """How many runs have completed, each with its own output; the others have not been touched."""
    rows = await store.list_runs(RunFilter(limit=runs + 1))
    assert len(rows) == runs
    completed = [row for row in rows if row.status == "completed"]
    assert all(row.output == str(int(row.input) + 1) for row in completed)
    assert {(row.status, row.fence) for row in rows} <= {("completed", 1), ("queued", 0)}
    return len(completed)
