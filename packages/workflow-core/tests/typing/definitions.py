"""What a type checker knows about definitions. Checked by pyright in `test_core_typing.py`; never run."""

# ruff: noqa: PGH003 - lines that are wrong on purpose; any error will do
# pyright: strict, reportUnnecessaryTypeIgnoreComment=true
from __future__ import annotations

from typing import Any, Generic, TypeVar, assert_type

from pydantic import BaseModel

from workflow.core import Context, Workflow, create_workflow


class Order(BaseModel):
    order_id: str


class Shipped(BaseModel):
    order_id: str


class Progress(BaseModel):
    done: int = 0


class Pool: ...


T = TypeVar("T")


class OrderContext(Context[Order]):
    db: Pool


class StatefulContext(Context[Order, Progress]):
    db: Pool


class TenantContext(Context[T], Generic[T]):
    tenant: str


@create_workflow(id="plain")
async def plain(ctx: Context[Order]) -> Shipped:
    assert_type(ctx.input, Order)
    assert_type(ctx.state, None)
    return Shipped(order_id=ctx.input.order_id)


@create_workflow(id="stateful", version="2")
async def stateful(ctx: Context[Order, Progress]) -> int:
    assert_type(ctx.state, Progress)
    ctx.state.done += 1
    return ctx.state.done


@create_workflow(id="subclass")
async def subclass(ctx: OrderContext) -> Shipped:
    assert_type(ctx.input, Order)
    assert_type(ctx.state, None)
    assert_type(ctx.db, Pool)
    return Shipped(order_id=ctx.input.order_id)


@create_workflow(id="stateful-subclass")
async def stateful_subclass(ctx: StatefulContext) -> list[str]:
    assert_type(ctx.state, Progress)
    return []


@create_workflow(id="generic")
async def generic(ctx: TenantContext[Order]) -> None:
    assert_type(ctx.input, Order)
    assert_type(ctx.tenant, str)


@create_workflow(id="untyped")
async def untyped(ctx: Context) -> dict[str, Any]:
    assert_type(ctx.state, None)
    return {}


assert_type(plain, Workflow[Order, Shipped])
assert_type(stateful, Workflow[Order, int])
assert_type(subclass, Workflow[Order, Shipped])
assert_type(stateful_subclass, Workflow[Order, list[str]])
assert_type(generic, Workflow[Order, None])
assert_type(untyped, Workflow[Any, dict[str, Any]])


def not_async(ctx: Context[Order]) -> int:
    return 1


async def two_arguments(ctx: Context[Order], more: int) -> int:
    return more


async def wrong_argument(ctx: str) -> int:
    return 1


create_workflow(id="a")(not_async)  # pyright: ignore
create_workflow(id="b")(two_arguments)  # pyright: ignore
create_workflow(id="c")(wrong_argument)  # pyright: ignore
create_workflow()  # pyright: ignore
create_workflow(id="d", default_retry=3)  # pyright: ignore
