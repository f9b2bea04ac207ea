"""`create_workflow`: an `async def` with its types, as a definition that runs refer to by id and version."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import NoneType
from typing import Any, Generic, cast, get_args, get_origin

from typing_extensions import TypeVar

from .arguments import identifier
from .context import Context, InputT, StateT
from .errors import DefinitionError, WorkflowError
from .middleware import Middleware
from .payload import PayloadType, payload_type
from .retry import Retry
from .types_of import hints_of

__all__ = ["Workflow", "create_workflow"]

OutputT = TypeVar("OutputT", default=Any)


@dataclass(frozen=True, eq=False)
class Workflow(Generic[InputT, OutputT]):
    """A workflow definition: what `create_workflow` makes of a handler. Register it with a runtime to run it."""

    id: str
    version: str | None
    description: str | None
    handler: Callable[[Any], Awaitable[OutputT]]
    context_type: type[Context[Any, Any]]
    input_type: PayloadType
    output_type: PayloadType
    state_type: PayloadType | None
    initialize: Callable[[Any], Any] | None
    default_retry: Retry | None
    middleware: tuple[Middleware, ...]
    previous_versions: tuple[Workflow[Any, Any], ...] = field(default=(), repr=False)

    def for_version(self, version: str | None) -> Workflow[Any, Any] | None:
        """The definition that a run of this version goes on with: this one, a previous one, or None."""
        return next((known for known in (self, *self.previous_versions) if known.version == version), None)

    @property
    def versions(self) -> tuple[str | None, ...]:
        return (self.version, *(previous.version for previous in self.previous_versions))

    def initial_state(self, input: Any) -> Any:
        """A fresh `ctx.state` for a run with this input; None for a workflow without state."""
        if self.initialize is not None:
            return self.initialize(input)
        return None if self.state_type is None else cast(Callable[[], Any], self.state_type.type)()

    def __repr__(self) -> str:
        return f"<Workflow {self.id!r}{'' if self.version is None else f' version {self.version!r}'}>"


def create_workflow(
    *,
    id: str,
    version: str | None = None,
    description: str | None = None,
    input: Any = None,
    output: Any = None,
    state: Any = None,
    initialize: Callable[[Any], Any] | None = None,
    default_retry: Retry | None = None,
    middleware: Sequence[Middleware] = (),
    previous_versions: Sequence[Workflow[Any, Any]] = (),
) -> Callable[[Callable[[Context[InputT, StateT]], Awaitable[OutputT]]], Workflow[InputT, OutputT]]:
    """Make the decorated `async def handler(ctx)` a `Workflow`.

    Types are read from the annotations (`Context[Input, State]`, the return type) unless `input`, `output` or `state` are
    given; anything that pydantic's `TypeAdapter` takes is a valid type, and without one only plain JSON is. `initialize(input)`
    makes the first state, else the state type is called without arguments. `default_retry` is the policy of steps that
    have none of their own; without both, a step is tried once. `previous_versions` are the definitions that runs of older
    versions go on with: same id, other versions.

    Raises `DefinitionError`, where it is written, for whatever could not run.
    """
    frame = sys._getframe(1)  # pyright: ignore[reportPrivateUsage] - types that are local to the caller
    names = {} if frame.f_locals is frame.f_globals else dict(frame.f_locals)

    def decorate(handler: Callable[..., Awaitable[OutputT]]) -> Workflow[Any, OutputT]:
        _check_handler(handler, id)
        hints = hints_of(handler, names)
        context_type, input_type, state_type = _context_types(handler, hints)
        state_type = state if state is not None else state_type
        workflow = Workflow[Any, OutputT](
            id=_named(identifier, id, "workflow id"),
            version=version if version is None else _named(identifier, version, "workflow version"),
            description=description if description is not None else inspect.getdoc(handler),
            handler=handler,
            context_type=context_type,
            input_type=_payload(input if input is not None else input_type, id, "input"),
            output_type=_payload(output if output is not None else hints.get("return", Any), id, "output"),
            state_type=None if state_type in (None, NoneType) else _payload(state_type, id, "state"),
            initialize=initialize,
            default_retry=default_retry,
            middleware=_checked_middleware(middleware, id),
            previous_versions=_checked_versions(previous_versions, id, version),
        )
        _check_state(workflow)
        return workflow

    return decorate


def _check_handler(handler: Any, id: Any) -> None:
    if not isinstance(id, str) or not id:
        raise DefinitionError(f"A workflow needs an id, a non-empty string: create_workflow(id=...), not {id!r}.")
    if isinstance(handler, Workflow):
        raise DefinitionError(f"Workflow {id!r}: the handler is already a workflow; decorate a plain `async def`.")
    if not inspect.iscoroutinefunction(handler):
        raise DefinitionError(f"Workflow {id!r}: the handler must be an `async def`, and {handler!r} is not.")
    parameters = list(inspect.signature(handler).parameters.values())
    required = [p for p in parameters if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    if not parameters or len(required) > 1 or parameters[0].kind is inspect.Parameter.KEYWORD_ONLY:
        raise DefinitionError(f"Workflow {id!r}: the handler must take exactly one argument: `async def handler(ctx: Context[...])`.")


def _context_types(handler: Any, hints: Mapping[str, Any]) -> tuple[type[Context[Any, Any]], Any, Any]:
    """The context class and the input and state types that the handler's argument is annotated with."""
    first = next(iter(inspect.signature(handler).parameters))
    annotation = hints.get(first, Context)
    origin = get_origin(annotation) or annotation
    if not (isinstance(origin, type) and issubclass(origin, Context)):
        raise DefinitionError(
            f"The argument of {handler.__qualname__} must be annotated with Context[...] or a subclass of it, not {annotation!r}."
        )
    input_type, state_type = _arguments(annotation)
    context_type = cast(type[Context[Any, Any]], origin)
    context_type.declared_fields()
    return context_type, input_type, state_type


