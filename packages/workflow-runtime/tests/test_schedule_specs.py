"""When schedules fire: `every` and `cron`, above all where the clocks are set."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workflow.core import DefinitionError
from workflow.runtime import cron, every
from workflow.runtime.schedules.spec import Spec

MINUTE = timedelta(minutes=1)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def ticks(spec: Spec, start: str, count: int = 3) -> list[str]:
    """The first ticks after a time in UTC."""
    found: list[str] = []
    tick = spec.next_after(at(start))
    while tick is not None and len(found) < count:
        found.append(f"{tick:%m-%d %H:%M}")
        tick = spec.next_after(tick)
    return found


# every


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        (every.seconds(1), "every second"),
        (every.seconds(90), "every 90 seconds"),
        (every.minutes(15), "every 15 minutes"),
        (every.minutes(60), "every hour"),
        (every.hours(36), "every 36 hours"),
        (every.hours(48), "every 2 days"),
        (cron(" 0  9 * * mon", timezone="Europe/Berlin"), "cron 0 9 * * MON Europe/Berlin"),
        (cron("*/5 * * * *"), "cron */5 * * * * UTC"),
    ],
)
def test_a_spec_says_what_it_is(spec: Spec, text: str) -> None:
    """The text of a spec is the same however it was written."""
    assert (spec.text, repr(spec)) == (text, f"<{text}>")
    assert every.minutes(60) == every.hours(1) != every.hours(2)


def test_periods_count_from_the_epoch() -> None:
    """Whoever looks, and whenever, sees the same ticks."""
    assert ticks(every.minutes(15), "2026-11-22T10:07:30") == ["11-22 10:15", "11-22 10:30", "11-22 10:45"]
    assert ticks(every.days(1), "2026-11-22T00:00:00") == ["11-23 00:00", "11-24 00:00", "11-25 00:00"]
    assert every.minutes(15).last_at_or_before(at("2026-11-22T10:15:00")) == at("2026-11-22T10:15:00")
    assert every.minutes(15).last_before(at("2026-11-22T10:15:00")) == at("2026-11-22T10:00:00")
    assert every.hours(1).next_after(at("1969-12-31T23:30:00")) == at("1970-01-01T00:00:00")


@given(period=st.integers(1, 10**7), seconds=st.floats(0, 4e9))
def test_a_period_finds_its_neighbours(period: int, seconds: float) -> None:
    """The last tick at or before a time and the first one after it are one period apart, with the time between."""
    spec, time = every.seconds(period), at("1970-01-01") + timedelta(seconds=seconds)
    last, following = spec.last_at_or_before(time), spec.next_after(time)
    assert last is not None
    assert following is not None
    assert last <= time < following
    assert following - last == timedelta(seconds=period)


# cron where the clocks are set


BERLIN, NEW_YORK, LORD_HOWE = "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"


@pytest.mark.parametrize(
    ("expression", "zone", "start", "expected"),
    [
        # Berlin: 02:00 -> 03:00 on 29 March (01:00 UTC), 03:00 -> 02:00 on 25 October (01:00 UTC)
        ("0 9 * * *", BERLIN, "2026-03-28T12:00", ["03-29 07:00", "03-30 07:00", "03-31 07:00"]),
        ("30 2 * * *", BERLIN, "2026-03-28T12:00", ["03-29 01:00", "03-30 00:30", "03-31 00:30"]),
        ("0,30 2 * * *", BERLIN, "2026-03-29T00:00", ["03-29 01:00", "03-30 00:00", "03-30 00:30"]),
        ("30 2,3 * * *", BERLIN, "2026-03-29T00:00", ["03-29 01:00", "03-29 01:30", "03-30 00:30"]),
        ("*/30 2 * * *", BERLIN, "2026-03-28T12:00", ["03-30 00:00", "03-30 00:30", "03-31 00:00"]),
        ("30 * * * *", BERLIN, "2026-03-29T00:00", ["03-29 00:30", "03-29 01:30", "03-29 02:30"]),
        ("0 */2 * * *", BERLIN, "2026-03-28T22:30", ["03-28 23:00", "03-29 02:00", "03-29 04:00"]),
        ("30 2 * * *", BERLIN, "2026-10-24T12:00", ["10-25 00:30", "10-26 01:30", "10-27 01:30"]),
        ("30 2 * * *", BERLIN, "2026-10-25T01:10", ["10-26 01:30", "10-27 01:30", "10-28 01:30"]),
        ("*/30 2 * * *", BERLIN, "2026-10-25T00:00", ["10-25 00:30", "10-25 01:00", "10-25 01:30"]),
        ("30 * * * *", BERLIN, "2026-10-25T00:00", ["10-25 00:30", "10-25 01:30", "10-25 02:30"]),
        ("0 */2 * * *", BERLIN, "2026-10-24T23:00", ["10-25 00:00", "10-25 01:00", "10-25 03:00"]),
        # New York: 02:00 -> 03:00 on 8 March (07:00 UTC), 02:00 -> 01:00 on 1 November (06:00 UTC)
        ("15 2 * * *", NEW_YORK, "2026-03-08T00:00", ["03-08 07:00", "03-09 06:15", "03-10 06:15"]),
        ("15 1 * * *", NEW_YORK, "2026-11-01T00:00", ["11-01 05:15", "11-02 06:15", "11-03 06:15"]),
        ("15 * * * *", NEW_YORK, "2026-11-01T04:30", ["11-01 05:15", "11-01 06:15", "11-01 07:15"]),
        # Lord Howe: 02:00 -> 02:30 on 4 October (15:30 UTC of the 3rd),
        # 02:00 -> 01:30 on 5 April (15:00 UTC of the 4th)
        ("10 2 * * *", LORD_HOWE, "2026-10-03T00:00", ["10-03 15:30", "10-04 15:10", "10-05 15:10"]),
        ("45 1 * * *", LORD_HOWE, "2026-04-04T12:00", ["04-04 14:45", "04-05 15:15", "04-06 15:15"]),
        ("45 * * * *", LORD_HOWE, "2026-04-04T14:00", ["04-04 14:45", "04-04 15:15", "04-04 16:15"]),
        ("*/30 2 * * *", LORD_HOWE, "2026-04-04T14:00", ["04-04 15:30", "04-04 16:00", "04-05 15:30"]),
        # days
        ("0 0 29 2 *", "UTC", "2026-01-01", ["02-29 00:00"] * 3),
        ("0 0 31 * *", "UTC", "2026-01-31T12:00", ["03-31 00:00", "05-31 00:00", "07-31 00:00"]),
        ("0 12 L * *", "UTC", "2028-02-01", ["02-29 12:00", "03-31 12:00", "04-30 12:00"]),
        ("0 0 13 * fri", "UTC", "2026-11-12", ["11-13 00:00", "11-20 00:00", "11-27 00:00"]),
        ("0 0 * jan-mar/2 mon#1", "UTC", "2026-01-01", ["01-05 00:00", "03-02 00:00", "01-04 00:00"]),
        ("5-10/5,50 22-23 * * 7", "UTC", "2026-11-22T22:06", ["11-22 22:10", "11-22 22:50", "11-22 23:05"]),
    ],
)
def test_cron_where_clocks_are_set(expression: str, zone: str, start: str, expected: list[str]) -> None:
    """The stated rule for skipped and doubled hours, leap days and short months, written out in UTC."""
    assert ticks(cron(expression, timezone=zone), start) == expected


def matches(field: str, value: int) -> bool:
    """Whether a field of the simple expressions below takes the value."""
    base, _, step = field.partition("/")
    if base == "*":
        return value % int(step or 1) == 0
    return value in {int(part) for part in base.split(",")}


def expected_ticks(minute: str, hour: str, zone: ZoneInfo, start: datetime, end: datetime) -> list[datetime]:
    """The rule as it is stated, minute by minute: slow, and with nothing in common with the real thing."""
    fixed = "*" not in minute and "*" not in hour
    found: set[datetime] = set()
    shown: set[datetime] = set()
    time, before = start - timedelta(days=2), None
    while time <= end:
        local = time.astimezone(zone).replace(tzinfo=None, fold=0)
        walls = [local]
        if before is not None and local - before > MINUTE:  # what the clock has jumped over
            walls += [before + MINUTE * n for n in range(1, int((local - before) / MINUTE))] if fixed else []
        for wall in walls:
            if matches(minute, wall.minute) and matches(hour, wall.hour) and not (fixed and wall in shown):
                shown.add(wall)
                found.add(time)
        time, before = time + MINUTE, local
    return sorted(tick for tick in found if start < tick <= end)


minutes_field = st.one_of(
    st.sampled_from(["*", "*/7", "*/15", "*/20", "0"]),
    st.lists(st.integers(0, 59), min_size=1, max_size=3).map(lambda numbers: ",".join(map(str, numbers))),
)
hours_field = st.one_of(
    st.sampled_from(["*", "*/2", "*/3"]),
    st.lists(st.integers(0, 4), min_size=1, max_size=3).map(lambda numbers: ",".join(map(str, numbers))),
)
SETTINGS = [
    (BERLIN, "2026-03-29T01:00"),
    (BERLIN, "2026-10-25T01:00"),
    (NEW_YORK, "2026-03-08T07:00"),
    (NEW_YORK, "2026-11-01T06:00"),
    (LORD_HOWE, "2026-10-03T15:30"),
    (LORD_HOWE, "2026-04-04T15:00"),
    ("Asia/Kathmandu", "2026-06-01T00:00"),
]


@settings(deadline=None, max_examples=60)
@given(minute=minutes_field, hour=hours_field, change=st.sampled_from(SETTINGS), offset=st.integers(-300, 300))
def test_cron_is_what_the_clock_on_the_wall_shows(minute: str, hour: str, change: tuple[str, str], offset: int) -> None:
    """Forwards and backwards, from any minute near a change of the clocks, a cron has the ticks of its stated rule."""
    zone, moment = change
    spec = cron(f"{minute} {hour} * * *", timezone=zone)
    start = at(moment) + MINUTE * offset
    end = start + timedelta(hours=26)
    expected = expected_ticks(minute, hour, ZoneInfo(zone), start, end)
    assert list(spec.between(start + MINUTE / 2, end)) == expected
    backwards: list[datetime] = []
    tick = spec.last_at_or_before(end)
    while tick is not None and tick > start:
        backwards.append(tick)
        tick = spec.last_before(tick)
    assert backwards[::-1] == expected


def test_a_year_of_every_minute_has_no_gap_and_no_double() -> None:
    """Elapsed time is not changed by the clocks: every minute is every minute."""
    for zone, moment in SETTINGS:
        found = list(islice(cron("* * * * *", timezone=zone).between(at(moment) - MINUTE * 200, at("2099-01-01")), 400))
        assert all(later - earlier == MINUTE for earlier, later in pairwise(found))


# Errors


@pytest.mark.parametrize(
    ("expression", "zone", "message"),
    [
        ("0 9 * *", "UTC", "has 4 fields instead of five"),
        ("*/10 0 9 * * *", "UTC", "For seconds, use every.seconds"),
        ("@daily", "UTC", "Write '0 0 \\* \\* \\*' for @daily"),
        ("60 * * * *", "UTC", "Bad minute"),
        ("0 24 * * *", "UTC", "Bad hour"),
        ("0 0 0 * *", "UTC", "Bad day-of-month"),
        ("0 0 1 foo *", "UTC", "Bad month"),
        ("0 0 * * 8", "UTC", "Bad day-of-week"),
        ("*/0 * * * *", "UTC", "Bad minute"),
        ("5-1 * * * *", "UTC", "Bad minute"),
        ("1,,2 * * * *", "UTC", "Bad minute"),
        ("* * * * 1-5#2", "UTC", "Bad day-of-week"),
        ("* * L-3 * *", "UTC", "Bad day-of-month"),
        ("0 0 31 2 *", "UTC", "Bad day-of-month|never fires"),
        ("0 0 31 2,4,6 *", "UTC", "Bad day-of-month|never fires"),
        ("0 0 */20 * 1L", "UTC", "never fires"),
        ("0 9 * * 1", "Europe/Berln", "no time zone 'Europe/Berln'"),
        ("0 9 * * 1", "Europe", "no time zone 'Europe'"),
        ("0 9 * * 1", "../etc/passwd", "no time zone"),
        ("0 9 * * 1", "", "no time zone"),
        ("0 9 * * 1", None, "no time zone"),
        (9, "UTC", "takes an expression"),
    ],
)
def test_a_bad_cron_fails_where_it_is_written(expression: str, zone: str, message: str) -> None:
    """What is no cron expression, can never fire or names no zone is refused with a word that helps."""
    with pytest.raises(DefinitionError, match=message):
        cron(expression, timezone=zone)


@pytest.mark.parametrize("number", [0, -1, 1.5, True, "1", None, 10**12])
def test_a_bad_period_fails_where_it_is_written(number: int) -> None:
    """A period is a whole number of at least one."""
    with pytest.raises(DefinitionError, match=r"every\.seconds\("):
        every.seconds(number)


def test_the_cron_library_is_imported_when_it_is_needed() -> None:
    """Who has no schedule doesn't wait for cron, nor for the data of time zones."""
    look = "print([name for name in sys.modules if name[:4] in ('cron', 'tzda')])"
    code = f"import sys, workflow.runtime as w; w.every.hours(1); {look}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_zone_may_come_second() -> None:
    """`cron(expr, timezone)` takes the time zone as its second argument, as well as by name."""
    assert cron("0 9 * * 1", "Europe/Berlin") == cron(expr="0 9 * * 1", timezone="Europe/Berlin")
