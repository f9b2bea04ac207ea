"""Bad definitions fail where they are written, with a message that says what to do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel
from typing_extensions import TypedDict

from workflow.core import Context, DefinitionError, Retry, create_workflow, middleware


class Order(BaseModel):
    order_id: str


class Unfinished(BaseModel):
    later: NeverDefined  # noqa: F821 # pyright: ignore[reportUndefinedVariable]


class Needy(TypedDict):
    size: int


class Weird:
    pass


async def good(ctx: Context[Order]) -> int: ...
async def stateful(ctx: Context[Order, Order]) -> int: ...


def sync(ctx: Context[Order]) -> int: ...
async def generator(ctx: Context[Order]) -> Any:
    yield 1


async def no_argument() -> int: ...
async def two_arguments(ctx: Context[Order], more: int) -> int: ...
async def keyword_argument(*, ctx: Context[Order]) -> int: ...
async def needs_keyword(ctx: Context[Order], *, db: str) -> int: ...
async def only_keywords(**ctx: Any) -> int: ...
async def not_a_context(ctx: Order) -> int: ...
async def unknown_name(ctx: Context[Missing]) -> int: ...  # noqa: F821 # pyright: ignore[reportUndefinedVariable]
async def unknown_result(ctx: Context[Order]) -> Missing: ...  # noqa: F821 # pyright: ignore[reportUndefinedVariable]
async def weird_input(ctx: Context[Weird]) -> int: ...
async def weird_output(ctx: Context[Order]) -> Iterator[int]: ...
async def unfinished(ctx: Context[Unfinished]) -> int: ...
async def unhandled_state(ctx: Context[Order, Weird]) -> int: ...
async def needy_state(ctx: Context[Order, Needy]) -> int: ...
async def union_state(ctx: Context[Order, int | str]) -> int: ...


def define(handler: Any = good, **options: Any) -> Any:
    return create_workflow(**{"id": "w", **options})(handler)


@pytest.mark.parametrize(
    ("handler", "says"),
    [
        (sync, "must be an `async def`"),
        (generator, "must not `yield`: return its result"),
        (5, "must be an `async def`"),
        (create_workflow(id="w")(good), "decorate a plain `async def`"),
        (no_argument, "exactly one argument, `async def handler(ctx: Context[...])`"),
        (two_arguments, "missing a required argument: 'more'"),
        (keyword_argument, "exactly one argument"),
        (needs_keyword, "from middleware"),
        (only_keywords, "exactly one argument"),
        (not_a_context, "`async def handler(ctx: Context[Input])`"),
        (unknown_name, "name 'Missing' is not defined. Define the types before it"),
        (unknown_result, "name 'Missing' is not defined"),
        (weird_input, "type of its input: Weird is not a type that pydantic can handle"),
        (weird_output, "Iterator[int] is not a type that pydantic can handle"),
        (unfinished, "define what it refers to before"),
        (unhandled_state, "type of its state: Weird is not a type that pydantic can handle"),
        (stateful, "a first Order can't be made without arguments"),
        (needy_state, "Give its fields defaults, or give initialize="),
        (union_state, "can't be made without arguments"),
    ],
)
def test_handlers(handler: Any, says: str) -> None:
    """What could not run is refused, and the message names the workflow and the remedy."""
    with pytest.raises(DefinitionError) as refused:
        define(handler)
    assert says in str(refused.value)
    assert "orkflow 'w'" in str(refused.value)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"id": ""}, 'create_workflow(id="orders")'),
        ({"id": None}, "non-empty string"),
        ({"id": 5}, "not 5"),
        ({"id": "a\nb"}, "control characters"),
        ({"id": "   "}, "blank"),
        ({"id": "x" * 600}, "at most 512"),
        ({"id": "\ud800"}, "lone surrogates"),
        ({"version": ""}, "must not be empty"),
        ({"version": 2}, "must be a string, not int"),
        ({"input": Weird}, "type of its input"),
        ({"output": Weird}, "type of its output"),
        ({"initialize": lambda _: None}, "no state type"),
        ({"state": dict, "initialize": 5}, "must be a plain function"),
        ({"state": dict, "initialize": good}, "must be a plain function"),
        ({"default_retry": 3}, "must be a Retry(...), not 3"),
        ({"middleware": good}, "middleware takes a list"),
        ({"middleware": [good]}, "decorate it with @middleware"),
        ({"previous_versions": define()}, "previous_versions takes a list"),
        ({"previous_versions": [good]}, "other versions of this workflow"),
        ({"previous_versions": [define(id="other")]}, "not <Workflow 'other'>"),
        ({"previous_versions": [define()]}, "version None is there twice"),
        ({"version": "2", "previous_versions": [define(), define()]}, "version None is there twice"),
        ({"version": "2", "previous_versions": [define(version="2")]}, "version '2' is there twice"),
    ],
)
def test_options(options: dict[str, Any], says: str) -> None:
    """Each option is checked when the workflow is defined, not when the first run comes."""
    with pytest.raises(DefinitionError) as refused:
        define(**options)
    assert says in str(refused.value)


def test_nested_duplicate_versions() -> None:
    """Two different definitions of one version are refused also where one of them is listed by another."""
    second = define(version="2", previous_versions=[define(version="1")])
    with pytest.raises(DefinitionError, match="'1' is there twice"):
        define(version="3", previous_versions=[second, define(version="1")])


def test_an_id_is_checked_before_there_is_a_handler() -> None:
    """The error points to the line that has the bad id."""
    with pytest.raises(DefinitionError):
        create_workflow(id="")


@pytest.mark.parametrize("name", ["run_id", "input", "state", "step", "now", "logger", "runtime", "declared_fields"])
def test_fields_that_shadow(name: str) -> None:
    """A context class can't declare what every context has."""
    shadowing = type("Shadowing", (Context,), {"__annotations__": {name: str}})

    async def handler(ctx): ...

    handler.__annotations__ = {"ctx": shadowing}
    with pytest.raises(DefinitionError, match=rf"Shadowing declares {name}.*choose another name"):
        define(handler)


