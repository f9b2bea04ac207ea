"""The type of a step's result, read from whatever kind of function the step is given."""

from __future__ import annotations

import asyncio
import functools
import gc
import logging
import math
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from typing import TYPE_CHECKING, Any, NoReturn, Self, TypeVar

import pytest
from pydantic import BaseModel

from workflow.core import Context, InMemoryRunStore, PayloadError, create_workflow, run_workflow, types_of
from workflow.core.types_of import is_async, result_type

if TYPE_CHECKING:
    from nowhere import OnlyForTypeCheckers  # pyright: ignore[reportMissingImports]

T = TypeVar("T")
NONE = type(None)


class Order(BaseModel):
    order_id: str


class Rush(Order):
    pass


class Weird:
    pass


class Service:
    async def fetch(self, order_id: str) -> Order: ...

    def count(self) -> int: ...

    @classmethod
    def make(cls) -> Order: ...

    def itself(self) -> Self: ...

    @staticmethod
    def names() -> list[str]: ...

    def __call__(self) -> set[int]: ...


class AsyncService:
    async def __call__(self) -> float: ...


def timed(fn: Callable[..., T]) -> Callable[..., T]:
    @functools.wraps(fn)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return fn(*args, **kwargs)

    return wrapper


async def coroutine() -> Order: ...
def plain() -> list[Order]: ...
def unannotated(): ...
def nothing() -> None: ...
def later() -> Awaitable[Order]: ...
def later_still() -> Coroutine[Any, Any, Order]: ...
def future() -> asyncio.Future[Order]: ...
def generic(value: T) -> T: ...
def fails() -> NoReturn: ...
def half(order: OnlyForTypeCheckers) -> Order: ...
def keyword(a: int, *, b: str) -> str: ...


@functools.lru_cache
def cached() -> int: ...


SERVICE = Service()


@pytest.mark.parametrize(
    ("fn", "expected"),
    [
        (coroutine, Order),
        (plain, list[Order]),
        (unannotated, Any),
        (nothing, NONE),
        (later, Order),
        (later_still, Order),
        (future, Order),
        (generic, Any),
        (fails, Any),
        (half, Order),
        (cached, int),
        (timed(coroutine), Order),
        (timed(timed(plain)), list[Order]),
        (functools.partial(keyword, b="x"), str),
        (functools.partial(functools.partial(SERVICE.fetch), "o"), Order),
        (SERVICE.fetch, Order),
        (SERVICE.count, int),
        (Service.make, Order),
        (Order.model_validate_json, Order),
        (Rush.model_validate_json, Rush),
        (Rush(order_id="o").model_copy, Rush),
        (functools.partial(Rush.model_construct, order_id="o"), Rush),
        (Service.names, list[str]),
        (SERVICE, set[int]),
        (AsyncService(), float),
        (Order, Order),
        (int, int),
        (lambda: 5, Any),
        (len, Any),
        (math.sqrt, Any),
        ("text".upper, Any),
    ],
    ids=lambda value: getattr(value, "__qualname__", None),
)
def test_result_types(fn: Any, expected: Any) -> None:
    """Functions, methods, classes, wrappers, partials, callable objects and builtins, each time the same."""
    assert result_type(fn, "a").type == expected
    assert result_type(fn, "a") is result_type(fn, "a")


def test_local_types() -> None:
    """A type that the function's closure knows is found by name."""

    class Local(BaseModel):
        x: int

    def make() -> list[Local]:
        return [Local(x=1)]

    assert result_type(make, "a").type == list[Local]


def test_types_that_can_not_be_found() -> None:
    """Only plain JSON is taken then, and the refusal says why."""

    def lost() -> OnlyForTypeCheckers: ...

    held = result_type(lost, "a")
    assert held.type is Any
    assert held.round_trip({"a": 1}, "X")[1] == {"a": 1}
    with pytest.raises(PayloadError, match=r"annotations of .*lost can't be resolved: name 'OnlyForTypeCheckers'"):
        held.round_trip((1,), "X")


