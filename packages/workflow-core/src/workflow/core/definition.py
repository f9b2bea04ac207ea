"""`create_workflow`: an `async def` with its types, as a definition that runs refer to by id and version."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import NoneType
from typing import TYPE_CHECKING, Annotated, Any, Generic, Protocol, cast, get_args, get_origin, overload

from typing_extensions import TypeVar

from .arguments import identifier
from .context import Context, InputT, StateT
from .errors import DefinitionError, WorkflowError
from .middleware import Middleware
from .payload import PayloadType, payload_type
from .retry import Retry
from .types_of import hints_of, type_arguments

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
        if version == self.version:
            return self
        return next((known for known in self.previous_versions if known.version == version), None)

    @property
    def versions(self) -> tuple[str | None, ...]:
        """Every version whose runs this definition can go on with; its own is the first."""
        return (self.version, *(previous.version for previous in self.previous_versions))

    def initial_state(self, input: Any) -> Any:
        """A fresh `ctx.state` for a run with this input; None for a workflow without state.

        It is what its JSON gives back, so that no two runs share a part of it. Raises `PayloadError` for a state that
        JSON can't hold, and whatever `initialize` raises.
        """
        if self.state_type is None:
            return None
        make = cast(Callable[[], Any], self.state_type.type)
        state = make() if self.initialize is None else self.initialize(input)
        return self.state_type.round_trip(state, f"The first state of workflow {self.id!r}")[1]

    def __repr__(self) -> str:
        return f"<Workflow {self.id!r}{'' if self.version is None else f' version {self.version!r}'}>"


if TYPE_CHECKING:
    _ContextT = TypeVar("_ContextT", bound=Context[Any, Any])

    def _input_of(ctx: Context[InputT, Any]) -> InputT: ...

    class _Decorator(Protocol):
        """What `create_workflow(...)` gives, as type checkers see it."""

        @overload
        def __call__(
            self, handler: Callable[[Context[InputT, StateT]], Awaitable[OutputT]], /
        ) -> Workflow[InputT, OutputT]: ...
        @overload
        def __call__(
            self,
            handler: Callable[[_ContextT], Awaitable[OutputT]],
            /,
            # Never given: its default tells a type checker the input of a subclass of Context.
            _input: Callable[[_ContextT], InputT] = _input_of,
        ) -> Workflow[InputT, OutputT]: ...


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
) -> _Decorator:
    """Make the decorated `async def handler(ctx)` a `Workflow`.

    - `id` names the workflow in stores; runs refer to it for ever. `version` tells definitions of one id apart, and
      `previous_versions` are those that runs of older versions go on with (theirs count as well).
    - Types are read from the annotations (`Context[Input, State]`, the return type) unless `input`, `output` or `state`
      are given. Anything that pydantic's `TypeAdapter` takes is a valid type; without one, only plain JSON is.
    - `initialize(input)` makes the first state, else the state type is called without arguments.
    - `default_retry` is the policy of steps that have none of their own; without both, a step is tried once.
    - `middleware` wraps each drive of the handler, the first one outermost.

    Raises `DefinitionError`, where it is written, for whatever could not run.
    """
    frame = sys._getframe(1)  # pyright: ignore[reportPrivateUsage] - types that are local to the caller
    names = {} if frame.f_locals is frame.f_globals else dict(frame.f_locals)
    _check_id(id)
    if version is not None:
        version = _named(version, f"Workflow {id!r}: the version")

    def decorate(handler: Callable[[Any], Awaitable[OutputT]]) -> Workflow[Any, OutputT]:
        _check_handler(handler, id)
        hints = _hints_of_handler(handler, names, id)
        context_type, input_type, state_type = _context_types(handler, hints, id)
        state_type = state if state is not None else state_type
        workflow = Workflow[Any, OutputT](
            id=_named(id, "The id of a workflow"),
            version=version,
            description=description if description is not None else inspect.getdoc(handler),
            handler=handler,
            context_type=context_type,
            input_type=_payload(input if input is not None else input_type, id, "input"),
            output_type=_payload(output if output is not None else hints.get("return", Any), id, "output"),
            state_type=None if state_type is None or state_type is NoneType else _payload(state_type, id, "state"),
            initialize=initialize,
            default_retry=_checked_retry(default_retry, id),
            middleware=_checked_middleware(middleware, id),
            previous_versions=_checked_versions(previous_versions, id, version),
        )
        _check_state(workflow)
        return workflow

    return cast("_Decorator", decorate)


def _check_id(id: Any) -> None:
    if not isinstance(id, str) or not id:
        raise DefinitionError(f'A workflow needs an id, a non-empty string: create_workflow(id="orders"), not {id!r}.')


def _check_handler(handler: Any, id: str) -> None:
    if isinstance(handler, Workflow):
        raise DefinitionError(f"Workflow {id!r}: the handler is already a workflow; decorate a plain `async def`.")
    if inspect.isasyncgenfunction(handler):
        raise DefinitionError(
            f"Workflow {id!r}: the handler must not `yield`: return its result, and use ctx.emit for more."
        )
    if not inspect.iscoroutinefunction(handler):
        raise DefinitionError(f"Workflow {id!r}: the handler must be an `async def`, and {handler!r} is not.")
    try:
        inspect.signature(handler).bind(None)
    except TypeError as error:
        raise DefinitionError(
            f"Workflow {id!r}: the handler must take exactly one argument, `async def handler(ctx: Context[...])` "
            f"({error}). What else it needs comes with the input, or from middleware."
        ) from error


def _hints_of_handler(handler: Any, names: Mapping[str, Any], id: str) -> dict[str, Any]:
    try:
        return hints_of(handler, names, only=(_first_parameter(handler), "return"))
    except DefinitionError as error:
        raise DefinitionError(f"Workflow {id!r}: {error}") from error


def _first_parameter(handler: Any) -> str:
    return next(iter(inspect.signature(handler).parameters))


def _context_types(handler: Any, hints: Mapping[str, Any], id: str) -> tuple[type[Context[Any, Any]], Any, Any]:
    """The context class and the input and state types that the handler's argument is annotated with."""
    annotation = hints.get(_first_parameter(handler), Context)
    if get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    origin = get_origin(annotation) or annotation
    if not (isinstance(origin, type) and issubclass(origin, Context)):
        raise DefinitionError(
            f"Workflow {id!r}: the argument of its handler must be annotated with Context[...] or a subclass of it, "
            f"not {annotation!r}: `async def handler(ctx: Context[Input])`."
        )
    context_type = cast(type[Context[Any, Any]], origin)
    context_type.declared_fields()
    arguments = type_arguments(annotation, Context)
    input_type, state_type = (*arguments, None) if len(arguments) == 1 else arguments or (Any, None)
    # A type variable that nobody filled in: any input, and no state.
    return context_type, _filled(input_type, Any), _filled(state_type, None)


