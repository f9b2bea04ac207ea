"""`cron`: the times of a cron expression, and what becomes of them where the clocks are set.

cronsim reads the expression and walks its times on a clock that is never set, forwards and backwards. Which instants
these times are in a time zone is decided here: cronsim has a rule for that as well (the same one), but started within
a doubled hour it answers times that have passed, and it loses times where clocks are set by half an hour.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache

from cronsim import CronSim, CronSimError

from workflow.core import DefinitionError

from .spec import Spec

__all__ = ["Cron"]

_FIELDS = "minute (0-59), hour (0-23), day of month (1-31), month (1-12 or jan-dec), day of week (0-7 or sun-sat)"
_SETTING = timedelta(hours=3)
"""Clocks are set back by less than this, and not twice in this time."""
_SECOND = timedelta(seconds=1)
_PROBE = datetime(2000, 1, 1, tzinfo=UTC)


class Cron(Spec):
    """See `cron`."""

    def __init__(self, expression: str, timezone: str) -> None:
        self._expression = _checked(expression)
        self._zone_name = timezone
        self._zone = _zone(timezone)
        minute, hour, *_ = self._expression.split()
        self._fixed = not minute.startswith("*") and not hour.startswith("*")
        if self.next_after(_PROBE) is None:
            raise DefinitionError(f"cron({expression!r}) never fires: there is no such day. Check its day and month.")

    @property
    def text(self) -> str:
        return f"cron {self._expression} {self._zone_name}"

    def next_after(self, at: datetime) -> datetime | None:
        return _next_after(self, at)

    def last_at_or_before(self, at: datetime) -> datetime | None:
        return _last_at_or_before(self, at)

    # On the wall: naive times of the zone

    def find_next(self, at: datetime) -> datetime | None:
        """Times of the wall are in the order of their instants, but for those that a doubled hour repeats."""
        local, back = self._local(at), self._set_back(at, at + _SETTING)
        found: datetime | None = None
        for wall in CronSim(self._expression, local - back):
            if found is not None and (not back or wall > local + _SETTING):
                break
            later = [instant for instant in self._instants(wall) if instant > at]
            found = min([*later, found] if found is not None else later, default=None)
        return found

    def find_last(self, at: datetime) -> datetime | None:
        local, back = self._local(at), self._set_back(at - _SETTING, at)
        found: datetime | None = None
        for wall in CronSim(self._expression, local.replace(microsecond=0) + back + _SECOND, reverse=True):
            if found is not None and (not back or wall < local - _SETTING):
                break
            earlier = [instant for instant in self._instants(wall) if instant <= at]
            found = max([*earlier, found] if found is not None else earlier, default=None)
        return found

    def _instants(self, wall: datetime) -> Iterator[datetime]:
        """When the clock shows this time, under the rule: in a skipped hour never, in a doubled one twice."""
        first, second = (wall.replace(tzinfo=self._zone, fold=fold).astimezone(UTC) for fold in (0, 1))
        if self._local(first) == wall:
            yield first
            if second != first and not self._fixed:
                yield second
        elif self._fixed:
            yield self._change(second, first)

    def _change(self, before: datetime, after: datetime) -> datetime:
        """The second at which the zone's offset changes between the two."""
        offset = self._offset(after)
        while after - before > _SECOND:
            middle = before + (after - before) // 2 // _SECOND * _SECOND
            before, after = (before, middle) if self._offset(middle) == offset else (middle, after)
        return after

    def _set_back(self, start: datetime, end: datetime) -> timedelta:
        """By how much the clocks are set back between the two instants."""
        return max(self._offset(start) - self._offset(end), timedelta(0))

    def _offset(self, at: datetime) -> timedelta:
        return at.astimezone(self._zone).utcoffset() or timedelta(0)

    def _local(self, at: datetime) -> datetime:
        return at.astimezone(self._zone).replace(tzinfo=None, fold=0)


@lru_cache(maxsize=4096)
def _next_after(spec: Cron, at: datetime) -> datetime | None:
    return spec.find_next(at)


@lru_cache(maxsize=4096)
def _last_at_or_before(spec: Cron, at: datetime) -> datetime | None:
    return spec.find_last(at)


def _checked(expression: str) -> str:
    """The expression as it is compared: upper case, single blanks."""
    if not isinstance(expression, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise DefinitionError(f"cron() takes an expression such as '0 9 * * mon', not {type(expression).__name__}.")
    fields = expression.upper().split()
    if len(fields) != 5:
        hint = " For seconds, use every.seconds(n)." if len(fields) == 6 else ""
        hint = " Write '0 0 * * *' for @daily, '0 * * * *' for @hourly." if expression.startswith("@") else hint
        raise DefinitionError(f"cron({expression!r}) has {len(fields)} fields instead of five: {_FIELDS}.{hint}")
    try:
        CronSim(" ".join(fields), _PROBE)
    except (CronSimError, ValueError, TypeError, AssertionError) as error:
        reason = str(error) if isinstance(error, CronSimError) else "It can't be read"
        raise DefinitionError(f"cron({expression!r}): {reason}. The fields are {_FIELDS}.") from error
    return " ".join(fields)


def _zone(name: str) -> tzinfo:
    if name == "UTC":
        return UTC
    from zoneinfo import ZoneInfo

    try:
        return ZoneInfo(name)
    except Exception as error:  # of many kinds: not found, a folder, no text, a path
        raise DefinitionError(
            f"There is no time zone {name!r}. Use an IANA name such as 'Europe/Berlin'. "
            "Where the system has no time zones at all: pip install tzdata."
        ) from error
