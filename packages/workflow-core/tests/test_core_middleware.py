"""Middleware: the onion around a drive, what it gives to the context, and what breaks its contract."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import pytest

from workflow.core import (
    Context,
    InMemoryRunStore,
    Middleware,
    Workflow,
    create_workflow,
    middleware,
    run_workflow,
)
from workflow.core.events import ErrorInfo
from workflow.core.middleware import compose
from workflow.core.records import RunRecord


def drive(workflow: Workflow[Any, Any], *, times: int = 1) -> RunRecord:
    """The run's row after some drives."""

    async def main() -> RunRecord:
        store = InMemoryRunStore()
        async for _ in run_workflow(workflow, store=store, run_id="r", input=None):
            pass
        for _ in range(times - 1):
            async for _ in run_workflow(workflow, store=store, run_id="r", recover=True):
                pass
        run = await store.get_run("r")
        assert run is not None
        return run

    return asyncio.run(main())


def error_of(run: RunRecord) -> ErrorInfo:
    assert run.status == "errored" and run.error is not None
    return ErrorInfo.model_validate_json(run.error)


def define(handler: Callable[..., Any], layers: Sequence[Middleware]) -> Workflow[Any, Any]:
    return create_workflow(id="w", middleware=layers)(handler)


class OrderContext(Context[None]):
    db: str
    user: str
    size: int = 5
    kind: ClassVar[str] = "order"
    _private: int


class WithTenant:
    tenant: str


class DeepContext(WithTenant, OrderContext):
    shop: str


class NumberContext(Context[None]):
    db: int


async def plain(ctx: Context[None]) -> str:
    return "done"


def test_the_first_is_outermost() -> None:
    """Layers are entered in the order in which they are listed, and left in the other."""
    trace: list[str] = []

    def layer(name: str) -> Middleware:
        @middleware
        async def around(ctx: Any, call_next: Any) -> Any:
            trace.append(f"+{name}")
            try:
                return await call_next()
            finally:
                trace.append(f"-{name}")

        return around

    assert drive(define(plain, [layer("a"), layer("b")])).output == '"done"'
    assert trace == ["+a", "+b", "-b", "-a"]


def test_what_middleware_gives() -> None:
    """The keywords of `call_next` become attributes; an inner layer sees what an outer one gave, and may replace it."""

    @middleware
    async def outer(ctx: Any, call_next: Any) -> Any:
        return await call_next(db="db", user="nobody")

    @middleware
    async def inner(ctx: Any, call_next: Any) -> Any:
        return await call_next(user=f"{ctx.db}'s ann")

    async def handler(ctx: OrderContext) -> list[str]:
        return [ctx.db, ctx.user]

    assert drive(define(handler, [outer, inner])).output == '["db","db\'s ann"]'


def test_middleware_sees_the_input_and_may_change_the_result() -> None:
    """It is ordinary code around the handler, on the host's loop."""

    @middleware
    async def shout(ctx: Any, call_next: Any) -> Any:
        await asyncio.sleep(0)
        return (await call_next()).upper() + ctx.run_id

    assert drive(define(plain, [shout])).output == '"DONEr"'


def test_middleware_may_handle_an_error() -> None:
    """What it returns instead is the result of the run."""

    @middleware
    async def forgiving(ctx: Any, call_next: Any) -> Any:
        try:
            return await call_next()
        except ValueError as error:
            return f"forgiven: {error}"

    async def handler(ctx: Context[None]) -> str:
        raise ValueError("boom")

    assert drive(define(handler, [forgiving])).output == '"forgiven: boom"'


@middleware
async def never(ctx: Any, call_next: Any) -> Any:
    return "done"


@middleware
async def twice(ctx: Any, call_next: Any) -> Any:
    await call_next()
    return await call_next()


@middleware
async def forgetful(ctx: Any, call_next: Any) -> Any:
    await call_next()


@middleware
async def shadows(ctx: Any, call_next: Any) -> Any:
    return await call_next(run_id="x")


@middleware
async def shadows_method(ctx: Any, call_next: Any) -> Any:
    return await call_next(sleep=1)


@middleware
async def gives_private(ctx: Any, call_next: Any) -> Any:
    return await call_next(_db=1)


