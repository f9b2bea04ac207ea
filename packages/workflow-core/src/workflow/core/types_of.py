"""What annotations say about functions: a step's result type, a handler's context, input and output types."""

from __future__ import annotations

import inspect
import types
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from functools import partial
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from .errors import DefinitionError, PayloadError
from .payload import PayloadType, payload_type

__all__ = ["hints_of", "is_async", "result_type"]

_cache: dict[Any, PayloadType] = {}


def result_type(fn: Callable[..., Any], step_id: str) -> PayloadType:
    """The type of what a step function returns (for an `async def`: what its await gives).

    Without an annotation, or with one that can't be resolved here, only plain JSON is taken.
    """
    function = _function(fn)
    if not getattr(function, "__annotations__", None):
        return payload_type(Any)
    known = _cache.get(function)
    if known is None:
        known = _annotated_result(function, step_id)
        # Functions made anew on every drive (closures) must not pile up here.
        if getattr(function, "__closure__", None) is None and len(_cache) < 10_000:
            _cache[function] = known
    return known


def _annotated_result(function: Any, step_id: str) -> PayloadType:
    try:
        annotation = hints_of(function).get("return", Any)
    except DefinitionError:
        return payload_type(Any)
    if get_origin(annotation) in (Awaitable, Coroutine):
        annotation = get_args(annotation)[-1]
    if isinstance(annotation, TypeVar):
        annotation = Any
    try:
        return payload_type(annotation)
    except DefinitionError as error:
        raise PayloadError(f"The result of step {step_id!r} can't be stored: {error}") from error


def hints_of(function: Any, local_names: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The resolved annotations of a function; names are looked up in its module, its closure and `local_names`.

    Raises `DefinitionError` for a name that none of them has.
    """
    names: dict[str, Any] = dict(local_names or {})
    for name, cell in zip(getattr(function, "__code__", _NO_CODE).co_freevars, function.__closure__ or (), strict=False):
        try:
            names[name] = cell.cell_contents
        except ValueError:  # not filled yet
            continue
    try:
        return get_type_hints(function, localns=names, include_extras=True)
    except Exception as error:
        name = getattr(function, "__qualname__", repr(function))
        raise DefinitionError(
            f"The annotations of {name} can't be resolved: {error}. "
            "Define the types before it at module level, and outside `if TYPE_CHECKING`."
        ) from error


class _NoCode:
    co_freevars: tuple[str, ...] = ()


_NO_CODE = _NoCode()


def _function(fn: Any) -> Any:
    """The plain function behind a partial, a bound method or a callable object."""
    while isinstance(fn, partial):
        fn = fn.func  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType]
    if isinstance(fn, types.MethodType):
        return fn.__func__
    if inspect.isroutine(fn) or inspect.isclass(fn):  # pyright: ignore[reportUnknownArgumentType]
        return fn  # pyright: ignore[reportUnknownVariableType]
    call = getattr(type(fn), "__call__", None)  # pyright: ignore[reportUnknownArgumentType]  # noqa: B004
    return call if inspect.isfunction(call) else fn  # pyright: ignore[reportUnknownVariableType]


def is_async(fn: Callable[..., Any]) -> bool:
    """Whether calling `fn` makes a coroutine (so that it needs no thread)."""
    return inspect.iscoroutinefunction(_function(fn))