def _filled(type_: Any, default: Any) -> Any:
    # Those of `typing` and of `typing_extensions` are not always of one class.
    return default if type(type_).__name__ == "TypeVar" else type_


def _payload(type_: Any, id: str, what: str) -> PayloadType:
    try:
        return payload_type(type_)
    except DefinitionError as error:
        raise DefinitionError(f"Workflow {id!r}, type of its {what}: {error}") from error


def _named(value: str, name: str) -> str:
    try:
        return identifier(value, name)
    except WorkflowError as error:
        raise DefinitionError(str(error)) from error


def _checked_retry(retry: Any, id: str) -> Retry | None:
    if retry is None or isinstance(retry, Retry):
        return retry
    raise DefinitionError(f"Workflow {id!r}: default_retry must be a Retry(...), not {retry!r}.")


def _checked_middleware(layers: Any, id: str) -> tuple[Middleware, ...]:
    for layer in _listed(layers, id, "middleware"):
        if not isinstance(layer, Middleware):
            raise DefinitionError(f"Workflow {id!r}: {layer!r} is not a middleware; decorate it with @middleware.")
    return tuple(layers)


def _listed(values: Any, id: str, name: str) -> Sequence[Any]:
    if isinstance(values, (list, tuple)):
        return cast("Sequence[Any]", values)
    raise DefinitionError(f"Workflow {id!r}: {name} takes a list, not {values!r}: write {name}=[...].")


def _checked_versions(previous: Any, id: str, version: str | None) -> tuple[Workflow[Any, Any], ...]:
    """The previous versions and theirs, each once."""
    found: dict[str | None, Workflow[Any, Any]] = {}
    for given in _listed(previous, id, "previous_versions"):
        if not isinstance(given, Workflow) or given.id != id:
            raise DefinitionError(
                f"Workflow {id!r}: previous_versions takes other versions of this workflow, made by "
                f"create_workflow(id={id!r}, version=...), not {given!r}."
            )
        for other in (cast("Workflow[Any, Any]", given), *given.previous_versions):
            if other.version == version or found.setdefault(other.version, other) is not other:
                raise DefinitionError(
                    f"Workflow {id!r}: version {other.version!r} is there twice; "
                    "give each definition a version=... of its own."
                )
    return tuple(found.values())


def _check_state(workflow: Workflow[Any, Any]) -> None:
    """Make a first state now, where that needs no input: a state type that can't be made would fail every run."""
    make = workflow.initialize
    if make is None:
        _check_default_state(workflow)
    elif workflow.state_type is None:
        raise DefinitionError(
            f"Workflow {workflow.id!r} has `initialize` but no state type: annotate Context[Input, State], or give "
            "state=."
        )
    elif not callable(make) or inspect.iscoroutinefunction(make):
        raise DefinitionError(
            f"Workflow {workflow.id!r}: initialize must be a plain function of the input, not {make!r}. "
            "What has to be awaited belongs in a step."
        )


def _check_default_state(workflow: Workflow[Any, Any]) -> None:
    try:
        workflow.initial_state(None)
    except Exception as error:
        assert workflow.state_type is not None
        raise DefinitionError(
            f"Workflow {workflow.id!r}: a first {workflow.state_type.name} can't be made without arguments ({error}). "
            "Give its fields defaults, or give initialize=lambda input: ..."
        ) from error
