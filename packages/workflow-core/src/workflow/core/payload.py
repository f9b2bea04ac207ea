"""Values as JSON text and back, without ever changing one silently.

Live must equal replay: what a handler sees of a result is always what its JSON gives back through its type. So a
value is encoded, decoded and compared before anything is recorded, and refused if it would come back different.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, cast

from pydantic import ConfigDict, PydanticSchemaGenerationError, PydanticUserError, TypeAdapter, ValidationError
from pydantic_core import CoreSchema, PydanticSerializationError, core_schema, from_json, to_json

from .errors import DefinitionError, PayloadError

__all__ = ["MAX_PAYLOAD", "Json", "PayloadType", "check_size", "payload_type", "plain_text"]

MAX_PAYLOAD = 16 * 1024 * 1024
"""The largest payload in bytes, where the store has no smaller limit."""

_MAX_DEPTH = 200
_CONFIG = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")


class Json:
    """A JSON value kept as text, parsed when somebody looks at it. In a pydantic model it is that value."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text

    @property
    def value(self) -> Any:
        return from_json(self.text)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Json) and (self.text == other.text or self.value == other.value)

    def __hash__(self) -> int:
        return hash(self.text)

    def __repr__(self) -> str:
        return f"Json({self.text if len(self.text) <= 80 else self.text[:77] + '...'})"

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            lambda value: value if isinstance(value, Json) else Json(to_json(value).decode()),
            serialization=core_schema.plain_serializer_function_ser_schema(lambda held: cast(Json, held).value),
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: Any) -> dict[str, Any]:
        return {}


class PayloadType:
    """One type as JSON text: `encode`, `decode`, and both at once in `round_trip`."""

    __slots__ = ("_adapter", "_plain", "type")

    def __init__(self, type_: Any) -> None:
        self.type = type_
        self._plain = type_ is Any or type_ is object
        self._adapter = _adapter(type_)

    def encode(self, value: Any, what: str) -> str:
        """The JSON text of `value`. Raises `PayloadError`, which begins with `what`, if it can't be."""
        return self.round_trip(value, what)[0]

    def round_trip(self, value: Any, what: str) -> tuple[str, Any]:
        """The JSON text of `value` and what it gives back, which is equal to `value` or refused."""
        if value is None or value is True or value is False:
            if self._plain:
                return ("null" if value is None else "true" if value else "false"), value
        text = self._dump(value, what)
        if self._plain:
            return text, from_json(text)
        try:
            decoded = self._adapter.validate_json(text, by_alias=True, by_name=True)
        except ValidationError as error:
            raise self._lossy(value, what, f"can't be read back from JSON ({_reasons(error)})") from error
        if not _same(decoded, value):
            raise self._lossy(value, what, f"would come back from JSON as {_shown(decoded)}")
        return text, decoded

    def _lossy(self, value: Any, what: str, how: str) -> PayloadError:
        return PayloadError(
            f"{what}: {_shown(value)} {how}. "
            f"Use a value that {self.name} holds without loss, or annotate it with the type it really has."
        )

    def coerce(self, value: Any, what: str) -> tuple[str, Any]:
        """As `round_trip`, but for input from outside: dictionaries and strings are validated into the type first."""
        if self._plain:
            return self.round_trip(value, what)
        try:
            valid = self._adapter.validate_python(value, by_alias=True, by_name=True)
        except ValidationError as error:
            raise PayloadError(f"{what} does not fit {self.name}: {_reasons(error)}") from error
        return self.round_trip(valid, what)

    def decode(self, text: str, what: str) -> Any:
        """The value of `text` in this type. Raises `PayloadError` if it doesn't fit."""
        try:
            return self._adapter.validate_json(text, by_alias=True, by_name=True)
        except ValidationError as error:
            raise PayloadError(f"{what} does not fit {self.name}: {_reasons(error)}") from error

    @property
    def name(self) -> str:
        return "plain JSON" if self._plain else _type_name(self.type)

    def _dump(self, value: Any, what: str) -> str:
        if self._plain:
            return plain_text(value, what)
        try:
            return self._adapter.dump_json(value, by_alias=False, warnings="error").decode()
        except (PydanticSerializationError, UnicodeError, ValueError, TypeError, RecursionError) as error:
            raise PayloadError(
                f"{what}: {_shown(value)} can't be written as JSON of {self.name}: {error}. "
                "Return a value of the annotated type that JSON can hold."
            ) from error


