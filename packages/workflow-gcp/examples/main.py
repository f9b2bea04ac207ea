"""An order that waits for its payment, and a report that takes longer than one request: in Cloud Run functions.

functions-framework --source main.py --target api      # the HTTP API, closed by a token
functions-framework --source main.py --target sweep    # what Cloud Scheduler calls
"""

import asyncio
import os
from datetime import timedelta

import functions_framework.aio
from pydantic import BaseModel

from workflow.core import Context, create_workflow
from workflow.gcp import OIDC, CloudTasksWaker, create_http_function, create_sweep_function
from workflow.runtime import WorkflowRuntime
from workflow.runtime.contract import ExecutionStore


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
    if url.startswith("sqlite:"):  # to try it at home: an instance keeps no files
        from workflow.store.sqlite import SQLiteStore

        return SQLiteStore(url.removeprefix("sqlite:"))
    from workflow.store.postgres import PostgresStore

    return PostgresStore(url, retry_for=float(os.environ.get("DATABASE_RETRY_SECONDS", "5")))


def make_waker() -> CloudTasksWaker | None:
    """Exact wake-ups, where there is a queue for them."""
    if "WAKE_QUEUE" not in os.environ:
        return None
    return CloudTasksWaker(
        queue=os.environ["WAKE_QUEUE"],
        url=os.environ["WAKE_URL"],
        service_account=os.environ["SWEEP_ACCOUNT"],
        audience=os.environ["SWEEP_AUDIENCE"],
    )


def make_runtime() -> WorkflowRuntime:
    """Called at the first request of a process, when its event loop runs."""
    return WorkflowRuntime(make_store(), [order, report], publish=make_waker())


# Each function is deployed with the settings that it needs, and closed without them.
if "SWEEP_AUDIENCE" in os.environ:
    oidc = OIDC(audience=os.environ["SWEEP_AUDIENCE"], emails=os.environ.get("SWEEP_ACCOUNT"))
    sweep = functions_framework.aio.http(create_sweep_function(make_runtime, oidc=oidc))
elif "SWEEP_SECRET" in os.environ:
    sweep = functions_framework.aio.http(create_sweep_function(make_runtime, secret=os.environ["SWEEP_SECRET"]))

if "WORKFLOW_TOKEN" in os.environ:
    api = functions_framework.aio.http(create_http_function(make_runtime, token=os.environ["WORKFLOW_TOKEN"]))
