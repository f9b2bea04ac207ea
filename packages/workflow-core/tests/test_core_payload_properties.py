"""Property: each value comes back from JSON the same in value and type, or is refused with a clear `PayloadError`."""

from __future__ import annotations

import enum
import json
import math
from collections import OrderedDict
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from typing import Any, NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict

from workflow.core.errors import PayloadError
from workflow.core.payload import PayloadType, payload_type

fast = settings(max_examples=120, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])


class Color(enum.StrEnum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Name(str):
    pass


class Pair(NamedTuple):
    left: Any
    right: Any


class Inner(BaseModel):
    x: int
    y: float | None = None


class Outer(BaseModel):
    model_config = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")
    inner: Inner
    at: datetime | None = None
    raw: bytes = b""
    price: Decimal = Decimal(0)
    more: dict[str, list[Inner]] = {}


@dataclass
class Point:
    x: float
    tags: tuple[str, ...] = ()
    parts: list[Point] = field(default_factory=list)


ZONES = st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=30)), ZoneInfo("Europe/Berlin"), ZoneInfo("UTC")])
TEXT = st.text(st.characters(codec=None, categories=None)) | st.sampled_from(
    ["\x00", "\ud800", "a\udfffb", "\u2028", ""]
)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(min_value=2**52, max_value=2**70),
    st.floats(),
    st.sampled_from([-0.0, 1.0, math.inf, -math.inf, math.nan, 10**400, 2**53 + 1]),
    TEXT,
    TEXT.map(Name),
    st.binary(max_size=8),
    st.sampled_from([*Color, *Level]),
    st.dates(),
    st.datetimes(timezones=st.none() | ZONES),
    st.times(timezones=st.none() | ZONES),
    st.timedeltas(),
    st.decimals(),
    st.uuids(),
    st.fractions(),
    st.complex_numbers(),
)
HASHABLE = st.one_of(st.booleans(), st.integers(), st.floats(), TEXT, st.sampled_from([*Color, *Level]), st.dates())