def plain_text(value: Any, what: str) -> str:
    """The JSON text of a value made of None, bool, int, float, str, list and dict with string keys, and nothing else."""
    _check_plain(value, what, 0)
    try:
        return to_json(value).decode()
    except (PydanticSerializationError, UnicodeError, ValueError, RecursionError) as error:
        raise PayloadError(f"{what}: {_shown(value)} can't be written as JSON: {error}.") from error


def check_size(text: str, limit: int, what: str) -> None:
    """Refuse a text of more than `limit` bytes in UTF-8."""
    if len(text) * 4 > limit and (size := len(text.encode())) > limit:
        raise PayloadError(
            f"{what} has {size:,} bytes as JSON, and this store takes at most {limit:,}. "
            "Keep large data elsewhere (a bucket, a table of yours) and pass a reference to it."
        )


@lru_cache(maxsize=4096)
def _cached(type_: Any) -> PayloadType:
    return PayloadType(type_)


def payload_type(type_: Any) -> PayloadType:
    """The `PayloadType` of a type; raises `DefinitionError` for what pydantic can't handle."""
    try:
        return _cached(type_)
    except TypeError:  # an unhashable annotation
        return PayloadType(type_)


def _adapter(type_: Any) -> TypeAdapter[Any]:
    try:
        try:
            return TypeAdapter(type_, config=_CONFIG)
        except PydanticUserError as error:
            if error.code != "type-adapter-config-unused":
                raise
            return TypeAdapter(type_)
    except (PydanticSchemaGenerationError, PydanticUserError) as error:
        reason = str(error).splitlines()[0]
        raise DefinitionError(
            f"{_type_name(type_)} is not a type that pydantic can handle: {reason} "
            "Use a pydantic model, a dataclass, a TypedDict or a built-in type."
        ) from error


def _check_plain(value: Any, what: str, depth: int) -> None:
    kind = type(value)
    if kind is str or kind is int or kind is bool or value is None:
        return
    if depth > _MAX_DEPTH:
        raise PayloadError(f"{what} is nested deeper than {_MAX_DEPTH} levels (or holds itself).")
    if kind is list:
        for item in value:
            _check_plain(item, what, depth + 1)
    elif kind is dict:
        for key, item in value.items():
            if type(key) is not str:
                raise PayloadError(f"{what}: JSON has no {type(key).__name__} keys ({key!r}). {_REMEDY}")
            _check_plain(item, what, depth + 1)
    elif kind is not float:
        raise PayloadError(f"{what}: JSON can't hold {_shown(value)} ({kind.__name__}) without a type. {_REMEDY}")
    elif not math.isfinite(value):
        raise PayloadError(f"{what}: JSON has no {value}. Use None, or a string.")


_REMEDY = "Annotate the return type (or give the type), so that it can be read back as what it was."


def _same(decoded: Any, value: Any) -> bool:
    try:
        return bool(decoded == value)
    except Exception:
        return False


def _shown(value: Any) -> str:
    try:
        text = repr(value)
    except Exception:
        text = f"a {type(value).__name__}"
    return text if len(text) <= 120 else text[:117] + "..."


def _type_name(type_: Any) -> str:
    return type_.__name__ if isinstance(type_, type) and not hasattr(type_, "__args__") else str(type_).replace("typing.", "")


def _reasons(error: ValidationError) -> str:
    parts = [
        f"{'.'.join(str(part) for part in item['loc']) or 'value'}: {item['msg']}"
        for item in error.errors(include_url=False, include_input=False, include_context=False)[:5]
    ]
    return "; ".join(parts)
