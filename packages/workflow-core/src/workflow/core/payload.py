"""Values as JSON text and back, without ever changing one silently.

Live must equal replay: what a handler sees of a result is always what its JSON gives back through its type. And what it
sees must be what was returned: a value is encoded, decoded and compared before anything is recorded, and refused if it
would come back different (`sameness` says what counts as different).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import datetime, time
from functools import lru_cache
from types import NoneType
from typing import TYPE_CHECKING, Any

from pydantic import ConfigDict, PydanticUserError, TypeAdapter, ValidationError
from pydantic_core import CoreSchema, SchemaSerializer, SchemaValidator, core_schema, from_json, to_json

from .errors import DefinitionError, PayloadError
from .sameness import Difference, difference

if TYPE_CHECKING:
    from pydantic.plugin._schema_validator import PluggableSchemaValidator

__all__ = ["JSON_TYPES", "MAX_PAYLOAD", "Json", "PayloadType", "check_size", "payload_type", "plain_text"]

MAX_PAYLOAD = 16 * 1024 * 1024
"""The largest payload in bytes, where the store has no smaller limit."""

_MAX_DEPTH = 200  # what pydantic can read back; it writes less under WebAssembly, and says so
_MAX_SHOWN = 80
_MAX_DIGITS = 4000
"""No integer in a text of this length is too long to be read."""
_LONG = 1 << 63
_CONFIG = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")
JSON_TYPES: frozenset[type[Any]] = frozenset({dict, list, str, int, float, bool, type(None)})
"""The types that JSON has by itself."""

_GIVE_TYPE = (
    "Convert it, or give its type where there is a place for one (a step's return annotation, the handler's input, "
    "output and state types), so that it can be read back as what it was."
)


_LIMITS = "Text must have no lone surrogates, integers at most 4,000 digits, and nesting at most 200 levels."

_SET_BASE64 = (
    "Bytes that are not text need base64: set model_config (in a dataclass or TypedDict: __pydantic_config__) = "
    'ConfigDict(ser_json_bytes="base64", val_json_bytes="base64").'
)


class Json:
    """A JSON value kept as text, parsed when somebody looks at it (`.value`). In a pydantic model it is that value.

    It equals another one of the same value, and that value itself: `event.result == {"paid": True}`.
    """

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text

    @property
    def value(self) -> Any:
        """The value. Raises `PayloadError` if the text, which came from a store, is not JSON."""
        try:
            return from_json(self.text)
        except ValueError as error:
            raise PayloadError(f"A stored payload is not JSON: {error}") from error

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Json):
            return self.text == other.text or self._compact == other._compact
        return self.value == other if type(other) in JSON_TYPES else NotImplemented

    def __hash__(self) -> int:
        value = self.value
        return hash(self._compact if isinstance(value, (dict, list)) else value)

    def __repr__(self) -> str:
        return f"Json({self.text if len(self.text) <= 80 else self.text[:77] + '...'})"

    @property
    def _compact(self) -> bytes:
        """The text as this package writes it: without the spaces and escapes of others."""
        return to_json(self.value)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            _json_of,
            serialization=core_schema.plain_serializer_function_ser_schema(_value_of),
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: Any) -> dict[str, Any]:
        return {}


def _json_of(value: Any) -> Json:
    return value if isinstance(value, Json) else Json(to_json(value).decode())


def _value_of(held: Json) -> Any:
    return held.value


class PayloadType:
    """One type as JSON text: `encode`, `decode`, and both at once in `round_trip`.

    With type `Any` it takes plain JSON values and nothing else; `note` says why, where there is more to say about it.
    """

    __slots__ = ("_exact", "_plain", "_read", "_remedy", "_validate", "_write", "type")

    def __init__(self, type_: Any, note: str = "") -> None:
        self.type = type_
        self._plain = type_ is Any or type_ is object
        # Takes a JSON value of its own as it is.
        self._exact = type_ is str or type_ is int or type_ is bool
        self._remedy = note or _GIVE_TYPE
        if not self._plain:
            validator, serializer = _machinery(type_)
            # Their methods themselves: replay reads a value for every step, and an adapter's method costs more than it.
            self._read = validator.validate_json
            self._validate = validator.validate_python
            self._write = serializer.to_json

    @property
    def name(self) -> str:
        return "plain JSON" if self._plain else _type_name(self.type)

    def encode(self, value: Any, what: str) -> str:
        """The JSON text of `value`. Raises `PayloadError`, which begins with `what`, for what would not come back."""
        return self.round_trip(value, what)[0]

    def round_trip(self, value: Any, what: str) -> tuple[str, Any]:
        """The JSON text of `value`, and what it gives back: the same in value and type, or `PayloadError`."""
        if self._plain:
            return self._round_trip_plain(value, what)
        if type(value) is self.type and (exact := _exact_text(value)) is not None:
            return exact, value
        text = self._dump(value, what)
        try:
            decoded = self._read(text, by_alias=True, by_name=True)
        except Exception as error:
            raise self._lossy(what, f"{_shown(value)} can't be read back from JSON ({_reasons(error)})") from error
        try:
            found = difference(decoded, value)
        except Exception as error:
            raise self._lossy(
                what, f"{_shown(value)} can't be compared with what JSON gives back ({error!r})"
            ) from error
        if found is not None:
            raise self._lossy(what, _told(found), _zone_remedy(found.value))
        return text, decoded

    def coerce(self, value: Any, what: str) -> tuple[str, Any]:
        """As `round_trip`, but for what comes from outside: it is validated into the type first; JSON values as JSON.

        Raises `PayloadError` if it doesn't fit.
        """
        if self._plain:
            return self.round_trip(value, what)
        if type(value) in JSON_TYPES and _fault(value, 0) is None:
            return self.round_trip(self.decode(plain_text(value, what), what), what)
        try:
            valid = self._validate(value, by_alias=True, by_name=True)
        except Exception as error:
            raise PayloadError(f"{what} does not fit {self.name}: {_reasons(error)}") from error
        return self.round_trip(valid, what)

    def decode(self, text: str, what: str) -> Any:
        """The value of `text` in this type. Raises `PayloadError` if it doesn't fit."""
        try:
            if self._plain:
                return from_json(text, allow_inf_nan=False)
            if self._exact and type(value := from_json(text)) is self.type:
                return value  # what its validator would say, in half the time
            return self._read(text, by_alias=True, by_name=True)
        except Exception as error:
            raise PayloadError(f"{what} does not fit {self.name}: {_reasons(error)}") from error

    def _round_trip_plain(self, value: Any, what: str) -> tuple[str, Any]:
        if value is None or value is True or value is False:
            return ("null" if value is None else "true" if value else "false"), value
        text = _plain_dump(value, what, self._remedy)
        return text, value if type(value) is str else _plain_load(text, value, what)

    def _dump(self, value: Any, what: str) -> str:
        try:
            return self._write(value, by_alias=False, round_trip=True, warnings="error").decode()
        except Exception as error:
            reasons = _reasons(error)
            remedy = _SET_BASE64 if "utf-8 sequence" in reasons else "Use a value of that type that JSON can hold."
            raise PayloadError(
                f"{what}: {_shown(value)} can't be written as JSON of {self.name}: {reasons}. {remedy}"
            ) from error

    def _lossy(self, what: str, how: str, remedy: str = "") -> PayloadError:
        remedy = (
            remedy or f"Use a value that {self.name} holds without loss, or annotate it with the type it really has."
        )
        return PayloadError(f"{what}: {how}. {remedy}")


