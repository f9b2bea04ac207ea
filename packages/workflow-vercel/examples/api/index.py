"""An order that waits for its payment, and a report that takes longer than one request: on Vercel."""

import asyncio
import os
from datetime import timedelta

from pydantic import BaseModel

from workflow.core import Context, create_workflow
from workflow.runtime import WorkflowRuntime
from workflow.runtime.contract import ExecutionStore
from workflow.vercel import create_app


class Order(BaseModel):
    order_id: str


class Payment(BaseModel):
    payment_id: str


class Report(BaseModel):
    pages: int
    seconds_a_page: float = 0.0


async def reserve(order_id: str) -> str:
    return f"reserved {order_id}"


async def write_page(number: int, seconds: float) -> int:
    await asyncio.sleep(seconds)
    return number


@create_workflow(id="order")
async def order(ctx: Context[Order]) -> str:
    await ctx.step("reserve", reserve, ctx.input.order_id)
    payment = await ctx.wait_for_event("paid", Payment, timeout=timedelta(days=3))
    return payment.payment_id


@create_workflow(id="report")
async def report(ctx: Context[Report]) -> int:
    for number in range(ctx.input.pages):
        await ctx.step(f"page-{number}", write_page, number, ctx.input.seconds_a_page)
    return ctx.input.pages


def make_store() -> ExecutionStore:
    url = os.environ["DATABASE_URL"]
    if url.startswith("sqlite:"):  # to try it at home: Vercel keeps no files
        from workflow.store.sqlite import SQLiteStore

        return SQLiteStore(url.removeprefix("sqlite:"))
    from workflow.store.postgres import PostgresStore

    return PostgresStore(url, retry_for=float(os.environ.get("DATABASE_RETRY_SECONDS", "5")))


def make_runtime() -> WorkflowRuntime:
    """Called at the first request of a process, when its event loop runs."""
    return WorkflowRuntime(make_store(), [order, report])


app = create_app(make_runtime, token=os.environ.get("WORKFLOW_TOKEN"), cron_secret=os.environ.get("CRON_SECRET"))
