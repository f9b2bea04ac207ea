"""An app in a process of its own: a worker on the store that the test names, whose steps tell that they run."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from workflow.core import Context, create_workflow
from workflow.runtime import ExecutionStore, WorkflowRuntime


async def linger(seconds: float) -> str:
    print("step begun", flush=True)
    await asyncio.sleep(seconds)
    print("step ended", flush=True)
    return "lingered"


@create_workflow(id="linger")
async def lingering(ctx: Context[float]) -> list[str]:
    return [await ctx.step(str(number), linger, ctx.input) for number in range(2)]


def make_runtime(store: ExecutionStore) -> WorkflowRuntime:
    return WorkflowRuntime(store, [lingering], lease=600)


async def main(path: str, options: dict[str, Any]) -> None:
    # Here, so that a test of the runtime alone needs no store but this one.
    from workflow.store.sqlite import SQLiteStore

    async with make_runtime(SQLiteStore(path)) as runtime:
        report = await runtime.serve(**options)
    print(f"{report.kinds} {report.handed_back}", flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], {"grace": float(sys.argv[2])}))