def plain_text(value: Any, what: str, remedy: str = _GIVE_TYPE) -> str:
    """The JSON text of a value made of None, bool, int, float, str, list and dict with string keys, and nothing else.

    Raises `PayloadError`, which begins with `what` and ends with `remedy`.
    """
    text = _plain_dump(value, what, remedy)
    if len(text) > _MAX_DIGITS:
        _plain_load(text, value, what)
    return text


def _plain_dump(value: Any, what: str, remedy: str) -> str:
    fault = _fault(value, 0)
    if fault is not None:
        raise PayloadError(f"{what}: {fault}. {remedy}")
    try:
        return to_json(value).decode()
    except (ValueError, RecursionError) as error:
        raise PayloadError(f"{what}: {_shown(value)} can't be written as JSON: {_reasons(error)}. {_LIMITS}") from error


def _plain_load(text: str, value: Any, what: str) -> Any:
    """What `text` gives back. Integers of thousands of digits can be written and not read."""
    try:
        return from_json(text)
    except ValueError as error:
        raise PayloadError(
            f"{what}: {_shown(value)} can't be read back from JSON: {_reasons(error)}. {_LIMITS}"
        ) from error


def check_size(text: str, limit: int, what: str) -> None:
    """Refuse a text of more than `limit` bytes in UTF-8."""
    if len(text) * 4 > limit and (size := len(text.encode())) > limit:
        raise PayloadError(
            f"{what} has {size:,} bytes as JSON, and this store takes at most {limit:,}. "
            "Keep large data elsewhere (a bucket, a table of yours) and pass a reference to it."
        )


def payload_type(type_: Any) -> PayloadType:
    """The `PayloadType` of a type; raises `DefinitionError` for what pydantic can't handle."""
    if isinstance(type_, type):
        return _cached(type_, "")
    try:
        # `A | B` equals `B | A`, and yet decodes otherwise where both would take a value.
        return _cached(type_, repr(type_))
    except TypeError:  # an unhashable annotation
        return PayloadType(type_)


