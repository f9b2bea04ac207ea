"""Values that `==` or JSON would change silently, types that need help, and what the refusals say."""

from __future__ import annotations

import enum
import json
import math
import sys
from collections import Counter, OrderedDict, defaultdict, deque
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from functools import cached_property
from typing import Any, ForwardRef, NamedTuple
from uuid import uuid4
from zoneinfo import ZoneInfo

import pytest
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    RootModel,
    SecretStr,
    computed_field,
    field_validator,
)
from pydantic import (
    Json as JsonText,
)
from typing_extensions import TypedDict

from workflow.core.errors import DefinitionError, PayloadError
from workflow.core.payload import Json, check_size, payload_type, plain_text

BERLIN = ZoneInfo("Europe/Berlin")


class Color(enum.StrEnum):
    RED = "red"


class Pair(NamedTuple):
    left: int
    right: int


class Name(str):
    pass


class Animal(BaseModel):
    name: str


class Dog(Animal):
    breed: str


class ById(BaseModel):
    id: int
    note: str = Field(default="", exclude=True)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ById) and other.id == self.id


class Hidden(BaseModel):
    shown: int
    _hidden: int = PrivateAttr(default=0)


class Secret(BaseModel):
    token: SecretStr


class Raw(BaseModel):
    data: bytes


class Base64(BaseModel):
    model_config = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")
    data: bytes


class Swapped(BaseModel):
    a: int = Field(alias="b")
    b: int = Field(alias="a")


class Aliased(BaseModel):
    model_config = ConfigDict(extra="forbid")
    order_id: str = Field(alias="orderId")
    price: float = Field(validation_alias="cost", serialization_alias="amount")

    @computed_field
    @property
    def double(self) -> float:
        return self.price * 2


class Cached(BaseModel):
    x: int

    @cached_property
    def expensive(self) -> int:
        return self.x + 1


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")


class Options(TypedDict, total=False):
    size: int
    color: str


class Embedded(BaseModel):
    text: JsonText[list[int]]


class Numbers(RootModel[list[int]]):
    pass


class Picky(BaseModel):
    x: int

    @field_validator("x")
    @classmethod
    def check(cls, value: int) -> int:
        return {1: 1}[value]  # a KeyError, which pydantic does not take for a refusal


class Wrong(BaseModel):
    at: datetime = Field(default_factory=lambda: datetime.now(UTC))
    fresh: str = Field(default_factory=lambda: str(uuid4()), exclude=True)


@dataclass
class Point:
    x: float
    y: float = 0


class Hostile:
    def __repr__(self) -> str:
        raise RuntimeError("no repr")

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("no eq")

    __hash__ = None  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("type_", "value"),
    [
        (int, True),
        (float, True),
        (float, 2**53 + 1),
        (int, 1.0),
        (bool, 1),
        (list[int], [1, True]),
        (dict[str, Any], {"a": {"b": (1, 2)}}),
        (dict[str, Any], {"a": Color.RED}),
        (Any, [1, {"a": Color.RED}]),
        (Any, {1: "a"}),
        (Any, Name("x")),
        (str, Color.RED),
        (str, Name("x")),
        (dict[str, int], {Color.RED: 1}),
        (dict[bool, int], {1: 1}),
        (set[int], {True}),
        (tuple[int, int], Pair(1, 2)),
        (list[int], (1, 2)),
        (dict[str, int], OrderedDict(a=1)),
        (dict[str, int], defaultdict(int, a=1)),
        (deque[int], deque([1], maxlen=3)),
        (float, math.nan),
        (float | None, math.inf),
        (datetime, datetime(2026, 7, 1, 9, tzinfo=BERLIN)),
        (datetime, datetime(2026, 10, 25, 2, 30, fold=1)),  # noqa: DTZ001
        (datetime, datetime(2026, 1, 1, tzinfo=timezone(timedelta(seconds=61)))),
        (Animal, Dog(name="Rex", breed="Pug")),
        (list[Animal], [Dog(name="Rex", breed="Pug")]),
        (ById, ById(id=1, note="lost")),
        (Secret, Secret(token=SecretStr("x"))),
        (Raw, Raw(data=b"\xff")),
        (Swapped, Swapped.model_validate({"a": 1, "b": 2})),
        (Wrong, Wrong()),
        (int, 10**5000),
        (Any, 10**5000),
        (str, "\ud800"),
        (Any, {"\ud800": 1}),
        (dict[str, int], {"\ud800": 1}),
        (Any, object()),
        (Any, Hostile()),
        (Any, [Hostile()]),
        (dict[str, Any], {"a": Hostile()}),
    ],
    ids=lambda value: "big" if type(value) is int and value > 2**60 else None,
)
def test_silent_changes_are_refused(type_: Any, value: Any) -> None:
    """What would come back as something else, however equal or readable, is refused, and only by PayloadError."""
    with pytest.raises(PayloadError, match=r"^The result of step 'a'.*: "):
        payload_type(type_).round_trip(value, "The result of step 'a'")


