"""Checks on what users pass in: durations, instants, names. Each error names the argument and the remedy."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

from .errors import InvalidArgumentError

__all__ = ["Duration", "RESERVED_PREFIX", "aware", "identifier", "seconds"]

Duration = timedelta | float
"""A length of time: a timedelta, or seconds."""

RESERVED_PREFIX = "$"
"""Automatic operation ids start with it; ids that users choose don't."""

MAX_IDENTIFIER = 512


def seconds(value: Duration, name: str) -> float:
    """The length in seconds; refuses what isn't a finite number of at least 0."""
    if isinstance(value, timedelta):
        value = value.total_seconds()
    elif isinstance(value, bool) or not isinstance(value, (int, float)):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InvalidArgumentError(f"{name} must be a timedelta or a number of seconds, not {type(value).__name__}.")
    if not math.isfinite(value) or value < 0:
        raise InvalidArgumentError(f"{name} must be a finite duration of at least 0, not {value}.")
    return float(value)


def aware(value: datetime, name: str) -> datetime:
    """The instant in UTC; refuses naive datetimes, which would mean another instant on another machine."""
    if not isinstance(value, datetime):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InvalidArgumentError(f"{name} must be a datetime, not {type(value).__name__}.")
    if value.utcoffset() is None:
        raise InvalidArgumentError(
            f"{name} must be an aware datetime, and {value!r} is naive: write datetime.now(UTC), or give it a tzinfo."
        )
    return value.astimezone(UTC)


def identifier(value: str, name: str, *, reserved: bool = False) -> str:
    """A name or id as given; refuses what can't be kept or shown everywhere.

    With `reserved`, also refuses the prefix of automatic operation ids.
    """
    if not isinstance(value, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InvalidArgumentError(f"{name} must be a string, not {type(value).__name__}.")
    if value.isascii() and value.isprintable() and 0 < len(value) <= MAX_IDENTIFIER:
        if not reserved or value[0] != RESERVED_PREFIX:
            return value
        raise InvalidArgumentError(f"{name} {value!r} starts with {RESERVED_PREFIX!r}, which is reserved for automatic ids.")
    return _unusual_identifier(value, name, reserved)


def _unusual_identifier(value: str, name: str, reserved: bool) -> str:
    if not value:
        raise InvalidArgumentError(f"{name} must not be empty.")
    if len(value) > MAX_IDENTIFIER:
        raise InvalidArgumentError(f"{name} has {len(value)} characters; at most {MAX_IDENTIFIER} are allowed.")
    if any(ord(char) < 32 or ord(char) == 127 or 0xD800 <= ord(char) <= 0xDFFF for char in value):
        raise InvalidArgumentError(f"{name} {value!r} holds control characters or lone surrogates, which are not allowed.")
    if reserved and value[0] == RESERVED_PREFIX:
        raise InvalidArgumentError(f"{name} {value!r} starts with {RESERVED_PREFIX!r}, which is reserved for automatic ids.")
    return value
