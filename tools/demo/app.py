"""The app of the demo: the fulfilment workflow, an outside world to act on, and the runtime.

The outside world is a file that every process appends to, so that the story can count in the end what really happened,
whoever was killed meanwhile.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from workflow.core import Context, create_workflow, current_step
from workflow.runtime import WorkflowRuntime
from workflow.store.sqlite import SQLiteStore

FOLDER = Path(os.environ.get("DEMO_FOLDER", "."))
LEASE = 3.0
CARRIER_LATENCY = 2.0


class Order(BaseModel):
    order_id: str
    delay_ms: int


class Payment(BaseModel):
    payment_id: str


class Shipped(BaseModel):
    order_id: str
    shipped: bool


def outside_world(effect: str) -> None:
    """Act on the outside world: append a line, in one write, so that several processes can't mix theirs."""
    line = json.dumps({"effect": effect, "key": current_step().idempotency_key, "pid": os.getpid()}) + "\n"
    with open(FOLDER / "outside-world.jsonl", "a", encoding="utf-8") as journal:
        journal.write(line)


async def reserve_inventory(order_id: str) -> None:
    outside_world("inventory reserved")


async def ship_order(order_id: str, payment_id: str) -> None:
    await asyncio.sleep(CARRIER_LATENCY)  # the carrier is slow to answer, which gives us time to be killed
    outside_world("order shipped")


@create_workflow(id="fulfillment")
async def fulfillment(ctx: Context[Order]) -> Shipped:
    await ctx.step("reserve-inventory", reserve_inventory, ctx.input.order_id)
    now = await ctx.now()
    await ctx.sleep_until(now + timedelta(milliseconds=ctx.input.delay_ms))
    payment = await ctx.wait_for_event("payment-received", Payment)
    await ctx.step("ship-order", ship_order, ctx.input.order_id, payment.payment_id)
    return Shipped(order_id=ctx.input.order_id, shipped=True)


def make_runtime(publish: Callable[[Any], None] | None = None) -> WorkflowRuntime:
    return WorkflowRuntime(
        store=SQLiteStore(FOLDER / "workflow.db"), workflows=[fulfillment], lease=LEASE, publish=publish
    )
