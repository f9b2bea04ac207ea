"""What the engine itself costs: runs and replays on `MemoryStore`, and imports.

    python tools/bench/engine.py [--json]

Figures are CPU time, the best of several rounds, on this machine at this moment: compare columns of one run with each
other, not with another run's. The floor of a run is the same five functions awaited by bare asyncio; the floor of an
import is what each app with pydantic and asyncio pays anyway.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from typing import Any

from rich.console import Console
from rich.table import Table

from workflow.core import Context, create_workflow
from workflow.runtime import MemoryStore, WorkflowRuntime

ROUNDS = 15
STEPS = (100, 1_000, 10_000)
PYDANTIC = "pydantic and asyncio, with one model"
IMPORTS = {
    PYDANTIC: "import asyncio, pydantic\nclass Model(pydantic.BaseModel):\n    x: int",
    "workflow.core": "import workflow.core",
    "workflow.runtime": "import workflow.runtime",
}


async def work(i: int) -> int:
    return i


@create_workflow(id="five")
async def five(ctx: Context[int]) -> int:
    return sum([await ctx.step(f"step-{i}", work, i) for i in range(ctx.input)])


@create_workflow(id="long")
async def long(ctx: Context[int]) -> int:
    total = sum([await ctx.step(f"step-{i}", work, i) for i in range(ctx.input)])
    await ctx.wait_for_event("go")
    return total


async def best(rounds: int, action: Callable[[int], Awaitable[Any]], prepare: Callable[[int], Awaitable[Any]]) -> float:
    """The least CPU seconds that one round of the action took."""
    least = float("inf")
    for number in range(rounds):
        await prepare(number)
        begin = time.process_time()
        await action(number)
        least = min(least, time.process_time() - begin)
    return least


async def nothing(_: int) -> None:
    return


async def cost_of_runs() -> dict[str, float]:
    """Microseconds of a five-step run, and of its floor."""
    runtime = WorkflowRuntime(MemoryStore(), [five])

    async def run(_: int) -> None:
        for _ in range(20):
            await runtime.start_run(five, input=5, include_events=False)

    async def floor(_: int) -> None:
        for _ in range(20):
            for i in range(5):
                await asyncio.create_task(work(i))

    return {
        "a 5-step run": await best(ROUNDS, run, nothing) / 20 * 1e6,
        "its floor: 5 asyncio tasks": await best(ROUNDS, floor, nothing) / 20 * 1e6,
    }


async def cost_of_replay(steps: int) -> float:
    """Microseconds per step of waking a run that has so many steps in its log."""
    runtime = WorkflowRuntime(MemoryStore(), [long])

    async def prepare(number: int) -> None:
        await runtime.start_run(long, run_id=f"long-{number}", input=steps, include_events=False)

    async def wake(number: int) -> None:
        result = await runtime.deliver_signal(run_id=f"long-{number}", signal_id="go", name="go", include_events=False)
        assert result.kind == "completed"

    return await best(3 if steps > 1_000 else 7, wake, prepare) / steps * 1e6


def cost_of_imports() -> dict[str, float]:
    """Milliseconds of imports, each in a fresh interpreter whose own start is not counted. All is compiled by then."""
    with tempfile.TemporaryDirectory() as compiled:
        environment = {**os.environ, "PYTHONPYCACHEPREFIX": compiled}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        return {what: _cost_of_import(program, environment) for what, program in IMPORTS.items()}


def _cost_of_import(program: str, environment: dict[str, str]) -> float:
    timed = f"import time; b = time.process_time()\n{program}\nprint(time.process_time() - b)"
    command = [sys.executable, "-c", timed]
    told = [
        subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout for _ in range(8)
    ]
    return min(map(float, told)) * 1e3


async def measure() -> dict[str, dict[str, float]]:
    runs = await cost_of_runs()
    replays = {f"replay of {steps:,} steps": await cost_of_replay(steps) for steps in STEPS}
    return {"runs (us)": runs, "replay (us a step)": replays, "imports (ms)": cost_of_imports()}


def show(results: dict[str, dict[str, float]]) -> None:
    table = Table(title=f"The engine on MemoryStore, Python {sys.version.split()[0]}: CPU time, best of several")
    for column in ("", "what", "figure", "ratio"):
        table.add_column(column, justify="right" if column in ("figure", "ratio") else "left")
    floors = {
        "runs (us)": "its floor: 5 asyncio tasks",
        "replay (us a step)": "replay of 100 steps",
        "imports (ms)": PYDANTIC,
    }
    for group, figures in results.items():
        for what, figure in figures.items():
            table.add_row(group, what, f"{figure:,.1f}", f"{figure / figures[floors[group]]:.2f}")
    Console().print(table)


def main() -> None:
    results = asyncio.run(measure())
    if "--json" in sys.argv:
        print(json.dumps(results))
    else:
        show(results)


if __name__ == "__main__":
    main()
