"""A worker process of the tests at scale, `python postgres_scale_app.py URL`: it serves until it is told to stop.

Each execution of a step leaves a row in `executions`, committed by itself before anything else: what really happened,
whatever the engine came to know of it. `ledger` is written by a database step, in the transaction of its commit.
"""

from __future__ import annotations

import asyncio
import sys
from datetime import timedelta
from typing import Any

import asyncpg
from sqlalchemy import text

from workflow.core import Context, Retry, create_workflow, current_step
from workflow.core.errors import EventTimeoutError
from workflow.runtime import Queue, WorkflowRuntime
from workflow.store.postgres import PostgresStore

TABLES = """
CREATE TABLE executions (n bigserial PRIMARY KEY, run_id text NOT NULL, step text NOT NULL);
CREATE TABLE ledger (run_id text NOT NULL, amount bigint NOT NULL);
"""
NARROW = Queue("narrow", concurrency=8)
PERSISTENT = Retry(max_attempts=1000, initial_delay=0.05, max_delay=0.5)

_pools: list[asyncpg.Pool[Any]] = []


async def execute(run_id: str) -> int:
    """A side effect: the number of its row."""
    insert = "INSERT INTO executions (run_id, step) VALUES ($1, $2) RETURNING n"
    return await _pools[0].fetchval(insert, run_id, current_step().step_id)


async def book(connection: Any, run_id: str, amount: int) -> int:
    values = {"run_id": run_id, "amount": amount}
    await connection.execute(text("INSERT INTO ledger VALUES (:run_id, :amount)"), values)
    return amount


@create_workflow(id="journey", default_retry=PERSISTENT)
async def journey(ctx: Context[int]) -> list[int]:
    """A step, a timer, a signal, a wait that nobody ends, a step, and a booking."""
    first = await ctx.step("first", execute, ctx.run_id)
    await ctx.sleep(timedelta(milliseconds=ctx.input % 300))
    sent = await ctx.wait_for_event("go", int)
    try:
        await ctx.wait_for_event("never", int, timeout=0.05)
    except EventTimeoutError:
        second = await ctx.step("second", execute, ctx.run_id)
    else:
        raise AssertionError("Nobody has sent this.")
    booked = await ctx.transaction("book", book, ctx.run_id, sent, retry=PERSISTENT)
    return [first, second, booked]


def runtime_on(url: str, *, connections: int = 4) -> WorkflowRuntime:
    store = PostgresStore(url, connections=connections, retry_for=10.0)
    return WorkflowRuntime(store, [journey], queues=[NARROW], lease=3.0, telemetry=False, max_recoveries=1000)


async def main(url: str) -> None:
    plain = url.replace("+asyncpg", "")
    async with asyncpg.create_pool(plain, min_size=0, max_size=4) as pool, runtime_on(url) as runtime:
        _pools.append(pool)
        await runtime.serve(concurrency=24, poll_interval=0.3)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
