"""Workflow for Python, on its three stores. Used as docs/runtime.md and docs/worker.md say."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from itertools import count as counter
from typing import Any

from bench.system import Marks, System

from workflow.core import Context, create_workflow
from workflow.runtime import MemoryStore, RunResult, WorkflowRuntime

__all__ = ["OursMemory", "OursPostgres", "OursSQLite", "five_steps"]

PLACES = 200
"""How many runs the worker drives at once. The default, 10, is meant for steps that do something."""

marks = Marks()


async def work(number: int) -> int:
    return number


async def marked(number: int) -> int:
    marks.note()
    return number


@create_workflow(id="five-steps")
async def five_steps(ctx: Context[int]) -> int:
    """As many steps as the input says; five, mostly."""
    total = 0
    for number in range(ctx.input):
        total += await ctx.step(f"step-{number}", work, number)
    return total


@create_workflow(id="sleeper")
async def sleeper(ctx: Context[float]) -> int:
    await ctx.sleep_until(datetime.fromtimestamp(ctx.input, UTC))
    return 1


@create_workflow(id="long")
async def long(ctx: Context[int]) -> int:
    total = 0
    for number in range(ctx.input):
        total += await ctx.step(f"step-{number}", marked, number)
    for turn in range(100):
        await ctx.wait_for_event(f"go-{turn}")
    return total


class OursMemory(System):
    """Nothing is durable: what the engine itself costs."""

    def __init__(self, target: str) -> None:
        super().__init__(target)
        self._numbers = counter()
        self._prepared = ""
        self._turns = counter()
        self._serving: asyncio.Task[Any] | None = None

    def store(self) -> Any:
        return MemoryStore()

    async def open(self) -> None:
        self.runtime = WorkflowRuntime(self.store(), [five_steps, sleeper, long])
        await self.runtime.migrate()

    async def close(self) -> None:
        if self._serving is not None:
            self._stop.set()
            await self._serving
            self._serving = None
        await self.runtime.close()

    async def run(self, steps: int) -> None:
        _expect(await self.runtime.start_run(five_steps, input=steps), "completed")

    async def run_all(self, count: int, steps: int) -> None:
        await asyncio.gather(*(self.run(steps) for _ in range(count)))

    async def park(self, count: int, wake_at: float) -> None:
        starts = (self.runtime.start_run(sleeper, input=wake_at) for _ in range(count))
        for result in await asyncio.gather(*starts):
            _expect(result, "paused")
        self._woken = 0
        self._all_awake = asyncio.Event()
        self._awaited = count
        if self._serving is None:
            self._stop = asyncio.Event()
            serve = self.runtime.serve(concurrency=PLACES, signals=False, stop=self._stop, on_result=self._note)
            self._serving = asyncio.create_task(serve)

    def _note(self, result: RunResult[Any]) -> None:
        _expect(result, "completed")
        self._woken += 1
        if self._woken == self._awaited:
            self._all_awake.set()

    async def awake(self, count: int) -> None:
        await self._all_awake.wait()

    async def prepare(self, steps: int) -> Marks:
        marks.clear()
        self._prepared = f"long-{next(self._numbers)}"
        self._turns = counter()
        result = await self.runtime.start_run(long, run_id=self._prepared, input=steps, include_events=False)
        _expect(result, "paused")
        return Marks(marks)

    async def resume(self) -> None:
        name = f"go-{next(self._turns)}"
        result = await self.runtime.deliver_signal(
            run_id=self._prepared, signal_id=name, name=name, include_events=False
        )
        _expect(result, "paused")


class OursSQLite(OursMemory):
    def store(self) -> Any:
        from workflow.store.sqlite import SQLiteStore

        return SQLiteStore(self.target)


class OursPostgres(OursMemory):
    def store(self) -> Any:
        from workflow.store.postgres import PostgresStore

        return PostgresStore(self.target)


def _expect(result: RunResult[Any], kind: str) -> None:
    if result.kind != kind:
        raise RuntimeError(f"Run {result.run_id!r} is {result.kind}, not {kind}: {result.error}")
