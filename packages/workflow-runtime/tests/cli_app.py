"""The app that the tests of the command line talk to: an order that waits for a payment and a decision.

Copied next to the test's database and run from there, so it imports nothing of the tests.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import BaseModel

from workflow.core import Context, create_workflow
from workflow.core.clock import OffsetClock, SystemClock
from workflow.runtime import Registration, Schedule, WorkflowRuntime, cron, every


class Order(BaseModel):
    order_id: str
    delay: float = 0.0


async def reserve(order_id: str) -> str:
    if order_id == "13" and order_id != os.environ.get("CLI_APP_ORDERS"):
        raise LookupError("there is no order 13")
    return f"shelf {order_id}"


@create_workflow(id="order")
async def order(ctx: Context[Order]) -> str:
    await ctx.step("reserve", reserve, ctx.input.order_id)
    await ctx.sleep(ctx.input.delay, id="nap")
    paid = await ctx.wait_for_event("paid", str)
    decision = await ctx.approve("Ship it?", id="ship")
    return f"{paid}: {'shipped' if decision.approved else decision.feedback}"


def make_store() -> Any:
    url = os.environ.get("CLI_APP_POSTGRES")
    if url:
        from workflow.store.postgres import PostgresStore

        return PostgresStore(url, schema=os.environ["CLI_APP_SCHEMA"])
    from workflow.store.sqlite import SQLiteStore

    return SQLiteStore("orders.db", migrate=False)


async def make_runtime() -> WorkflowRuntime:
    return WorkflowRuntime(make_store(), [order])


def make_broken_registration() -> WorkflowRuntime:
    return WorkflowRuntime(make_store(), [Registration("nowhere.at:all", id="lost"), order])


def make_newer() -> WorkflowRuntime:
    """A deployment that has another version of the workflow only."""

    @create_workflow(id="order", version="2")
    async def order(ctx: Context[Order]) -> str:
        return "newer"

    return WorkflowRuntime(make_store(), [order])


def make_changed() -> WorkflowRuntime:
    """A deployment whose code doesn't fit the logs."""

    @create_workflow(id="order")
    async def order(ctx: Context[Order]) -> str:
        return await ctx.step("another", reserve, ctx.input.order_id)

    return WorkflowRuntime(make_store(), [order])


def count(tick: datetime) -> dict[str, str]:
    return {"order_id": f"{tick:%H%M}"}


def make_scheduled() -> WorkflowRuntime:
    """Orders that come by themselves: one every hour, and one on Monday morning."""
    schedules = [
        Schedule("hourly", every.hours(1), input=count, overlap="allow"),
        Schedule("weekly", cron("0 9 * * mon", timezone="Europe/Berlin"), input={"order_id": "13"}),
    ]
    return WorkflowRuntime(make_store(), [Registration(order, schedules=schedules)])


def make_late() -> WorkflowRuntime:
    """The same a day later, as far as this process knows the time."""
    runtime = make_scheduled()
    runtime.clock = OffsetClock(SystemClock(), datetime.now(UTC) + timedelta(days=1))
    return runtime


def fail() -> WorkflowRuntime:
    raise KeyError("DATABASE_URL")


def settings() -> WorkflowRuntime:
    os.environ["CLI_APP_THAT_NOBODY_SETS"]
    return make_newer()
