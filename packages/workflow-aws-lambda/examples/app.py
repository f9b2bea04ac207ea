"""An order that waits for its payment, and a report that takes longer than one invocation: on AWS Lambda.

One function answers its schedule, its URL and its queue. `template.yaml` deploys it with AWS SAM, `main.tf` with
Terraform.
"""

import asyncio
import logging
import os
from datetime import timedelta

from pydantic import BaseModel

from workflow.aws_lambda import EventBridgeWaker, create_handler
from workflow.core import Context, create_workflow
from workflow.runtime import WorkflowRuntime
from workflow.runtime.contract import ExecutionStore

logging.getLogger("workflow").setLevel(logging.INFO)


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
    if url.startswith("sqlite:"):  # to try it at home: Lambda keeps no files
        from workflow.store.sqlite import SQLiteStore

        return SQLiteStore(url.removeprefix("sqlite:"))
    from workflow.store.postgres import PostgresStore

    return PostgresStore(url, retry_for=float(os.environ.get("DATABASE_RETRY_SECONDS", "5")))


def make_waker() -> EventBridgeWaker | None:
    """Exact wake-ups, where the template has set them up."""
    if "WAKER_ROLE_ARN" not in os.environ:
        return None
    # Built from parts: a template in which a function refers to its own ARN would be a circle.
    region, function = os.environ["AWS_REGION"], os.environ["AWS_LAMBDA_FUNCTION_NAME"]
    account = os.environ["WAKER_ROLE_ARN"].split(":")[4]
    return EventBridgeWaker(
        target_arn=f"arn:aws:lambda:{region}:{account}:function:{function}", role_arn=os.environ["WAKER_ROLE_ARN"]
    )


def make_runtime() -> WorkflowRuntime:
    """Called in the first invocation of a process, when its event loop runs."""
    return WorkflowRuntime(make_store(), [order, report], publish=make_waker())


handler = create_handler(make_runtime, token=os.environ.get("WORKFLOW_TOKEN"))
