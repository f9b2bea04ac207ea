"""What a step costs, counted and not timed: Python functions that are entered, which no busy machine changes."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
from datetime import timedelta
from typing import Any

import pytest

from workflow.core import Context, InMemoryRunStore, SystemClock, create_workflow
from workflow.core.engine import Drive, DriveEnvironment
from workflow.core.records import Lease, NewRun

CLOCK = SystemClock()


async def work(i: int) -> int:
    return i


@create_workflow(id="w")
async def steps(ctx: Context[int]) -> int:
    total = 0
    for i in range(ctx.input):
        total += await ctx.step(f"step-{i}", work, i)
    await ctx.wait_for_event("go")
    return total


@create_workflow(id="w")
async def branches(ctx: Context[int]) -> int:
    total = sum(await asyncio.gather(*(ctx.step(f"step-{i}", work, i) for i in range(ctx.input))))
    await ctx.wait_for_event("go")
    return total


class Entered:
    """Counts the Python functions that are entered or resumed inside of it."""

    def __enter__(self) -> Entered:
        self.count = 0
        gc.disable()  # others may have callbacks there
        sys.setprofile(self._note)
        return self

    def __exit__(self, *exc: object) -> None:
        sys.setprofile(None)
        gc.enable()

    def _note(self, frame: Any, event: str, arg: Any) -> None:
        self.count += event == "call"


async def _drives(workflow: Any, number: int) -> tuple[int, int]:
    """What a first drive enters, and what one that replays it does."""
    store, lease = InMemoryRunStore(), Lease("me", CLOCK.now() + timedelta(minutes=1))
    new = NewRun("r", "w", None, str(number), CLOCK.now())
    claimed = (await store.create_run(new, lease=lease, now=CLOCK.now())).claimed
    assert claimed is not None
    with Entered() as fresh:
        outcome = await Drive(workflow, claimed, DriveEnvironment(store, "me")).run()
    assert outcome.kind == "paused"
    claimed = await store.claim_run("r", lease, now=CLOCK.now(), force=True)
    assert claimed is not None
    with Entered() as replayed:
        outcome = await Drive(workflow, claimed, DriveEnvironment(store, "me")).run()
    assert outcome.kind == "paused"
    return fresh.count, replayed.count


def calls_per_step(workflow: Any) -> tuple[float, float]:
    async def scenario() -> tuple[float, float]:
        await _drives(workflow, 3)  # what is only done once
        few, many = await _drives(workflow, 10), await _drives(workflow, 60)
        return (many[0] - few[0]) / 50, (many[1] - few[1]) / 50

    before = sys.getprofile()
    try:
        return asyncio.run(scenario())
    finally:
        sys.setprofile(before)


def test_calls_per_step_in_a_row() -> None:
    """A fresh step enters at most 112 functions, the host's event loop and the store included; a replayed one 11."""
    fresh, replayed = calls_per_step(steps)
    assert fresh <= 112
    assert replayed <= 11


def test_calls_per_step_side_by_side() -> None:
    """Steps of branches share commits; their results are given back through the loop, one by one."""
    fresh, replayed = calls_per_step(branches)
    assert fresh <= 80
    assert replayed <= 55


def test_a_drive_leaves_no_work_for_the_garbage_collector() -> None:
    """Nothing of a drive holds itself, but for the task of a paused handler and what it waits for, which asyncio makes
    hold each other: a busy process would spend a sixth of its time on that."""

    async def scenario() -> int:
        await _drives(steps, 3)
        gc.collect()
        gc.disable()
        try:
            await _drives(steps, 3)
            return gc.collect()
        finally:
            gc.enable()

    assert asyncio.run(scenario()) <= 2 * 15


def test_nobody_pays_for_events_that_nobody_looks_at() -> None:
    """Neither import nor drive builds the validators of events, or looks for plugins of pydantic."""
    program = (
        "import asyncio, sys\n"
        "from datetime import timedelta\n"
        "import workflow.core\n"
        "from workflow.core import *\n"
        "from workflow.core.engine import Drive, DriveEnvironment\n"
        "from workflow.core.events import RunFinished, RunStarted, StepFinished, StepStarted\n"
        "from workflow.core.records import Lease, NewRun\n"
        "async def work(i: int) -> int: return i\n"
        "@create_workflow(id='w')\n"
        "async def w(ctx: Context[int]) -> int: return await ctx.step('a', work, ctx.input)\n"
        "seen = []\n"
        "async def publish(events): seen.append(len(events))\n"
        "async def main():\n"
        "    store, now = InMemoryRunStore(), SystemClock().now()\n"
        "    lease = Lease('me', now + timedelta(minutes=1))\n"
        "    created = await store.create_run(NewRun('r', 'w', None, '1', now), lease=lease, now=now)\n"
        "    return await Drive(w, created.claimed, DriveEnvironment(store, 'me', publish=publish)).run()\n"
        "assert asyncio.run(main()).output == 1\n"
        "assert sum(seen) == 4, seen\n"
        "kinds = (RunStarted, StepStarted, StepFinished, RunFinished)\n"
        "print([kind for kind in kinds if kind.__pydantic_complete__], 'pydantic.plugin._loader' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.stderr) == ("[] False", "")


@pytest.mark.parametrize("module", ["pydantic.plugin._loader", "importlib.metadata", "jsonpatch", "zipfile"])
def test_import_builds_no_validator(module: str) -> None:
    """The first validator of a process brings in half of the standard library: importing the core builds none."""
    program = f"import sys, workflow.core; print({module!r} in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
