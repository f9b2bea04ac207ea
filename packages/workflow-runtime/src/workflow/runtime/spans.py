"""Arguments that callers give: refused with a clear word before anything is written."""

from __future__ import annotations

from datetime import timedelta

from workflow.core import InvalidArgumentError
from workflow.core.arguments import Duration, identifier, seconds

__all__ = ["checked_priority", "count", "limit_span", "span", "wanted_id"]

_LONGEST = timedelta(days=100 * 365)
_MOST = 10**9
"""More than anybody means, and what every database takes for a number."""
_LEAST_PRIORITY, _MOST_PRIORITY = -(2**31), 2**31 - 1


def span(value: Duration, name: str) -> timedelta:
    """A length of time that can be added to any date of our century: at most a hundred years."""
    length = seconds(value, name)
    if length > _LONGEST.total_seconds():
        raise InvalidArgumentError(f"{name} must be at most a hundred years, not {length:g} s.")
    return timedelta(seconds=length)


def limit_span(value: Duration, name: str) -> timedelta:
    """A length of time for something to happen in: not nothing."""
    length = span(value, name)
    if not length:
        raise InvalidArgumentError(f"{name} must be longer than nothing.")
    return length


def count(value: int, name: str, *, least: int = 0) -> int:
    """A whole number of at least `least`, and at most a billion."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InvalidArgumentError(f"{name} must be a whole number of at least {least}, not {value!r}.")
    if value > _MOST:
        raise InvalidArgumentError(f"{name} must be at most {_MOST:,}.")
    return value


def checked_priority(priority: int, name: str = "priority") -> int:
    """A whole number of 32 bits."""
    whole = isinstance(priority, int) and not isinstance(priority, bool)  # pyright: ignore[reportUnnecessaryIsInstance]
    if not whole or not _LEAST_PRIORITY <= priority <= _MOST_PRIORITY:
        raise InvalidArgumentError(f"{name} must be a whole number of 32 bits, not {priority!r}.")
    return priority


def wanted_id(value: str | None, name: str) -> str | None:
    """An id to look for; None: any."""
    return None if value is None else identifier(value, name)