def _arguments(annotation: Any) -> tuple[Any, Any]:
    """`Input` and `State` of `Context[Input, State]`, found through subclasses of it."""
    origin = get_origin(annotation) or annotation
    if origin is Context:
        arguments = [Any if type(a).__name__ == "TypeVar" else a for a in get_args(annotation)]
        return arguments[0] if arguments else Any, arguments[1] if len(arguments) > 1 else None
    for base in getattr(origin, "__orig_bases__", ()):
        base_origin = get_origin(base) or base
        if isinstance(base_origin, type) and issubclass(base_origin, Context):
            values = dict(zip(getattr(origin, "__parameters__", ()), get_args(annotation), strict=False))
            inner = get_args(base)
            return _arguments(base_origin[tuple(values.get(a, a) for a in inner)] if inner else base_origin)
    return Any, None


def _payload(type_: Any, id: str, what: str) -> PayloadType:
    try:
        return payload_type(type_)
    except DefinitionError as error:
        raise DefinitionError(f"Workflow {id!r}, type of its {what}: {error}") from error


def _named(check: Callable[[str, str], str], value: str, name: str) -> str:
    try:
        return check(value, name)
    except WorkflowError as error:
        raise DefinitionError(str(error)) from error


def _checked_middleware(layers: Sequence[Any], id: str) -> tuple[Middleware, ...]:
    for layer in layers:
        if not isinstance(layer, Middleware):
            raise DefinitionError(f"Workflow {id!r}: {layer!r} is not a middleware; decorate it with @middleware.")
    return tuple(layers)


def _checked_versions(previous: Sequence[Any], id: str, version: str | None) -> tuple[Workflow[Any, Any], ...]:
    seen = {version}
    for other in previous:
        if not isinstance(other, Workflow) or other.id != id:
            raise DefinitionError(f"Workflow {id!r}: previous_versions takes workflows of the same id, not {other!r}.")
        if other.version in seen:
            raise DefinitionError(f"Workflow {id!r}: version {other.version!r} is there twice; give each definition its own.")
        seen.add(other.version)
    return tuple(cast("Sequence[Workflow[Any, Any]]", previous))


def _check_state(workflow: Workflow[Any, Any]) -> None:
    if workflow.initialize is not None and workflow.state_type is None:
        raise DefinitionError(
            f"Workflow {workflow.id!r} has `initialize` but no state type: annotate Context[Input, State], or give state=."
        )
    if workflow.state_type is not None and workflow.initialize is None:
        try:
            workflow.initial_state(None)
        except Exception as error:
            raise DefinitionError(
                f"Workflow {workflow.id!r}: {workflow.state_type.name} can't be made without arguments ({error}). "
                "Give its fields defaults, or give initialize=lambda input: ..."
            ) from error
