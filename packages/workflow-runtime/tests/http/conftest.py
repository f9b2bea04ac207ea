"""A site to call: an app over a memory store, and workflows that wait for every kind of thing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import httpx
import pytest
from pydantic import BaseModel

from workflow.core import Context, create_workflow
from workflow.runtime import MemoryStore, Registration, Schedule, WorkflowHTTP, WorkflowRuntime, every

TOKEN = "a-token-for-tests"
NIGHTLY = Schedule("nightly", every.days(1))


class Order(BaseModel):
    order_id: str
    amount: int = 1


class Payment(BaseModel):
    payment_id: str


async def reserve(order_id: str) -> str:
    return f"reserved {order_id}"


@create_workflow(id="order")
async def order(ctx: Context[Order]) -> str:
    await ctx.step("reserve", reserve, ctx.input.order_id)
    payment = await ctx.wait_for_event("paid", Payment)
    return payment.payment_id


@create_workflow(id="decision")
async def decision(ctx: Context[Any]) -> str:
    answer = await ctx.approve("Ship it?", id="ship")
    return f"{answer.approved}: {answer.feedback}"


@create_workflow(id="nap")
async def nap(ctx: Context[Any]) -> str:
    await ctx.sleep(timedelta(hours=1))
    return "awake"


@create_workflow(id="echo")
async def echo(ctx: Context[Any]) -> Any:
    return ctx.input


@create_workflow(id="broken")
async def broken(ctx: Context[Any]) -> None:
    raise ValueError("no luck")


class Site:
    """An app, its runtime, and a client that is sent to it."""

    token = TOKEN

    def __init__(self) -> None:
        self.runtime = WorkflowRuntime(
            MemoryStore(), [order, decision, Registration(nap, schedules=[NIGHTLY]), echo, broken]
        )

    def app(self, **options: Any) -> WorkflowHTTP:
        return WorkflowHTTP(options.pop("runtime", self.runtime), **{"token": TOKEN, **options})

    def client(self, app: Any = None, *, token: str | None = TOKEN, **options: Any) -> httpx.AsyncClient:
        headers = {"authorization": f"Bearer {token}"} if token is not None else {}
        transport = httpx.ASGITransport(app or self.app(**options))
        return httpx.AsyncClient(transport=transport, base_url="http://site", headers=headers)

    def call(
        self, method: str, path: str, *, app: Any = None, token: str | None = TOKEN, **request: Any
    ) -> httpx.Response:
        """One request, on a loop of its own."""

        async def send() -> httpx.Response:
            async with self.client(app, token=token) as client:
                return await client.request(method, path, **request)

        return asyncio.run(send())


@pytest.fixture
def site() -> Site:
    return Site()


@pytest.fixture
def make_site() -> Callable[[], Site]:
    return Site