def test_methods_and_mixins_that_shadow() -> None:
    """A method or a mixin's field is no better than a field."""

    class Method(Context[Order]):
        def sleep(self) -> None: ...  # pyright: ignore[reportIncompatibleMethodOverride]

    class Mixin:
        logger: str

    class Mixed(Mixin, Context[Order]):  # pyright: ignore[reportIncompatibleVariableOverride]
        pass

    for cls, named in ((Method, "Method declares sleep"), (Mixed, "Mixin declares logger")):

        async def handler(ctx: Any) -> None: ...

        handler.__annotations__ = {"ctx": cls}
        with pytest.raises(DefinitionError, match=named):
            define(handler)


@pytest.mark.parametrize("kind", ["sync", "generator", "one", "three", "keyword", "object"])
def test_bad_middleware(kind: str) -> None:
    """A middleware is an `async def (ctx, call_next)`."""

    def plain(ctx: Any, call_next: Any) -> Any: ...
    async def yields(ctx: Any, call_next: Any) -> Any:
        yield

    async def one(ctx: Any) -> Any: ...
    async def three(ctx: Any, call_next: Any, more: Any) -> Any: ...
    async def keyword(ctx: Any, call_next: Any, *, more: Any) -> Any: ...

    given: Any = {
        "sync": plain,
        "generator": yields,
        "one": one,
        "three": three,
        "keyword": keyword,
        "object": object(),
    }[kind]
    with pytest.raises(DefinitionError, match=r"async def|yield|two arguments"):
        middleware(given)


def test_middleware_with_defaults() -> None:
    """Further parameters with defaults are fine."""

    async def tunable(ctx: Any, call_next: Any, size: int = 1) -> Any: ...
    async def anything(*args: Any) -> Any: ...

    assert [middleware(tunable).name, middleware(anything).name] == [tunable.__qualname__, anything.__qualname__]
    assert Retry() == Retry()
