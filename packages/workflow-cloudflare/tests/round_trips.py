#!/usr/bin/env python3
"""Counts the calls to D1, and writes the table of docs/deploy/cloudflare.md: python round_trips.py [--check]

A call is 10 to 40 ms away in real life, so how many there are is how fast it is. They are counted by the store, on a
stand-in for D1's binding that answers from SQLite: the number is the same wherever the database is.
"""

from __future__ import annotations

import argparse
import asyncio
import sqlite3
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from workflow.core import Context, create_workflow
from workflow.runtime import WorkflowRuntime
from workflow.runtime.testing import TestClock
from workflow.store.d1 import D1Store

PAGE = Path(__file__).parents[3] / "docs" / "deploy" / "cloudflare.md"
BEGIN, END = "<!-- round trips: written by tests/round_trips.py -->", "<!-- end of round trips -->"


class Statement:
    def __init__(self, sql: str, values: Sequence[Any] = ()) -> None:
        self.sql = sql
        self.values = values

    def bind(self, *values: Any) -> Statement:
        return Statement(self.sql, values)


class Binding:
    """A D1 binding as Cloudflare's SDK wraps it, on an SQLite in memory."""

    def __init__(self) -> None:
        self.connection = sqlite3.connect(":memory:", isolation_level=None)
        self.connection.row_factory = sqlite3.Row

    def prepare(self, sql: str) -> Statement:
        return Statement(sql)

    async def batch(self, statements: list[Statement]) -> list[dict[str, Any]]:
        self.connection.execute("BEGIN")
        try:
            rows = [[dict(row) for row in self.connection.execute(s.sql, list(s.values))] for s in statements]
        except BaseException:
            self.connection.execute("ROLLBACK")
            raise
        self.connection.execute("COMMIT")
        return [{"results": found, "success": True, "meta": {}} for found in rows]


# -- Workflows


async def step() -> int:
    return 1


@create_workflow(id="steps")
async def steps(ctx: Context[int]) -> int:
    for number in range(ctx.input):
        await ctx.step(f"step-{number}", step)
    return ctx.input


@create_workflow(id="parallel")
async def parallel(ctx: Context[int]) -> int:
    return sum(await asyncio.gather(*(ctx.step(f"step-{number}", step) for number in range(ctx.input))))


@create_workflow(id="waits")
async def waits(ctx: Context[None]) -> Any:
    await ctx.step("before", step)
    payload = await ctx.wait_for_event("paid")
    await ctx.step("after", step)
    return payload


@create_workflow(id="sleeps")
async def sleeps(ctx: Context[None]) -> None:
    await ctx.sleep(60)


@create_workflow(id="due")
async def due(ctx: Context[None]) -> None:
    """Nothing but a run to find."""


# -- Counting


class Counter:
    """Counts what a piece of work costs."""

    def __init__(self) -> None:
        self.binding = Binding()
        self.clock = TestClock()
        self.store = D1Store(self.binding)
        workflows = [steps, parallel, waits, sleeps, due]
        self.runtime = WorkflowRuntime(self.store, workflows, clock=self.clock, concurrency=10)
        self.rows: list[tuple[str, int, int]] = []

    async def count(self, what: str, work: Callable[[], Awaitable[Any]]) -> Any:
        calls, queries = self.store.usage.calls, self.store.usage.queries
        answer = await work()
        self.rows.append((what, self.store.usage.calls - calls, self.store.usage.queries - queries))
        return answer

    async def sweep(self) -> Any:
        return await self.runtime.sweep(max_duration=50)


@asynccontextmanager
async def counter() -> AsyncIterator[Counter]:
    made = Counter()
    await made.store.migrate()
    async with made.runtime:
        yield made
    made.binding.connection.close()


async def measure() -> list[tuple[str, int, int]]:
    """What, calls, queries."""
    async with counter() as it:
        run = it.runtime
        await it.count("idle sweep", it.sweep)
        for number in (0, 1, 5, 10):
            what = f"start a run of {number} steps in a row, to its end" if number else "start a run without steps"
            await it.count(what, lambda n=number: run.start_run(steps, input=n))
        await it.count("start a run of 10 steps at once, to its end", lambda: run.start_run(parallel, input=10))
        await it.count("enqueue a run (`drive=False`)", lambda: run.start_run(due, drive=False))
        await it.count("sweep that drives 1 run without steps", it.sweep)
        for _ in range(10):
            await run.start_run(due, drive=False)
        await it.count("sweep that drives 10 runs without steps", it.sweep)
        await it.count("start a run: one step, then it waits for a signal", lambda: run.start_run(waits, run_id="w"))
        await it.count("signal that nobody waits for yet", lambda: signal(run, "early", "other"))
        await it.count("signal that wakes the run: one step, then its end", lambda: signal(run, "s", "paid"))
        await it.count("signal that was delivered before", lambda: signal(run, "s", "paid"))
        await it.count("start a run that sleeps", lambda: run.start_run(sleeps, run_id="z"))
        it.clock.advance(60)
        await it.count("sweep that fires 1 timer, to the run's end", it.sweep)
        await it.count("get a run", lambda: run.get_run("w"))
        await it.count("list runs", lambda: run.list_runs())
        return it.rows


async def signal(runtime: WorkflowRuntime, signal_id: str, name: str) -> Any:
    return await runtime.deliver_signal(run_id="w", signal_id=signal_id, name=name, payload=1)


# -- The table


def table(rows: Sequence[tuple[str, int, int]]) -> str:
    lines = ["| what | calls | queries |", "|---|---:|---:|"]
    return "\n".join([*lines, *(f"| {what} | {calls} | {queries} |" for what, calls, queries in rows)])


def with_table(page: str, rows: Sequence[tuple[str, int, int]]) -> str:
    """The page with its table replaced."""
    before, rest = page.split(BEGIN)
    return f"{before}{BEGIN}\n\n{table(rows)}\n\n{END}{rest.split(END)[1]}"


def main() -> int:
    parser = argparse.ArgumentParser(description="Writes the table of calls into docs/deploy/cloudflare.md.")
    parser.add_argument("--check", action="store_true", help="only say whether the page has it")
    page = PAGE.read_text(encoding="utf-8")
    wanted = with_table(page, asyncio.run(measure()))
    if not parser.parse_args().check:
        PAGE.write_text(wanted, encoding="utf-8")
    return int(page != wanted)


if __name__ == "__main__":
    sys.exit(main())
