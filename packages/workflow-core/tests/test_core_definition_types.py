"""Which input, output, state and context types a definition reads from annotations."""

from __future__ import annotations

import functools
import sys
from dataclasses import dataclass
from typing import Annotated, Any, Generic, NamedTuple, NotRequired, TypeVar

import pytest
from pydantic import BaseModel, Field
from typing_extensions import TypedDict

from workflow.core import Context, Retry, Workflow, create_workflow, middleware
from workflow.core.types_of import result_type, type_arguments


class Order(BaseModel):
    order_id: str


class Progress(BaseModel):
    done: int = 0
    names: list[str] = []


@dataclass
class Point:
    x: int
    y: int = 0


class Options(TypedDict):
    size: int
    color: NotRequired[str]


class Pair(NamedTuple):
    left: int
    right: str


Positive = Annotated[int, Field(gt=0)]
T = TypeVar("T")
S = TypeVar("S")


class OrderContext(Context[Order]):
    db: str


class StatefulContext(Context[Order, Progress]):
    db: str


class SubSubContext(OrderContext):
    user: str


class TenantContext(Context[T, S], Generic[T, S]):
    tenant: str


class BatchContext(Context[list[T]]):
    pass


class Named(Generic[T]):
    label: T


class MixedContext(Named[str], OrderContext):
    pass


class QuotedContext(Context["Order", "Progress"]):
    pass


def types(workflow: Workflow[Any, Any]) -> tuple[Any, Any, Any]:
    state = workflow.state_type
    return workflow.input_type.type, workflow.output_type.type, None if state is None else state.type


async def plain(ctx: Context[Order]) -> int: ...
async def stateful(ctx: Context[Order, Progress]) -> list[Point]: ...
async def no_state(ctx: Context[Order, None]) -> None: ...
async def no_input(ctx: Context[None]) -> Point | None: ...
async def quoted(ctx: Context["Order"]) -> "Order": ...  # noqa: UP037
async def bare(ctx: Context): ...
async def unannotated(ctx): ...
async def subclass(ctx: OrderContext) -> Pair: ...
async def stateful_subclass(ctx: StatefulContext) -> Options: ...
async def deep_subclass(ctx: SubSubContext) -> Positive: ...
async def generic(ctx: TenantContext[Order, Progress]) -> dict[str, list[int]]: ...
async def half_generic(ctx: TenantContext) -> None: ...
async def nested_generic(ctx: BatchContext[Order]) -> None: ...
async def mixed(ctx: MixedContext) -> None: ...
async def quoted_base(ctx: QuotedContext) -> None: ...
async def annotated(ctx: Annotated[Context[int], "the context"]) -> None: ...
async def defaulted(ctx: Context[int], more: int = 1) -> None: ...


NONE = type(None)


@pytest.mark.parametrize(
    ("handler", "input", "output", "state"),
    [
        (plain, Order, int, None),
        (stateful, Order, list[Point], Progress),
        (no_state, Order, NONE, None),
        (no_input, NONE, Point | None, None),
        (quoted, Order, Order, None),
        (bare, Any, Any, None),
        (unannotated, Any, Any, None),
        (subclass, Order, Pair, None),
        (stateful_subclass, Order, Options, Progress),
        (deep_subclass, Order, Positive, None),
        (generic, Order, dict[str, list[int]], Progress),
        (half_generic, Any, NONE, None),
        (nested_generic, list[Order], NONE, None),
        (mixed, Order, NONE, None),
        (quoted_base, Order, NONE, Progress),
        (annotated, int, NONE, None),
        (defaulted, int, NONE, None),
    ],
)
def test_types_are_read_from_annotations(handler: Any, input: Any, output: Any, state: Any) -> None:
    """The handler's only argument and its return type say what goes in, what comes out, and what is kept between."""
    assert types(create_workflow(id="w")(handler)) == (input, output, state)


def test_given_types_beat_annotations() -> None:
    """`input`, `output` and `state` are for handlers whose annotations say less."""
    workflow = create_workflow(id="w", input=Order, output=int, state=Progress)(bare)
    assert types(workflow) == (Order, int, Progress)


def test_local_types_are_found() -> None:
    """Types that are local to the function around the handler are resolved, though annotations are text here."""

    class Local(BaseModel):
        x: int

    class LocalContext(Context[Local]):
        pass

    @create_workflow(id="w")
    async def handler(ctx: LocalContext) -> Local: ...

    assert types(handler) == (Local, Local, None)


def test_only_the_annotations_that_count_must_resolve() -> None:
    """A parameter with a default may be annotated with what exists for type checkers alone."""

    async def handler(ctx: Context[int], helper: OnlyForTypeCheckers = None) -> int: ...  # noqa: F821 # pyright: ignore[reportUndefinedVariable]

    assert types(create_workflow(id="w")(handler)) == (int, int, None)


