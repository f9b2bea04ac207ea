"""A workflow, and the runtime that runs it."""

from datetime import timedelta
from typing import Any

from pydantic import BaseModel

from workflow.core import Context, create_workflow, current_step
from workflow.runtime import WorkflowRuntime
from workflow.store.d1 import D1Store


class Order(BaseModel):
    order_id: str
    delay_ms: int


class Payment(BaseModel):
    payment_id: str


class Shipped(BaseModel):
    order_id: str
    shipped: bool


async def reserve_inventory(order_id: str) -> None:
    print(f"reserving for {order_id}, once: {current_step().idempotency_key}")  # noqa: T201


async def ship_order(order_id: str, payment_id: str) -> None:
    print(f"shipping {order_id}, paid by {payment_id}")  # noqa: T201


@create_workflow(id="fulfillment")
async def fulfillment(ctx: Context[Order]) -> Shipped:
    await ctx.step("reserve-inventory", reserve_inventory, ctx.input.order_id)
    now = await ctx.now()
    await ctx.sleep_until(now + timedelta(milliseconds=ctx.input.delay_ms))
    payment = await ctx.wait_for_event("payment-received", Payment)
    await ctx.step("ship-order", ship_order, ctx.input.order_id, payment.payment_id)
    return Shipped(order_id=ctx.input.order_id, shipped=True)


def make_runtime(env: Any) -> WorkflowRuntime:
    return WorkflowRuntime(store=D1Store(env.DB), workflows=[fulfillment])