def test_self_needs_a_method() -> None:
    """Where nothing says which class `Self` is, or pydantic can't handle that class, the step is refused."""
    with pytest.raises(PayloadError, match=r"Service is not a type that pydantic can handle"):
        result_type(SERVICE.itself, "a")


@pytest.mark.parametrize("annotation", [Weird, Iterator[int], list[Weird], "Weird"])
def test_types_that_can_not_be_stored(annotation: Any) -> None:
    """Refused when the step is asked for, before anything is done."""

    def make() -> Any: ...

    make.__annotations__ = {"return": annotation}
    with pytest.raises(PayloadError, match=r"^The result of step 'a' can't be stored: .* pydantic can handle"):
        result_type(make, "a")


def test_functions_made_on_every_drive_do_not_pile_up() -> None:
    """What is known about a function is forgotten with it."""

    def make(n: int) -> Callable[[], int]:
        def inner() -> int:
            return n

        return inner

    gc.collect()
    before = len(types_of._cache)
    for n in range(100):
        assert result_type(make(n), "a").type is int
    gc.collect()
    assert len(types_of._cache) <= before + 1


@pytest.mark.parametrize(
    ("fn", "expected"),
    [
        (coroutine, True),
        (plain, False),
        (later, False),
        (SERVICE.fetch, True),
        (SERVICE.count, False),
        (SERVICE, False),
        (AsyncService(), True),
        (functools.partial(coroutine), True),
        (functools.partial(functools.partial(SERVICE.fetch), "o"), True),
        (timed(coroutine), False),
        (len, False),
        (Order, False),
    ],
)
def test_what_needs_no_thread(fn: Any, expected: bool) -> None:
    """Only what is known to make a coroutine runs in the loop from its first line."""
    assert is_async(fn) is expected


def test_results_reach_the_handler_as_their_type() -> None:
    """Live, through the engine: each kind of step function gives what its annotation says."""

    class Local(BaseModel):
        x: int

    def make() -> list[Local]:
        return [Local(x=1)]

    async def whole() -> float:
        return 3

    @create_workflow(id="w")
    async def handler(ctx: Context[None]) -> list[str]:
        values = [
            await ctx.step("a", make),
            await ctx.step("b", whole),
            await ctx.step("c", Order.model_validate_json, '{"order_id": "o"}'),
            await ctx.step("d", len, [1, 2]),
            await ctx.step("e", functools.partial(Order, order_id="p")),
        ]
        return [repr(value) for value in values]

    async def main() -> str | None:
        store = InMemoryRunStore()
        async for _ in run_workflow(handler, store=store, run_id="r", input=None):
            pass
        run = await store.get_run("r")
        return run and (run.output or run.error)

    shown = '["[Local(x=1)]","3.0","Order(order_id=\'o\')","2","Order(order_id=\'p\')"]'
    assert asyncio.run(main()) == shown


def test_the_logger_is_silent_during_replay(caplog: pytest.LogCaptureFixture) -> None:
    """It logs each line once, however often the run is driven, with the run's id, and `extra=None` is fine."""

    async def nothing() -> None: ...

    @create_workflow(id="w")
    async def handler(ctx: Context[None]) -> None:
        ctx.logger.info("first")
        await ctx.step("a", nothing)
        ctx.logger.info("second", extra=None)
        await ctx.wait_for_event("never")

    async def main() -> None:
        store = InMemoryRunStore()
        async for _ in run_workflow(handler, store=store, run_id="r", input=None):
            pass
        async for _ in run_workflow(handler, store=store, run_id="r", recover=True):
            pass

    with caplog.at_level(logging.INFO, logger="workflow.run"):
        asyncio.run(main())
    assert [record.getMessage() for record in caplog.records] == ["first", "second"]
    assert [vars(record)["run_id"] for record in caplog.records] == ["r", "r"]
