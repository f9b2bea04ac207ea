"""How values look to people: times, lengths, JSON, statuses."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import click
from pydantic import TypeAdapter
from rich.text import Text

__all__ = ["JSON", "When", "brief", "counted", "length", "local", "moment", "shortened", "status_text"]

_COLORS = {
    "completed": "green",
    "errored": "red",
    "not_found": "red",
    "not_claimable": "red",
    "cancelled": "yellow",
    "paused": "cyan",
    "queued": "blue",
    "running": "magenta",
}


def status_text(status: str) -> Text:
    return Text(status, style=_COLORS.get(status, ""))


def local(at: datetime | None) -> str:
    """An instant in the zone of the terminal."""
    return "" if at is None else f"{at.astimezone():%Y-%m-%d %H:%M:%S}"


def moment(at: datetime | None) -> str:
    """The same, without what can be left out of a table: the date, if it is today's, or else the seconds."""
    if at is None:
        return ""
    here = at.astimezone()
    return f"{here:%H:%M:%S}" if here.date() == datetime.now(UTC).astimezone().date() else f"{here:%Y-%m-%d %H:%M}"


def counted(number: int, noun: str) -> str:
    """`1 run`, `2 runs`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def length(span: timedelta) -> str:
    """A length of time in as few characters as tell it."""
    seconds = span.total_seconds()
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, hours = seconds / 60, seconds / 3600
    if minutes < 60:
        return f"{minutes:.1f} min"
    return f"{hours:.1f} h" if hours < 48 else f"{hours / 24:.1f} d"


def brief(value: Any) -> str:
    """A value of a run as JSON, as far as it can be."""
    text = TypeAdapter(Any).dump_json(value, fallback=str, warnings=False).decode()
    return text


def shortened(text: str, limit: int) -> str:
    """At most so many characters of one line."""
    line = " ".join(text.split())
    return line if len(line) <= limit else f"{line[: limit - 3]}..."


class _Json(click.ParamType[Any]):
    """JSON on the command line. `-` and `@file` read it from standard input and from a file."""

    name = "json"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        text = value
        if value == "-" or value.startswith("@"):
            try:
                with click.open_file("-" if value == "-" else value[1:], encoding="utf-8") as file:
                    text = file.read()
            except (OSError, UnicodeDecodeError) as error:
                self.fail(str(error), param, ctx)
        try:
            return json.loads(text)
        except ValueError as error:
            self.fail(f"{shortened(text, 60)!r} is not JSON: {error}. A text needs quotes: '\"text\"'.", param, ctx)


class _When(click.ParamType[datetime]):
    """A time (2026-01-31T09:00, in the terminal's zone unless it names one) or how long ago (30m, 12h, 7d)."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        units = {"s": 1, "m": 60, "h": 3600, "d": 86400}
        try:
            if value[-1:] in units and value[:-1].isdigit():
                return datetime.now(UTC) - timedelta(seconds=int(value[:-1]) * units[value[-1]])
            return datetime.fromisoformat(value).astimezone()
        except (ValueError, OverflowError):
            self.fail(f"{value!r} is neither a time (2026-01-31T09:00) nor a length (30m, 12h, 7d).", param, ctx)


JSON = _Json()
When = _When()