def test_lost_private_attributes_are_refused() -> None:
    """A private attribute is not written; that matters where it isn't what a fresh model has."""
    changed = Hidden(shown=1)
    assert payload_type(Hidden).round_trip(changed, "X")[1] == changed
    changed._hidden = 5
    with pytest.raises(PayloadError, match=r"_hidden: 5 \(int\) would come back from JSON as 0"):
        payload_type(Hidden).round_trip(changed, "X")


@pytest.mark.parametrize(
    ("type_", "value"),
    [
        (float, 5),
        (list[float], [1, 2.5]),
        (float, -0.0),
        (Any, -0.0),
        (str, "a\x00b"),
        (Any, {"": None, "a\x00": [1, 1.0, True, "x"]}),
        (datetime, datetime.now(UTC)),
        (datetime, datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=5, minutes=30)))),
        (datetime, datetime(2026, 1, 1, tzinfo=ZoneInfo("UTC"))),
        (Base64, Base64(data=b"\xff\x00")),
        (bytes, b"\xff\x00"),
        (Aliased, Aliased.model_validate({"orderId": "o", "cost": 1.5})),
        (Embedded, Embedded.model_validate({"text": "[1, 2]"})),
        (Numbers, Numbers([1, 2])),
        (Open, Open.model_validate({"x": 1, "y": [None]})),
        (Options, {"color": "red", "size": 1}),
        (Options, {}),
        (Counter[str], Counter("hello")),
        (defaultdict[str, int], defaultdict(int, a=1)),
        (dict[Color, list[Point]], {Color.RED: [Point(1.0), Point(2.0, 3)]}),
        (Pair, Pair(1, 2)),
        (int, 10**4000),
        (type(None), None),
        (Animal | Dog, Dog(name="Rex", breed="Pug")),
    ],
    ids=lambda value: "big" if type(value) is int and value > 2**60 else None,
)
def test_what_comes_back_right(type_: Any, value: Any) -> None:
    """These need nothing but their annotation."""
    held = payload_type(type_)
    text, back = held.round_trip(value, "X")
    assert back == value and repr(held.decode(text, "X")) == repr(back)


def test_an_int_becomes_the_float_that_is_declared() -> None:
    """Not refused: `-> float` allows it, and `sum([])` is an int; the handler sees a float, live and on replay."""
    back = payload_type(float).round_trip(0, "X")[1]
    assert type(back) is float


def test_what_is_cached_on_a_model_is_no_part_of_it() -> None:
    """A cached property that was looked at does not make a model unfit."""
    value = Cached(x=1)
    assert value.expensive == 2
    assert payload_type(Cached).round_trip(value, "X")[1].x == 1


def test_the_handler_gets_its_own_copy() -> None:
    """What the step function keeps and changes later can't change what the handler has."""
    mine = {"a": [1]}
    back = payload_type(Any).round_trip(mine, "X")[1]
    mine["a"].append(2)
    assert back == {"a": [1]}


def test_order_of_union_members_counts() -> None:
    """`A | B` equals `B | A` in Python, and decodes otherwise: neither is taken for the other."""

    class Left(BaseModel):
        x: int

    class Right(BaseModel):
        x: int

    assert type(payload_type(Left | Right).decode('{"x": 1}', "X")) is Left
    assert type(payload_type(Right | Left).decode('{"x": 1}', "X")) is Right


@pytest.mark.skipif(sys.platform == "emscripten", reason="pydantic's own limit is lower under WebAssembly")
def test_depth() -> None:
    """200 levels are taken, and more, or a list within itself, refused; nothing recurses without end."""
    value: Any = 1
    for _ in range(200):
        value = [value]
    assert payload_type(Any).round_trip(value, "X")[1] == value
    loop: list[Any] = []
    loop.append(loop)
    for type_ in (Any, list, list[Any], dict[str, Any]):
        for deep in ([value], loop, {"a": loop}):
            with pytest.raises(PayloadError):
                payload_type(type_).round_trip(deep, "X")


def test_validators_that_raise_something_else() -> None:
    """A KeyError of a validator is a refusal like any other: a step whose result it hits must not be tried again."""
    held = payload_type(Picky)
    assert held.round_trip(Picky(x=1), "X")[1] == Picky(x=1)
    with pytest.raises(PayloadError):
        held.round_trip(Picky.model_construct(x=2), "X")
    with pytest.raises(PayloadError):
        held.decode('{"x": 2}', "X")
    with pytest.raises(PayloadError):
        held.coerce({"x": 2}, "X")