def containers(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(
        st.lists(inner, max_size=3),
        st.tuples(inner, inner),
        st.builds(Pair, inner, inner),
        st.dictionaries(HASHABLE, inner, max_size=3),
        st.dictionaries(TEXT, inner, max_size=3).map(OrderedDict),
        st.sets(HASHABLE, max_size=3),
        st.frozensets(HASHABLE, max_size=3),
        st.builds(Inner, x=st.integers(), y=st.none() | st.floats()),
    )


VALUES = st.recursive(SCALARS, containers, max_leaves=6)

TYPES: list[Any] = [
    *(Any, object, bool, int, float, str, bytes, date, datetime, time, timedelta, Decimal, UUID, Fraction, complex),
    *(Color, Level, Inner, Outer, Point, Pair),
    *(list, dict, tuple, set, frozenset, OrderedDict),
    *(
        list[Any],
        list[int],
        list[float],
        list[bool],
        list[str],
        tuple[Any, ...],
        tuple[float, str],
        set[int],
        set[float],
    ),
    *(frozenset[str | int], dict[str, Any], dict[int, Any], dict[float, str], dict[Color, Any], dict[bool, Any]),
    *(int | str, str | int, int | float, float | None, bool | int, datetime | str, bytes | str, Inner | dict[str, Any]),
    *(date | datetime, Decimal | float, set[Any] | list[Any], Color | str, str | Color, Level | int, time | str),
    *(list[Inner], dict[str, Inner | None], list[tuple[int, ...]], list[list[float]]),
]


def exact(value: Any) -> Any:
    """A form of a value that differs wherever types, signs, offsets, zones or digits differ."""
    kind = type(value)
    if kind is float:
        return kind, repr(value)
    if kind is Decimal:
        return kind, value.as_tuple()
    if kind in (datetime, time):
        fixed = None if value.tzinfo is None else (value.tzinfo.utcoffset(None), "offset")
        return kind, value.replace(tzinfo=None), value.fold, fixed
    if isinstance(value, dict):
        return kind, [(exact(key), exact(item)) for key, item in value.items()]
    if isinstance(value, (set, frozenset)):
        return kind, {exact(item) for item in value}
    if isinstance(value, (list, tuple)):
        return kind, [exact(item) for item in value]
    if isinstance(value, BaseModel):
        return kind, exact(value.__dict__)
    if isinstance(value, Point):
        return kind, exact(vars(value))
    return kind, value


def same(back: Any, value: Any) -> bool:
    """Whether `back` is exactly `value`, or a float where `value` has the int of this value."""
    if type(value) is int and type(back) is float:
        return back == value
    if type(back) is type(value):
        if isinstance(value, (list, tuple)):
            return len(back) == len(value) and all(map(same, back, value))
        if isinstance(value, dict):
            return len(back) == len(value) and all(
                same(*pair) for pair in zip(back.values(), value.values(), strict=True)
            )
        if isinstance(value, (set, frozenset)):
            return back == value
        if isinstance(value, BaseModel):
            return same(back.__dict__, value.__dict__)
        if isinstance(value, Point):
            return same(vars(back), vars(value))
    return exact(back) == exact(value)


def check(held: PayloadType, value: Any) -> bool:
    """Whether it was taken. Either way it must be in order."""
    try:
        text, back = held.round_trip(value, "The thing")
    except PayloadError as refused:
        message = str(refused)
        assert message.startswith("The thing: ")
        assert len(message) < 1500
        return False
    json.loads(text)
    text.encode()
    assert same(back, value), (back, value)
    assert exact(held.decode(text, "The thing")) == exact(back)
    assert held.encode(back, "The thing") == text or isinstance(value, (set, frozenset, Outer)) or "[" in text
    return True


@settings(fast, max_examples=600)
@given(st.sampled_from(TYPES), VALUES)
def test_any_value_in_any_type(type_: Any, value: Any) -> None:
    """Whatever a function returns, whatever it is annotated with: the same comes back, or it is refused."""
    check(payload_type(type_), value)


@fast
@given(VALUES)
def test_values_in_their_own_type(value: Any) -> None:
    """The type of the value itself is the friendliest annotation there is."""
    try:
        held = payload_type(type(value))
    except Exception:
        return
    check(held, value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@fast
@given(JSON)
def test_plain_json_is_always_taken(value: Any) -> None:
    """Without a type, what JSON has comes back as it was, to the last bit of a float."""
    assert check(payload_type(Any), value)


@fast
@given(
    st.builds(
        Outer,
        inner=st.builds(Inner, x=st.integers(), y=st.none() | st.floats(allow_nan=False, allow_infinity=False)),
        at=st.none() | st.datetimes(timezones=st.just(UTC)).map(lambda at: at.replace(fold=0)),
        raw=st.binary(max_size=20),
        price=st.decimals(allow_nan=False, allow_infinity=False),
        more=st.dictionaries(st.text(max_size=5), st.lists(st.builds(Inner, x=st.integers()), max_size=2), max_size=2),
    )
)
def test_reasonable_models_are_always_taken(value: Outer) -> None:
    """Nested models of dates, decimals and bytes need nothing special."""
    assert check(payload_type(Outer), value)


TYPED: list[tuple[Any, st.SearchStrategy[Any]]] = [
    (int, st.integers()),
    (float, st.floats(allow_nan=False, allow_infinity=False)),
    (str, st.text()),
    (bytes, st.binary()),
    (date, st.dates()),
    (datetime, st.datetimes().map(lambda at: at.replace(fold=0))),
    (Decimal, st.decimals(allow_nan=False, allow_infinity=False)),
    (UUID, st.uuids()),
    (Color, st.sampled_from(Color)),
    (Level, st.sampled_from(Level)),
    (set[int], st.sets(st.integers())),
    (dict[int, str], st.dictionaries(st.integers(), st.text())),
    (dict[date, bool], st.dictionaries(st.dates(), st.booleans())),
    (tuple[int, ...], st.lists(st.integers()).map(tuple)),
    (int | str, st.integers() | st.text()),
    (int | float, st.integers() | st.floats(allow_nan=False, allow_infinity=False)),
]


@pytest.mark.parametrize(("type_", "values"), TYPED, ids=[str(type_) for type_, _ in TYPED])
@settings(fast, max_examples=20)
@given(data=st.data())
def test_typed_values_are_always_taken(type_: Any, values: st.SearchStrategy[Any], data: st.DataObject) -> None:
    """Refusing everything would be easy: what an annotation is for is taken."""
    assert check(payload_type(type_), data.draw(values))


@fast
@given(VALUES)
def test_coerced_values_are_values_of_the_type(value: Any) -> None:
    """What comes from outside is validated, and what it becomes is what is stored."""
    for type_ in (Inner, list[float], datetime):
        held = payload_type(type_)
        try:
            text, valid = held.coerce(value, "The input")
        except PayloadError as refused:
            assert str(refused).startswith("The input")  # noqa: PT017 - either end is fine
        else:
            assert exact(held.decode(text, "The input")) == exact(valid)
