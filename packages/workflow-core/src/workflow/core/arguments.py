"""Checks on what users pass in: durations, instants, names. Each error names the argument and the remedy."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

from .errors import InvalidArgumentError

__all__ = ["RESERVED_PREFIX", "Duration", "aware", "identifier", "seconds"]

Duration = timedelta | float
"""A length of time: a timedelta, or seconds."""

RESERVED_PREFIX = "$"
"""Automatic operation ids start with it; ids that users choose don't."""

MAX_IDENTIFIER = 512
"""In bytes of UTF-8, so that two of them fit into an entry of a database's index."""


def seconds(value: Duration, name: str) -> float:
    """The length in seconds; refuses what isn't a finite number of at least 0."""
    if isinstance(value, timedelta):
        value = value.total_seconds()
    elif isinstance(value, bool) or not isinstance(value, (int, float)):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InvalidArgumentError(f"{name} must be a timedelta or a number of seconds, not {type(value).__name__}.")
    try:
        value = float(value)
    except OverflowError:
        value = math.inf
    if not math.isfinite(value) or value < 0:
        raise InvalidArgumentError(f"{name} must be a finite duration of at least 0, not {value} seconds.")
    return value


def aware(value: datetime, name: str) -> datetime:
    """The instant in UTC; refuses naive datetimes, which would mean another instant on another machine."""
    if not isinstance(value, datetime):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InvalidArgumentError(f"{name} must be a datetime, not {type(value).__name__}.")
    if value.utcoffset() is None:
        raise InvalidArgumentError(
            f"{name} must be an aware datetime, and {value!r} is naive: write datetime.now(UTC), or give it a tzinfo."
        )
    try:
        return value.astimezone(UTC)
    except OverflowError as error:
        raise InvalidArgumentError(
            f"{name} must be an instant between the years 1 and 9999 in UTC, not {value!r}."
        ) from error


def identifier(value: str, name: str, *, reserved: bool = False) -> str:
    """A name or id as a plain string (of a StrEnum member, its value).

    Refuses what can't be kept or shown everywhere. With `reserved`, also refuses the prefix of automatic operation ids.
    """
    if type(value) is not str:
        if not isinstance(value, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidArgumentError(f"{name} must be a string, not {type(value).__name__}.")
        value = str.__str__(value)
    usual = value.isascii() and value.isprintable() and 0 < len(value) <= MAX_IDENTIFIER and value[0] != " "
    if not usual:
        _check_unusual(value, name)
    if reserved and value[0] == RESERVED_PREFIX:
        raise InvalidArgumentError(
            f"{name} {value!r} starts with {RESERVED_PREFIX!r}, which is reserved for automatic ids."
        )
    return value


def _check_unusual(value: str, name: str) -> None:
    if not value or value.isspace():
        raise InvalidArgumentError(f"{name} must not be empty or blank.")
    if any(ord(char) < 32 or 127 <= ord(char) < 160 or 0xD800 <= ord(char) < 0xE000 for char in value):
        raise InvalidArgumentError(
            f"{name} {value!r:.100} holds control characters or lone surrogates, which are not allowed."
        )
    if (size := len(value.encode())) > MAX_IDENTIFIER:
        raise InvalidArgumentError(
            f"{name} {value!r:.40}... has {size} bytes in UTF-8; at most {MAX_IDENTIFIER} are allowed. "
            "Use a shorter key, or a hash."
        )