@pytest.mark.parametrize(
    ("type_", "value", "says"),
    [
        (Any, (1, 2), ["can't hold (1, 2) (tuple) without a type", "return annotation"]),
        (Any, {1: 2}, ["no keys of type int (1)"]),
        (Any, math.nan, ["JSON has no nan: use None, or a string"]),
        (dict[str, list[Any]], {"a": [1, True, (2,)]}, ["a[2]: (2,) (tuple) would come back from JSON as [2] (list)"]),
        (str, Color.RED, ["<Color.RED: 'red'> (Color) would come back", "annotate it with the type it really has"]),
        (datetime, datetime(2026, 7, 1, tzinfo=BERLIN), ["no zone", ".astimezone(UTC)"]),
        (Raw, Raw(data=b"\xff"), ["ser_json_bytes"]),
        (Animal, Dog(name="Rex", breed="Pug"), ["(Dog) would come back from JSON as Animal(name='Rex') (Animal)"]),
        (int, "x" * 10_000, ["JSON of int"]),
    ],
)
def test_refusals_say_where_what_and_what_to_do(type_: Any, value: Any, says: list[str]) -> None:
    """Short, with the path to the culprit, what it would become, and the remedy."""
    with pytest.raises(PayloadError) as refused:
        payload_type(type_).round_trip(value, "The result of step 'a'")
    message = str(refused.value)
    assert all(part in message for part in says), message
    assert len(message) < 700


def test_decoding_what_does_not_fit() -> None:
    """A changed type meets an old log: the message names the field, not the data."""
    with pytest.raises(PayloadError, match=r"^The input of run 'r' does not fit Animal: name: Field required$"):
        payload_type(Animal).decode('{"secret": 1}', "The input of run 'r'")
    for text in ("{", "", "nan", '"\\ud800"'):
        with pytest.raises(PayloadError):
            payload_type(Any).decode(text, "X")


def test_coercion_takes_json_as_json_and_the_rest_as_python() -> None:
    """So an input given as a dictionary means the same as one that came over HTTP."""
    held = payload_type(Base64)
    assert held.coerce({"data": "_w=="}, "X")[1] == Base64(data=b"\xff")
    assert held.coerce({"data": b"\xff"}, "X")[1] == Base64(data=b"\xff")
    assert held.coerce(Base64(data=b"\xff"), "X")[1] == Base64(data=b"\xff")
    assert payload_type(Point).coerce({"x": "1"}, "X")[1] == Point(1.0)
    assert payload_type(Aliased).coerce({"order_id": "o", "price": 1}, "X")[1].order_id == "o"
    with pytest.raises(PayloadError, match=r"does not fit Point: x: Field required"):
        payload_type(Point).coerce({}, "X")


def test_types_that_pydantic_cannot_handle() -> None:
    """Refused with the reason when the type is first looked at."""
    for type_ in (Hostile, list[Hostile], "Missing", list[ForwardRef("Missing")], 5):
        with pytest.raises(DefinitionError, match="is not a type that pydantic can handle"):
            payload_type(type_)


def test_types_are_kept() -> None:
    """Building an adapter takes long: the same type is built once, also under another spelling of the same union."""
    assert payload_type(list[int]) is payload_type(list[int])
    assert payload_type(int | str) is payload_type(int | str)


def test_sizes() -> None:
    """The limit is in bytes of UTF-8."""
    check_size("x" * 10, 10, "X")
    check_size("é" * 5, 10, "X")
    for text in ("x" * 11, "é" * 6):
        with pytest.raises(PayloadError, match=r"X has 1\d bytes as JSON.*at most 10.*pass a reference"):
            check_size(text, 10, "X")


def test_json_text() -> None:
    """`Json` compares by value, whatever the spaces; and says so when a store gave it something else."""
    assert Json('{"a": 1}') == Json('{"a":1}')
    assert hash(Json('{"a": 1}')) == hash(Json('{"a":1}'))
    assert Json("1") != Json("1.0") and Json("1") != object()
    assert "..." in repr(Json('"' + "x" * 500 + '"'))
    with pytest.raises(PayloadError, match="is not JSON"):
        _ = Json("{").value


@pytest.mark.parametrize("value", [None, True, 3, 1.5, "x", [1, {"a": None}], {"a": [1]}])
def test_json_equals_its_value(value: Any) -> None:
    """What an event holds can be compared with the plain value; what can be hashed is hashed alike."""
    held = Json(json.dumps(value))
    assert held == value and value == held and held != "something else"
    assert isinstance(value, (list, dict)) or hash(held) == hash(value)


def test_plain_text() -> None:
    """The text of plain JSON is compact, and the refusal ends with the caller's remedy."""
    assert plain_text({"a": [1, None, "é"]}, "X") == '{"a":[1,null,"é"]}'
    with pytest.raises(PayloadError, match=r"^X: JSON can't hold .* Say please\.$"):
        plain_text({"a": {1}}, "X", "Say please.")


def _nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize("value", ["\ud800", 10**5000, _nested(201)], ids=["surrogate", "digits", "nesting"])
def test_what_json_cannot_hold_is_refused_with_its_limits(value: Any) -> None:
    """A text, a number or a nesting beyond what JSON can carry is refused with words that say what it can."""
    with pytest.raises(PayloadError, match="lone surrogates, integers at most 4,000 digits, and nesting at most 200"):
        payload_type(Any).encode(value, "The result")
