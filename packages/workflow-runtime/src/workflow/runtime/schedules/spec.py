"""When a schedule fires: `every.minutes(15)`, `cron("0 9 * * 1", timezone="Europe/Berlin")`. Pure: no clock, no I/O.

A spec is a set of instants, the ticks, and nothing else: two hosts with the same spec agree about every one of them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise

from workflow.core import DefinitionError

__all__ = ["Every", "Spec", "cron", "every"]

EPOCH = datetime.fromtimestamp(0, UTC)
_MOMENT = timedelta(microseconds=1)
_SAMPLE = 64
_LONGEST = timedelta(days=100 * 365)
_UNITS = {"day": 86400, "hour": 3600, "minute": 60, "second": 1}


class Spec(ABC):
    """The ticks of a schedule. All instants are aware and in UTC; every tick lies on a whole second."""

    @property
    @abstractmethod
    def text(self) -> str:
        """What it is, for people and for comparison: specs of equal text have the same ticks."""

    @abstractmethod
    def next_after(self, at: datetime) -> datetime | None:
        """The first tick after `at`; None if there is none in the fifty years after it."""

    @abstractmethod
    def last_at_or_before(self, at: datetime) -> datetime | None:
        """The last tick at or before `at`; None if there is none in the fifty years before it."""

    def last_before(self, at: datetime) -> datetime | None:
        """The last tick before `at`."""
        return self.last_at_or_before(at - _MOMENT)

    def between(self, start: datetime, end: datetime) -> Iterator[datetime]:
        """The ticks from `start` to `end`, both included, in order."""
        tick = self.next_after(start - _MOMENT)
        while tick is not None and tick <= end:
            yield tick
            tick = self.next_after(tick)

    def shortest_gap(self) -> timedelta:
        """The shortest time between two ticks, as far as the first ones of this century tell."""
        ticks = islice(self.between(datetime(2001, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)), _SAMPLE)
        return min((later - earlier for earlier, later in pairwise(ticks)), default=_LONGEST)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Spec) and self.text == other.text

    def __hash__(self) -> int:
        return hash(self.text)

    def __repr__(self) -> str:
        return f"<{self.text}>"


class Every(Spec):
    """The multiples of a period, counted from 1970-01-01T00:00Z: on every host, after every restart, the same."""

    def __init__(self, period: timedelta) -> None:
        self.period = period

    @property
    def text(self) -> str:
        seconds = int(self.period.total_seconds())
        name, length = next((name, length) for name, length in _UNITS.items() if seconds % length == 0)
        number = seconds // length
        return f"every {name}" if number == 1 else f"every {number} {name}s"

    def next_after(self, at: datetime) -> datetime | None:
        return self._tick((at - EPOCH) // self.period + 1)

    def last_at_or_before(self, at: datetime) -> datetime | None:
        return self._tick((at - EPOCH) // self.period)

    def shortest_gap(self) -> timedelta:
        return self.period

    def _tick(self, number: int) -> datetime | None:
        try:
            return EPOCH + number * self.period
        except OverflowError:
            return None


@dataclass(frozen=True)
class _EveryNamespace:
    """`every.seconds(n)`, `every.minutes(n)`, `every.hours(n)`, `every.days(n)`.

    The ticks are the multiples of the period since 1970-01-01T00:00Z: `every.minutes(15)` fires at :00, :15, :30 and
    :45, `every.days(1)` at midnight UTC. For times of a time zone, use `cron`. `n` is a whole number of at least 1;
    anything else raises `DefinitionError`.
    """

    def seconds(self, n: int) -> Spec:
        return _every(n, "second")

    def minutes(self, n: int) -> Spec:
        return _every(n, "minute")

    def hours(self, n: int) -> Spec:
        return _every(n, "hour")

    def days(self, n: int) -> Spec:
        return _every(n, "day")


every = _EveryNamespace()


def _every(n: int, unit: str) -> Spec:
    if isinstance(n, bool) or not isinstance(n, int) or n < 1:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise DefinitionError(
            f"every.{unit}s({n!r}): give a whole number of at least 1; for fractions, use a smaller unit."
        )
    if n * _UNITS[unit] > _LONGEST.total_seconds():
        raise DefinitionError(f"every.{unit}s({n}) is longer than a hundred years.")
    return Every(timedelta(seconds=n * _UNITS[unit]))


def cron(expr: str, timezone: str = "UTC") -> Spec:
    """The times of a cron expression on the clocks of an IANA time zone.

    Five fields: minute, hour, day of month, month, day of week (0 and 7 are Sunday), with names (`mon`, `jan`),
    lists, ranges and steps; also `L` as day of month (its last one), `mon#2` (the second Monday) and `5L` (the last
    Friday). If both days are restricted, either is enough.

    Where the clocks are set, Debian's rule holds. Expressions with a fixed minute and hour (neither begins with `*`)
    fire once for each of their times: what falls into a skipped hour right after it, what falls into a doubled hour at
    its first pass only. Others fire whenever the clock shows one of their times: never in a skipped hour, in both
    passes of a doubled one.

    Raises `DefinitionError` for what is no such expression, can never fire, or names an unknown zone.
    """
    from .crontime import Cron  # late: it brings the library, and the data of time zones

    return Cron(expr, timezone)
