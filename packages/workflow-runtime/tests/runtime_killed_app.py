"""Workers that a test kills: each step leaves a line in a journal, so that executions can be counted afterwards."""

from __future__ import annotations

import asyncio
import os
import sys

from workflow.core import Context, create_workflow, current_step
from workflow.runtime import ExecutionStore, WorkflowRuntime

CONCURRENCY = 4


async def work(journal: str) -> None:
    line = f"{current_step().idempotency_key}\n".encode()
    file = os.open(journal, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, line)  # in one piece, whoever is killed meanwhile
    os.close(file)
    await asyncio.sleep(0.3)


@create_workflow(id="survive")
async def survive(ctx: Context[str]) -> str:
    await ctx.step("first", work, ctx.input)
    await ctx.sleep(0.2)
    answer = await ctx.wait_for_event("go", str)
    await ctx.step("last", work, ctx.input)
    return answer


def make_runtime(store: ExecutionStore) -> WorkflowRuntime:
    return WorkflowRuntime(store, [survive], lease=1.5, concurrency=CONCURRENCY, max_recoveries=100)


async def main(path: str) -> None:
    from workflow.store.sqlite import SQLiteStore

    async with make_runtime(SQLiteStore(path)) as runtime:
        print("working", flush=True)
        await runtime.serve(poll_interval=0.2)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