def test_wrapped_and_bound_handlers() -> None:
    """What `functools.wraps` and `partial` make of a handler, and methods, keep their types."""

    class Service:
        async def handle(self, ctx: Context[Order]) -> int: ...

    @functools.wraps(plain)
    async def wrapper(*args: Any) -> Any:
        return await plain(*args)

    async def two(more: int, ctx: Context[Order]) -> int: ...

    assert types(create_workflow(id="w")(Service().handle)) == (Order, int, None)
    assert types(create_workflow(id="w")(wrapper)) == (Order, int, None)
    assert types(create_workflow(id="w")(functools.partial(two, 1))) == (Order, int, None)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="type parameter syntax is new in Python 3.12")
def test_type_parameter_syntax() -> None:
    """Classes of PEP 695 are read like those with `Generic`."""
    names: dict[str, Any] = {"Context": Context}
    exec("class Wide[A, B](Context[A, B]): extra: str\nclass Half[A](Context[list[A]]): pass", names)
    assert type_arguments(names["Wide"][int, str], Context) == (int, str)
    assert type_arguments(names["Half"][int], Context)[0] == list[int]


def test_context_class_is_kept() -> None:
    """The drive makes the very class that the handler asks for."""
    assert create_workflow(id="w")(subclass).context_type is OrderContext
    assert create_workflow(id="w")(generic).context_type is TenantContext


def test_description_is_the_docstring() -> None:
    """Unless it is given."""

    async def documented(ctx: Context[int]) -> None:
        """Ships an order."""

    assert create_workflow(id="w")(documented).description == "Ships an order."
    assert create_workflow(id="w", description="other")(documented).description == "other"
    assert create_workflow(id="w")(plain).description is None


def test_previous_versions_are_found_through_each_other() -> None:
    """A run of any older version goes on with its own definition, however deep it is listed."""
    first = create_workflow(id="w")(plain)
    second = create_workflow(id="w", version="2", previous_versions=[first])(plain)
    third = create_workflow(id="w", version="3", previous_versions=[second, first])(plain)
    assert third.versions == ("3", "2", None)
    assert third.for_version(None) is first
    assert third.for_version("2") is second
    assert third.for_version("3") is third
    assert third.for_version("4") is None


def test_first_state_is_fresh_for_each_run() -> None:
    """Whether a type or a function makes it, no two runs share any part of it."""
    shared = Progress()
    by_type = create_workflow(id="w")(stateful)
    by_function = create_workflow(id="w", initialize=lambda _: shared)(stateful)
    for workflow in (by_type, by_function):
        workflow.initial_state(None).names.append("x")
        assert workflow.initial_state(None).names == []
    assert create_workflow(id="w")(plain).initial_state(None) is None


def test_state_is_made_from_the_input() -> None:
    """`initialize` sees the validated input."""
    workflow = create_workflow(id="w", initialize=lambda order: Progress(names=[order.order_id]))(stateful)
    assert workflow.initial_state(Order(order_id="o-1")) == Progress(names=["o-1"])


@pytest.mark.parametrize("state", [dict[str, int], list, dict, Progress, set[int]])
def test_states_that_make_themselves(state: Any) -> None:
    """Any type that can be called without arguments is a state."""
    assert create_workflow(id="w", state=state)(bare).initial_state(None) is not None


def test_workflow_keeps_its_options() -> None:
    """A definition is plain data for the runtime."""

    @middleware
    async def layer(ctx: Any, call_next: Any) -> Any:
        return await call_next()

    retry = Retry(max_attempts=5)
    workflow = create_workflow(id="w", version="1", default_retry=retry, middleware=[layer])(plain)
    assert (workflow.id, workflow.version, workflow.default_retry, workflow.middleware) == ("w", "1", retry, (layer,))
    assert workflow.handler is plain
    assert repr(workflow) == "<Workflow 'w' version '1'>"


LAZY = """
from typing import TYPE_CHECKING
from workflow.core import Context, create_workflow
if TYPE_CHECKING:
    from nowhere import Pool

class LazyContext(Context[int]):
    db: Pool

class LazyChild(LazyContext):
    user: str

def half(pool: Pool) -> Later: ...

def define():
    @create_workflow(id="lazy", input=int)
    async def handler(ctx: LazyChild, pool: Pool = None) -> Later: ...
    return handler

Later = dict[str, int]
"""


@pytest.mark.skipif(sys.version_info < (3, 14), reason="annotations are evaluated lazily from Python 3.14 on")
def test_lazily_evaluated_annotations() -> None:
    """Without `from __future__ import annotations`, names for type checkers alone are nowhere in the way."""
    names: dict[str, Any] = {"__name__": __name__}
    exec(LAZY, names)
    handler = names["define"]()
    assert types(handler) == (int, dict[str, int], None)
    assert names["LazyChild"].declared_fields() == {"db", "user"}
    assert result_type(names["half"], "a").type == dict[str, int]
