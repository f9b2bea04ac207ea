"""What annotations say about functions: a step's result type, a handler's context, input and output types."""

from __future__ import annotations

import inspect
import sys
import types
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any, ForwardRef, Never, NoReturn, Self, TypeVar, cast, get_args, get_origin, get_type_hints
from weakref import WeakKeyDictionary

from .errors import DefinitionError, PayloadError
from .payload import PayloadType, payload_type

__all__ = ["annotations_of", "hints_of", "is_async", "result_type", "type_arguments"]

_cache: WeakKeyDictionary[Any, PayloadType] = WeakKeyDictionary()
"""Weak, so that functions made anew on every drive don't pile up."""

_OWN_CLASS = PayloadType(Any)
"""Stands for `Self`, which is another class for each that a method is bound to."""


def result_type(fn: Callable[..., Any], step_id: str) -> PayloadType:
    """The type of what a step function returns (for an `async def`: what its await gives).

    Without a return annotation, or with one that can't be resolved here, only plain JSON is taken. Raises
    `PayloadError` for an annotation that pydantic can't handle.
    """
    function = _function(fn)
    try:
        known = _cache.get(function)
        if known is None:
            known = _cache[function] = _result_type(function, step_id)
    except TypeError:  # neither a function nor a class: it can't be kept here
        known = _result_type(function, step_id)
    return known if known is not _OWN_CLASS else _stored(_class_behind(fn), step_id)


def _result_type(function: Any, step_id: str) -> PayloadType:
    try:
        annotation: Any = (
            function if inspect.isclass(function) else hints_of(function, only=("return",)).get("return", Any)
        )
    except DefinitionError as error:
        return PayloadType(Any, f"({error})")
    origin = get_origin(annotation)
    if isinstance(origin, type) and issubclass(origin, Awaitable):
        annotation = get_args(annotation)[-1]
    if annotation is Self:
        return _OWN_CLASS
    if annotation is Never or annotation is NoReturn or isinstance(annotation, TypeVar):
        annotation = Any
    return _stored(annotation, step_id)


def _stored(annotation: Any, step_id: str) -> PayloadType:
    try:
        return payload_type(annotation)
    except DefinitionError as error:
        raise PayloadError(f"The result of step {step_id!r} can't be stored: {error}") from error


def _class_behind(fn: Any) -> Any:
    """The class that a bound method's `Self` is."""
    while isinstance(fn, partial):
        fn = cast("partial[Any]", fn).func
    owner = getattr(fn, "__self__", None)
    return owner if owner is None or isinstance(owner, type) else type(owner)


def hints_of(
    function: Any, local_names: Mapping[str, Any] | None = None, *, only: Iterable[str] | None = None
) -> dict[str, Any]:
    """The resolved annotations of a function, or `only` some of them.

    Names are looked up in its module, its closure and `local_names`. Raises `DefinitionError` for one that none has.
    """
    function = _function(function)
    try:
        found = annotations_of(function)
        chosen = found if only is None else {name: found[name] for name in only if name in found}
        return _resolved(chosen, _innermost(function), {**(local_names or {}), **_closure(function)})
    except Exception as error:
        name = getattr(function, "__qualname__", repr(function))
        raise DefinitionError(
            f"The annotations of {name} can't be resolved: {error}. "
            "Define the types before it, and outside `if TYPE_CHECKING`."
        ) from error


def _resolved(annotations: dict[str, Any], function: Any, local_names: dict[str, Any]) -> dict[str, Any]:
    def stand_in() -> None: ...

    stand_in.__annotations__ = annotations
    names = getattr(function, "__globals__", None)
    if names is None:
        names = getattr(sys.modules.get(getattr(function, "__module__", None) or ""), "__dict__", {})
    return get_type_hints(stand_in, globalns=names, localns=local_names, include_extras=True)


def annotations_of(what: Any) -> dict[str, Any]:
    """The annotations of a function, or the own ones of a class, as they are written."""
    if sys.version_info >= (3, 14):
        import annotationlib

        return annotationlib.get_annotations(what, format=annotationlib.Format.FORWARDREF)
    return (
        inspect.get_annotations(what) if isinstance(what, type) else dict(getattr(what, "__annotations__", None) or {})
    )


def _closure(function: Any) -> dict[str, Any]:
    """The names that a function, and those it wraps, have from the functions around them and as type parameters."""
    names: dict[str, Any] = {}
    for layer in _layers(function):
        names.update((parameter.__name__, parameter) for parameter in getattr(layer, "__type_params__", ()))
        code, cells = getattr(layer, "__code__", None), getattr(layer, "__closure__", None) or ()
        for name, cell in zip(code.co_freevars if code is not None else (), cells, strict=False):
            try:
                names[name] = cell.cell_contents
            except ValueError:  # not filled yet
                continue
    return names


def _layers(function: Any) -> Iterator[Any]:
    seen: set[int] = set()
    while function is not None and id(function) not in seen:
        seen.add(id(function))
        yield function
        function = getattr(function, "__wrapped__", None)


def _innermost(function: Any) -> Any:
    """The innermost of what `functools.wraps` has wrapped: its module is where the annotations are written."""
    *_, innermost = _layers(function)
    return innermost


def _function(fn: Any) -> Any:
    """The plain function behind a partial, a bound method or a callable object."""
    if type(fn) is types.FunctionType:
        return fn  # the common case: this is asked for every step of every replay
    while isinstance(fn, partial):
        fn = cast("partial[Any]", fn).func
    if isinstance(fn, types.MethodType):
        return fn.__func__
    if inspect.isroutine(fn) or inspect.isclass(fn) or hasattr(fn, "__wrapped__"):
        return cast(Any, fn)
    call = getattr(cast("type[Any]", type(fn)), "__call__", None)  # noqa: B004 - whether it is callable is known; this is how
    return call if inspect.isfunction(call) else fn


def is_async(fn: Callable[..., Any]) -> bool:
    """Whether calling `fn` makes a coroutine (so that it needs no thread)."""
    if type(fn) is types.FunctionType and fn.__code__.co_flags & inspect.CO_COROUTINE:
        return True  # the common case, without a look at everything that a callable can be
    return inspect.iscoroutinefunction(_function(fn))


def type_arguments(annotation: Any, of: type) -> tuple[Any, ...]:
    """What an annotation, `of` or a subclass of it, says the type arguments of `of` are. Empty if it says nothing."""
    origin = get_origin(annotation) or annotation
    if origin is of:
        return get_args(annotation)
    given = dict(zip(getattr(origin, "__parameters__", ()), get_args(annotation), strict=False))
    bases: tuple[Any, ...] = origin.__dict__.get("__orig_bases__", origin.__bases__)
    for base in bases:
        base_origin = get_origin(base) or base
        if isinstance(base_origin, type) and issubclass(base_origin, of):
            return type_arguments(_filled_in(_resolved_base(base, origin), given), of)
    return ()


def _filled_in(base: Any, given: Mapping[Any, Any]) -> Any:
    parameters = getattr(base, "__parameters__", ())
    if not parameters or isinstance(base, type):
        return base
    return base[tuple(given.get(parameter, parameter) for parameter in parameters)]


def _resolved_base(base: Any, cls: type) -> Any:
    """A base like `Context["Order"]`, with its quoted names looked up in the module of the class."""
    if not any(isinstance(argument, (str, ForwardRef)) for argument in get_args(base)):
        return base
    try:
        return _resolved({"base": base}, cls, {})["base"]
    except Exception as error:
        raise DefinitionError(
            f"The base {base} of {cls.__qualname__} can't be resolved: {error}. Define the types before it, unquoted."
        ) from error