@lru_cache(maxsize=4096)
def _cached(type_: Any, spelling: str) -> PayloadType:
    return PayloadType(type_)


_SCALARS: dict[Any, Callable[[], CoreSchema]] = {
    str: core_schema.str_schema,
    int: core_schema.int_schema,
    bool: core_schema.bool_schema,
    float: core_schema.float_schema,
    None: core_schema.none_schema,
    NoneType: core_schema.none_schema,
}


def _machinery(type_: Any) -> tuple[SchemaValidator | PluggableSchemaValidator, SchemaSerializer]:
    """What reads and writes values of a type."""
    make = _SCALARS.get(type_) if type_ is None or isinstance(type_, type) else None
    if make is None:
        adapter = _adapter(type_)
        return adapter.validator, adapter.serializer
    # What an adapter would make. The first adapter of a process costs more than importing all of this package.
    schema = make()
    return SchemaValidator(schema), SchemaSerializer(schema)


def _adapter(type_: Any) -> TypeAdapter[Any]:
    try:
        adapter = _configured(type_)
        if not adapter.pydantic_complete:
            adapter.rebuild(force=True, raise_errors=True)
        return adapter
    except Exception as error:
        reason = str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
        raise DefinitionError(
            f"{_type_name(type_)} is not a type that pydantic can handle: {reason}. "
            "Use a pydantic model, a dataclass, a TypedDict or a built-in type, and define what it refers to before."
        ) from error


def _configured(type_: Any) -> TypeAdapter[Any]:
    """With our way of writing bytes, where the type has no configuration of its own."""
    try:
        return TypeAdapter(type_, config=_CONFIG)
    except PydanticUserError as error:
        if error.code != "type-adapter-config-unused":
            raise
        return TypeAdapter(type_)


def _exact_text(value: Any) -> str | None:
    """The text of a value that was declared as exactly its class, where JSON gives back just this; else None."""
    kind: Any = type(value)  # pyright: ignore[reportUnknownVariableType]
    if kind is int:
        return str(value) if -_LONG < value < _LONG else None
    if kind is bool:
        return "true" if value else "false"
    if kind is not str:
        return None
    try:
        return to_json(value).decode()  # a serializer's own way to the same costs several times as much
    except ValueError:  # a lone surrogate
        return None


def _fault(value: Any, depth: int) -> str | None:
    """What keeps a value from being plain JSON; None if it is."""
    kind: Any = type(value)  # pyright: ignore[reportUnknownVariableType]
    if kind is str or kind is int or kind is bool or value is None:
        return None
    if depth > _MAX_DEPTH:
        return f"it is nested deeper than {_MAX_DEPTH} levels (or holds itself)"
    if kind is list:
        return next((fault for item in value if (fault := _fault(item, depth + 1)) is not None), None)
    if kind is dict:
        for key, item in value.items():
            if type(key) is not str:
                return f"JSON has no keys of type {type(key).__name__} ({_shown(key)})"
            if (fault := _fault(item, depth + 1)) is not None:
                return fault
        return None
    if kind is not float:
        return f"JSON can't hold {_shown(value)} ({kind.__name__}) without a type"
    return None if math.isfinite(value) else f"JSON has no {value}: use None, or a string"


def _told(found: Difference) -> str:
    place = f"{found.place}: " if found.path else ""
    return (
        f"{place}{_shown(found.value)} ({type(found.value).__name__}) would come back from JSON as "
        f"{_shown(found.decoded)} ({type(found.decoded).__name__})"
    )


def _zone_remedy(value: Any) -> str:
    if isinstance(value, (datetime, time)) and value.tzinfo is not None:
        return "JSON keeps an instant and its offset, no zone: use .astimezone(UTC), and keep the zone's name apart."
    return ""


def _shown(value: Any) -> str:
    try:
        text = repr(value)
    except Exception:
        text = f"a {type(value).__name__}"
    return text if len(text) <= _MAX_SHOWN else text[: _MAX_SHOWN - 3] + "..."


def _type_name(type_: Any) -> str:
    if isinstance(type_, type) and not hasattr(type_, "__args__"):
        return type_.__name__
    return str(type_).replace("typing.", "")


def _reasons(error: Exception) -> str:
    if not isinstance(error, ValidationError):
        try:
            return (str(error).splitlines() or [type(error).__name__])[-1].strip()
        except Exception:
            return type(error).__name__
    parts = [
        f"{'.'.join(str(part) for part in item['loc']) or 'value'}: {item['msg']}"
        for item in error.errors(include_url=False, include_input=False, include_context=False)[:5]
    ]
    return "; ".join(parts)