@pytest.mark.parametrize(
    ("layer", "says"),
    [
        (never, "returned without awaiting call_next"),
        (twice, "called call_next twice"),
        (forgetful, "write `return await call_next(...)`"),
        (shadows, "gives 'run_id', which every Context has already: choose another name"),
        (shadows_method, "gives 'sleep', which every Context has already"),
        (gives_private, "gives '_db', which is reserved"),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_broken_contracts(layer: Middleware, says: str) -> None:
    """Each is an error of the run that names the middleware and the remedy."""
    info = error_of(drive(define(plain, [layer])))
    assert (info.code, says in info.message, f"Middleware {layer.name} " in info.message) == ("middleware", True, True)


def test_missing_fields() -> None:
    """What the context class and its mixins declare must be there before the handler starts."""
    started: list[bool] = []

    @middleware
    async def some(ctx: Any, call_next: Any) -> Any:
        return await call_next(user="ann")

    async def handler(ctx: DeepContext) -> None:
        started.append(True)

    info = error_of(drive(define(handler, [some])))
    assert "DeepContext declares db, shop, tenant, and no middleware of workflow 'w' gave it" in info.message
    assert "`call_next(db=...)`" in info.message
    assert started == []


def test_declared_fields() -> None:
    """Fields of the class, its bases and mixins; not private ones, and not those of every context."""
    assert Context.declared_fields() == frozenset()
    assert OrderContext.declared_fields() == {"db", "user", "size", "kind"}
    assert DeepContext.declared_fields() == {"db", "user", "size", "kind", "tenant", "shop"}


def test_properties_can_not_be_given() -> None:
    """A name that the class can't set is an error of ours."""

    class Fixed(Context[None]):
        @property
        def user(self) -> str:
            return "fixed"

    @middleware
    async def gives(ctx: Any, call_next: Any) -> Any:
        return await call_next(user="ann")

    @create_workflow(id="w", middleware=[gives])
    async def handler(ctx: Fixed) -> str:
        return ctx.user

    info = error_of(drive(handler))
    assert "gives 'user', which" in info.message and "declare it as a plain field" in info.message


def test_values_are_made_on_every_drive() -> None:
    """They are resources for steps: a run that goes on later gets fresh ones, and each is cleaned up."""
    opened: list[int] = []
    closed: list[int] = []

    @middleware
    async def resource(ctx: Any, call_next: Any) -> Any:
        number = len(opened) + 1
        opened.append(number)
        try:
            return await call_next(db=number)
        finally:
            closed.append(number)

    async def use(number: int) -> int:
        return number

    async def handler(ctx: NumberContext) -> list[int]:
        first = await ctx.step("a", use, ctx.db)
        if len(opened) == 1:
            await ctx.runtime.yield_now()
        return [first, await ctx.step("b", use, ctx.db)]

    assert drive(define(handler, [resource]), times=2).output == "[1,2]"
    assert opened == closed == [1, 2]


def test_a_pause_passes_through() -> None:
    """`except Exception` in a middleware does not see it, and what it returns instead is not the result."""
    seen: list[BaseException] = []

    @middleware
    async def greedy(ctx: Any, call_next: Any) -> Any:
        try:
            return await call_next()
        except Exception as error:
            seen.append(error)
            raise
        except BaseException:
            return "swallowed"

    async def handler(ctx: Context[None]) -> None:
        await ctx.wait_for_event("paid")

    run = drive(define(handler, [greedy]))
    assert (run.status, run.output, seen) == ("paused", None, [])


def test_compose_without_layers_is_the_handler() -> None:
    """Nothing is wrapped around what has no middleware."""

    async def handler() -> int:
        return 5

    assert compose([], None, lambda name, values: None, handler) is handler


def test_a_middleware_can_be_called_as_what_it_wraps() -> None:
    """For tests of it, with a `call_next` of one's own."""

    async def call_next(**values: Any) -> Any:
        return values

    @middleware
    async def gives(ctx: Any, call_next: Any) -> Any:
        return await call_next(db=ctx)

    async def main() -> Any:
        return await gives("it", call_next)

    assert asyncio.run(main()) == {"db": "it"}
    assert "test_a_middleware_can_be_called" in repr(gives)


def test_a_stray_cancelled_error_is_a_failure_of_the_middleware() -> None:
    """A CancelledError that no host has asked for puts the run off, as any failure before the handler does."""

    @middleware
    async def stray(ctx: Any, call_next: Any) -> Any:
        raise asyncio.CancelledError

    async def handler(ctx: Context[None]) -> None: ...

    run = drive(define(handler, [stray]))
    assert (run.status, run.recoveries) == ("paused", 1)
    assert run.due_at is not None
