"""Middleware: an onion around one drive of the handler, on the host's own event loop.

    @middleware
    async def with_db(ctx, call_next):
        async with pool() as db:
            return await call_next(db=db)

The keywords become attributes of `ctx`. They are made afresh on every drive: resources for steps, not recorded facts.
When the run pauses, `call_next` raises the internal suspension (a `BaseException`), so `finally` and `async with` clean
up. `call_next` is awaited exactly once, and what it returns is the handler's result: return it.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol

from .errors import DefinitionError, MiddlewareError

__all__ = ["CallNext", "Middleware", "compose", "middleware"]


class CallNext(Protocol):
    """Go on to the next middleware, or to the handler, and return what it returns. To be awaited exactly once."""

    def __call__(self, **values: Any) -> Awaitable[Any]: ...


class Middleware:
    """A function `(ctx, call_next)` that `@middleware` has checked."""

    __slots__ = ("function", "name")

    def __init__(self, function: Callable[[Any, CallNext], Awaitable[Any]]) -> None:
        self.function = function
        self.name: str = getattr(function, "__qualname__", repr(function))

    def __call__(self, ctx: Any, call_next: CallNext) -> Awaitable[Any]:
        return self.function(ctx, call_next)

    def __repr__(self) -> str:
        return f"<middleware {self.name}>"


def middleware(function: Callable[[Any, CallNext], Awaitable[Any]]) -> Middleware:
    """Make an `async def (ctx, call_next)` a middleware. Raises `DefinitionError` for anything else."""
    name = getattr(function, "__qualname__", repr(function))
    if inspect.isasyncgenfunction(function):
        raise DefinitionError(f"Middleware {name} must not `yield`: write `return await call_next(...)` where it does.")
    if not inspect.iscoroutinefunction(function):
        raise DefinitionError(f"A middleware must be an `async def`, and {function!r} is not.")
    try:
        inspect.signature(function).bind(None, None)
    except TypeError as error:
        raise DefinitionError(f"Middleware {name} must take two arguments, (ctx, call_next): {error}.") from error
    return Middleware(function)


def compose(
    middlewares: Sequence[Middleware],
    ctx: Any,
    give: Callable[[str, dict[str, Any]], None],
    handler: Callable[[], Awaitable[Any]],
) -> Callable[[], Awaitable[Any]]:
    """The whole onion as one call. `give(middleware name, values)` puts what a middleware gives onto the context."""
    call = handler
    for layer in reversed(middlewares):
        call = _Layer(layer, ctx, give, call)
    return call


class _Layer:
    """One middleware around the rest. Sees to it that `call_next` is called exactly once."""

    def __init__(
        self,
        layer: Middleware,
        ctx: Any,
        give: Callable[[str, dict[str, Any]], None],
        inner: Callable[[], Awaitable[Any]],
    ) -> None:
        self._layer = layer
        self._ctx = ctx
        self._give = give
        self._inner = inner
        self._called = False
        self._result: Any = None

    async def __call__(self) -> Any:
        result = await self._layer(self._ctx, self._call_next)
        if not self._called:
            raise MiddlewareError(
                f"Middleware {self._layer.name} returned without awaiting call_next, so the handler never ran. "
                "Await it exactly once, or raise an error to fail the run."
            )
        if result is None and self._result is not None:
            raise MiddlewareError(
                f"Middleware {self._layer.name} returned None, and the handler's result is lost: write "
                "`return await call_next(...)`."
            )
        return result

    async def _call_next(self, **values: Any) -> Any:
        if self._called:
            raise MiddlewareError(
                f"Middleware {self._layer.name} called call_next twice; a drive runs the handler once."
            )
        self._called = True
        self._give(self._layer.name, values)
        self._result = await self._inner()
        return self._result
