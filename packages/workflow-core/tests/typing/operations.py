"""What a type checker knows inside a handler. Checked by pyright in `test_core_typing.py`; never run."""

# ruff: noqa: PGH003 - lines that are wrong on purpose; any error will do
# pyright: strict, reportUnnecessaryTypeIgnoreComment=true
from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from datetime import datetime, timedelta
from functools import partial
from typing import Any, assert_type
from uuid import UUID

from pydantic import BaseModel

from workflow.core import (
    Approval,
    Context,
    InMemoryRunStore,
    Retry,
    StepContext,
    create_workflow,
    current_step,
    middleware,
    run_workflow,
)


class Payment(BaseModel):
    payment_id: str


async def charge(order_id: str, cents: int = 100) -> Payment: ...


def count(words: list[str], more: float = 1.0) -> int: ...


def later(name: str) -> Awaitable[bytes]: ...


async def nothing() -> None: ...


async def insert(connection: object, order_id: str, cents: int) -> Payment: ...


def insert_plainly(connection: object, order_id: str) -> int: ...


async def keywords(a: int, *, b: str) -> str: ...


async def many(*numbers: int) -> float: ...


class Service:
    async def call(self, a: int) -> list[int]: ...

    def __call__(self, a: int) -> str: ...


@create_workflow(id="steps")
async def steps(ctx: Context[dict[str, int]]) -> None:
    assert_type(await ctx.step("a", charge, "o-1", 5), Payment)
    assert_type(await ctx.step("b", charge, "o-1"), Payment)
    assert_type(await ctx.step("c", count, ["x"]), int)
    assert_type(await ctx.step("d", count, ["x"], 2.0), int)
    assert_type(await ctx.step("e", later, "n"), bytes)
    assert_type(await ctx.step("f", nothing), None)
    assert_type(await ctx.step("g", partial(keywords, b="x"), 1), str)
    assert_type(await ctx.step("h", Service().call, 1), list[int])
    assert_type(await ctx.step("i", Service(), 1), str)
    assert_type(await ctx.step("j", lambda: 5), int)
    assert_type(await ctx.step("k", many, 1, 2, 3), float)
    assert_type(await ctx.step("l", Payment.model_validate_json, "{}"), Payment)
    assert_type(
        await ctx.step("m", charge, "o-1", 5, retry=Retry.none(), timeout=timedelta(seconds=5), meta={"a": 1}), Payment
    )
    assert_type(await ctx.transaction("t1", insert, "o-1", 5), Payment)
    assert_type(await ctx.transaction("t2", insert_plainly, "o-1", isolation="SERIALIZABLE"), int)
    both = await asyncio.gather(ctx.step("n", charge, "o-1", 5), ctx.step("o", count, ["x"]))
    assert_type(both, tuple[Payment, int])


@create_workflow(id="wrong-steps")
async def wrong_steps(ctx: Context[dict[str, int]]) -> None:
    await ctx.step("a", charge, 5)  # pyright: ignore
    await ctx.transaction("t1", insert, 5, 5)  # pyright: ignore
    await ctx.transaction("t2", insert_plainly, "o-1", isolation="DIRTY")  # pyright: ignore
    await ctx.step("b", charge)  # pyright: ignore
    await ctx.step("c", charge, "o-1", 5, 6)  # pyright: ignore
    await ctx.step("d", count, "x", 1.0, 2)  # pyright: ignore
    await ctx.step("e", nothing, 1)  # pyright: ignore
    await ctx.step("f", keywords, 1, b="x")  # pyright: ignore
    await ctx.step(1, nothing)  # pyright: ignore
    await ctx.step("g", nothing, retry=3)  # pyright: ignore
    await ctx.step("h", nothing, timeout="5")  # pyright: ignore
    await ctx.step("i")  # pyright: ignore
    await ctx.step("j", 5)  # pyright: ignore


@create_workflow(id="others")
async def others(ctx: Context[dict[str, int]]) -> None:
    assert_type(await ctx.wait_for_event("paid", Payment), Payment)
    assert_type(await ctx.wait_for_event("paid", list[int], timeout=5), list[int])
    assert_type(await ctx.wait_for_event("paid"), Any)
    assert_type(await ctx.wait_for_event("paid", Payment | None), Any)
    assert_type(await ctx.approve("Refund?", timeout=timedelta(days=1)), Approval)
    assert_type(await ctx.now(), datetime)
    assert_type(await ctx.uuid(), UUID)
    assert_type(await ctx.sleep(5), None)
    assert_type(ctx.runtime.deadline, datetime | None)
    assert_type(ctx.runtime.time_remaining(), timedelta | None)
    assert_type(ctx.workflow_version, str | None)
    ctx.logger.info("hello %s", ctx.run_id)
    ctx.emit("progress", {"done": 1})
    await ctx.sleep_until("tomorrow")  # pyright: ignore
    await ctx.sleep(None)  # pyright: ignore


@middleware
async def with_user(ctx: Context[dict[str, int]], call_next: Any) -> Any:
    return await call_next(user="ann")


def in_a_step() -> None:
    assert_type(current_step(), StepContext)
    assert_type(current_step().idempotency_key, str)
    assert_type(current_step().cancelled.is_set(), bool)


Retry(max_attempts="3")  # pyright: ignore
Retry(3, 1.0, 2.0, timedelta(minutes=1), False)
Retry(retry_on=(ConnectionError, TimeoutError), give_up_on=(ValueError,))


async def observed() -> None:
    async for event in run_workflow(others, store=InMemoryRunStore(), input={}):
        if event.type == "STEP_FINISHED":
            assert_type(event.step_id, str)
        elif event.type == "TIMER_STARTED":
            assert_type(event.due_at, datetime)
