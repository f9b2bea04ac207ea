"""A process that sweeps until the run has ended. Says on standard output, as JSON lines, what it commits."""

from __future__ import annotations

import asyncio
import sys

from app import make_runtime

from workflow.core import WorkflowEvent


def say(event: WorkflowEvent) -> None:
    print(event.model_dump_json(exclude_none=True), flush=True)


async def main(run_id: str) -> None:
    async with make_runtime(publish=say) as runtime:
        while True:
            await runtime.sweep()
            run = await runtime.get_run(run_id)
            if run is not None and run.ended:
                return
            await asyncio.sleep(0.1)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
