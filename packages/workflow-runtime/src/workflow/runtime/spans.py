"""Numbers that callers give: refused with a clear word before anything is written."""

from __future__ import annotations

from datetime import timedelta

from workflow.core import InvalidArgumentError
from workflow.core.arguments import Duration, seconds

__all__ = ["count", "span"]

_LONGEST = timedelta(days=100 * 365)


def span(value: Duration, name: str) -> timedelta:
    """A length of time that can be added to any date of our century: at most a hundred years."""
    length = seconds(value, name)
    if length > _LONGEST.total_seconds():
        raise InvalidArgumentError(f"{name} must be at most a hundred years, not {length:g} s.")
    return timedelta(seconds=length)


def count(value: int, name: str, *, least: int = 0) -> int:
    """A whole number of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InvalidArgumentError(f"{name} must be a whole number of at least {least}, not {value!r}.")
    return value
