"""The Python app that a Netlify site wakes. It runs wherever Python runs, under any ASGI server:

uvicorn app:app --host 0.0.0.0 --port 8000
"""

import asyncio
import os

from pydantic import BaseModel

from workflow.core import Context, create_workflow
from workflow.netlify import create_sweep_app
from workflow.runtime import WorkflowHTTP, WorkflowRuntime
from workflow.runtime.contract import ExecutionStore


class Report(BaseModel):
    pages: int
    seconds_a_page: float = 0.0


async def write_page(number: int, seconds: float) -> int:
    await asyncio.sleep(seconds)
    return number


@create_workflow(id="report")
async def report(ctx: Context[Report]) -> int:
    for number in range(ctx.input.pages):
        await ctx.step(f"page-{number}", write_page, number, ctx.input.seconds_a_page)
    return ctx.input.pages


def make_store() -> ExecutionStore:
    url = os.environ["DATABASE_URL"]
    if url.startswith("sqlite:"):  # one machine with a disk is enough for it
        from workflow.store.sqlite import SQLiteStore

        return SQLiteStore(url.removeprefix("sqlite:"))
    from workflow.store.postgres import PostgresStore

    return PostgresStore(url, retry_for=float(os.environ.get("DATABASE_RETRY_SECONDS", "5")))


runtime = WorkflowRuntime(make_store(), [report])
sweep = create_sweep_app(runtime, secret=os.environ.get("WORKFLOW_SWEEP_SECRET"))
api = WorkflowHTTP(runtime, token=os.environ.get("WORKFLOW_TOKEN"), prefix="/api")


async def app(scope, receive, send):
    """The sweep has an address of its own; everything else is the API."""
    await (sweep if scope["type"] == "http" and scope["path"] == "/sweep" else api)(scope, receive, send)
