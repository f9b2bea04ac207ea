"""Whether what JSON gave back is what went in: same types all the way down, nothing lost that `==` does not notice.

`==` takes True for 1, a StrEnum for a str, a named tuple for a tuple, -0.0 for 0.0, and 09:00 in Berlin for 08:00
UTC; a class may define it to compare ids only. So values are walked side by side instead.

Let pass: an int where `float` is declared comes back as that float (if it has the same value), because the annotation
asks for it and Python's type rules allow it; one class of fixed offset for another (`datetime.UTC` comes back as
pydantic's); keys of a TypedDict in the order of its declaration; sets in whatever order; what is cached on an instance.
"""

from __future__ import annotations

import math
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from datetime import datetime, time
from decimal import Decimal
from typing import Any, cast

from pydantic import BaseModel

__all__ = ["Difference", "difference"]

_MISSING: Any = object()


@dataclass(slots=True)
class Difference:
    """Where two values part: what was there, what came back, and the way to it from the outside."""

    decoded: Any
    value: Any
    path: list[str] = field(default_factory=list[str])
    """From the inside to the outside."""

    def within(self, key: object) -> Difference:
        self.path.append(f".{key}" if isinstance(key, str) else f"[{key!r}]")
        return self

    @property
    def place(self) -> str:
        return "".join(reversed(self.path)).lstrip(".")


def difference(decoded: Any, value: Any) -> Difference | None:
    """The first place where `decoded` is not what `value` is; None if there is none.

    May raise whatever the values' own methods raise.
    """
    kind: Any = type(value)  # pyright: ignore[reportUnknownVariableType]
    if type(decoded) is kind:
        return (_COMPARERS.get(kind) or _comparer(kind))(decoded, value)
    if kind is int and type(decoded) is float and decoded == value:
        return None
    return Difference(decoded, value)


def _comparer(kind: type) -> Callable[[Any, Any], Difference | None]:
    if hasattr(kind, "__pydantic_extra__"):  # a BaseModel; `issubclass` of its metaclass costs more than the comparison
        return _models
    if is_dataclass(kind):
        return _dataclasses
    for base, comparer in _BASES.items():
        if issubclass(kind, base):
            return comparer
    return _equal


def _equal(decoded: Any, value: Any) -> Difference | None:
    return None if decoded == value else Difference(decoded, value)


def _floats(decoded: float, value: float) -> Difference | None:
    if decoded == value and (value or math.copysign(1, decoded) == math.copysign(1, value)):
        return None
    return None if decoded != decoded and value != value else Difference(decoded, value)


def _decimals(decoded: Decimal, value: Decimal) -> Difference | None:
    return None if decoded.as_tuple() == value.as_tuple() else Difference(decoded, value)


def _instants(decoded: Any, value: Any) -> Difference | None:
    """Datetimes and times: the same wall clock, fold and offset, and no rules of a time zone to forget."""
    same = (
        decoded.replace(tzinfo=None) == value.replace(tzinfo=None)
        and decoded.fold == value.fold
        and (decoded.tzinfo is None) is (value.tzinfo is None)
        and (value.tzinfo is None or decoded.tzinfo.utcoffset(None) == value.tzinfo.utcoffset(None))
    )
    return None if same else Difference(decoded, value)


def _sequences(decoded: Any, value: Any) -> Difference | None:
    if len(decoded) != len(value):
        return Difference(decoded, value)
    for index, (after, before) in enumerate(zip(decoded, value, strict=True)):
        if (found := difference(after, before)) is not None:
            return found.within(index)
    return None


def _deques(decoded: deque[Any], value: deque[Any]) -> Difference | None:
    return Difference(decoded, value) if decoded.maxlen != value.maxlen else _sequences(decoded, value)


def _mappings(decoded: dict[Any, Any], value: dict[Any, Any]) -> Difference | None:
    """Keys are compared too. Their order may differ: a TypedDict comes back in the order of its declaration."""
    if len(decoded) != len(value):
        return Difference(decoded, value)
    keys = {key: key for key in decoded}
    for key, before in value.items():
        twin = keys.get(key, _MISSING)
        if twin is _MISSING or difference(twin, key) is not None:
            return Difference(decoded, value)
        if (found := difference(decoded[twin], before)) is not None:
            return found.within(key)
    return None


def _ordered(decoded: OrderedDict[Any, Any], value: OrderedDict[Any, Any]) -> Difference | None:
    return Difference(decoded, value) if list(decoded) != list(value) else _mappings(decoded, value)


def _defaultdicts(decoded: defaultdict[Any, Any], value: defaultdict[Any, Any]) -> Difference | None:
    same = decoded.default_factory is value.default_factory
    return _mappings(decoded, value) if same else Difference(decoded, value)


def _sets(decoded: Any, value: Any) -> Difference | None:
    if len(decoded) != len(value):
        return Difference(decoded, value)
    twins = {item: item for item in decoded}
    for item in value:
        if difference(twins.get(item, _MISSING), item) is not None:
            return Difference(decoded, value)
    return None


def _models(decoded: BaseModel, value: BaseModel) -> Difference | None:
    """Fields, extra fields and private attributes; not what is cached on the instance."""
    names = cast("Iterable[str]", type(value).__pydantic_fields__)
    found = _attributes(decoded.__dict__, value.__dict__, names)
    for after, before in (
        (decoded.__pydantic_extra__, value.__pydantic_extra__),
        (decoded.__pydantic_private__, value.__pydantic_private__),
    ):
        if found is None and after is not before:
            found = difference(after, before)
    return found


def _dataclasses(decoded: Any, value: Any) -> Difference | None:
    for declared in fields(value):
        name = declared.name
        after, before = getattr(decoded, name, _MISSING), getattr(value, name, _MISSING)
        if (found := difference(after, before)) is not None:
            return found.within(name)
    return None


def _attributes(decoded: Mapping[str, Any], value: Mapping[str, Any], names: Iterable[str]) -> Difference | None:
    for name in names:
        after, before = decoded.get(name, _MISSING), value.get(name, _MISSING)
        if after is not before and (found := difference(after, before)) is not None:
            return found.within(name)
    return None


_COMPARERS: dict[type, Callable[[Any, Any], Difference | None]] = {
    **dict.fromkeys((str, int, bool, type(None), bytes), _equal),
    float: _floats,
    list: _sequences,
    dict: _mappings,
}

_BASES: dict[type, Callable[[Any, Any], Difference | None]] = {
    # The first that fits counts: a defaultdict is a dict as well.
    datetime: _instants,
    time: _instants,
    float: _floats,
    Decimal: _decimals,
    tuple: _sequences,
    list: _sequences,
    deque: _deques,
    defaultdict: _defaultdicts,
    OrderedDict: _ordered,
    dict: _mappings,
    set: _sets,
    frozenset: _sets,
}
