"""The drawn timeline of a run: one line for each operation, when it was, and how long it took."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from workflow.core.events import Event

from .words import brief, length, shortened, status_text

__all__ = ["Row", "draw_timeline", "timeline_rows"]

_OPENING = {"SIGNAL_AWAITED": "signal", "APPROVAL_REQUESTED": "approval", "TIMER_STARTED": "timer"}
_CLOSING = {"SIGNAL_RESOLVED", "APPROVAL_RESOLVED", "TIMER_FIRED"}
_ENDS = {"RUN_FINISHED": "completed", "RUN_ERRORED": "errored", "RUN_CANCELLED": "cancelled"}
_DROPPED = "dropped"
_GLYPHS = ("━", "●", "╺")
_PLAIN_GLYPHS = ("=", "*", ">")
_BAR = 24
_COMFORTABLE = 100
_FIXED = 38
"""What the other columns and the gaps between them take."""
_NARROW = 10


@dataclass
class Row:
    """One operation: what, from when to when (None: still open), how it ended."""

    kind: str
    name: str
    begin: datetime
    end: datetime | None
    status: str = ""
    details: list[str] = field(default_factory=list[str])

    @property
    def title(self) -> str:
        return f"{self.kind} {self.name}".strip()


def timeline_rows(events: Sequence[Event]) -> list[Row]:
    """The operations of a log, in the order in which they were first heard of."""
    reader = _Reader()
    for event in events:
        reader.take(event)
    return reader.rows


class _Reader:
    """A wait is a bar, from the event that opened it to the one that closed it. A step is known by its end alone."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self._open: dict[str, Row] = {}

    def take(self, event: Any) -> None:
        kind = event.type
        if kind in _OPENING:
            self._begin(event, _OPENING[kind])
        elif kind in _CLOSING:
            self._close(event)
        elif kind.startswith("STEP_"):
            self._step(event)
        elif kind in _ENDS:
            self._drop(event.at)
            row = self._add("run", "", event.at, event.at, _ENDS[kind])
            row.details += _outcome(event)
        elif kind == "RUN_RETRIED":
            self._retried(event)
        elif kind == "CANCEL_REQUESTED":
            row = self._add("cancel", "requested", event.at, event.at)
            row.details += [str(event.reason)] if event.reason else []
        else:
            row = self._add(kind.partition("_")[0].lower(), event.id, event.at, event.at)
            row.details.append(str(event.value))

    def _drop(self, at: datetime) -> None:
        """What the run still waited for when it ended."""
        for row in self._open.values():
            if row.end is None:
                row.end, row.status = at, _DROPPED

    def _retried(self, event: Any) -> None:
        """What was open before is void, and what comes under its id is something new."""
        self._drop(event.at)
        for row in self._open.values():
            if row.status == _DROPPED:
                row.status = "void"
        self._open.clear()
        row = self._add("run", "", event.at, event.at, "retried")
        row.details += [event.reason] if event.reason else []

    def _add(self, kind: str, name: str, begin: datetime, end: datetime | None, status: str = "") -> Row:
        row = Row(kind, name, begin, end, status)
        self.rows.append(row)
        return row

    def _begin(self, event: Any, kind: str) -> None:
        name = {"signal": "name", "approval": "title", "timer": "id"}[kind]
        row = self._open[event.id] = self._add(kind, getattr(event, name), event.at, None, "waits")
        until = getattr(event, "until", None) or getattr(event, "due_at", None)
        row.details += [f"until {until:%Y-%m-%d %H:%M:%S} UTC"] if until is not None else []

    def _close(self, event: Any) -> None:
        # Mail that was there before it was asked for resolves what no event has opened.
        row = self._open.pop(event.id, None) or self._add("signal", getattr(event, "name", event.id), event.at, None)
        row.end = event.at
        timed_out = event.type == "TIMER_FIRED" and row.kind != "timer"
        row.status = "timed out" if timed_out else {"timer": "fired", "signal": "received"}.get(row.kind, "decided")
        row.details = [brief(event.payload.value)] if hasattr(event, "payload") else []

    def _step(self, event: Any) -> None:
        row = self._open.get(event.id)
        if row is None:
            row = self._open[event.id] = self._add("step", event.id, event.at, event.at)
        row.status = {"STEP_FINISHED": "done", "STEP_FAILED": "failed", "STEP_RETRYING": "retrying"}.get(
            event.type, "started"
        )
        row.end = None if event.type in ("STEP_RETRYING", "STEP_STARTED") else event.at
        row.details = [f"attempt {event.attempt}"] if event.attempt > 1 or row.status == "retrying" else []
        if getattr(event, "error", None) is not None:
            row.details.append(f"{event.error.type}: {event.error.message}")
        elif event.type == "STEP_FINISHED" and event.result.value is not None:
            row.details.append(brief(event.result.value))


def _outcome(event: Any) -> list[str]:
    if getattr(event, "output", None) is not None:
        return [brief(event.output.value)]
    error = getattr(event, "error", None)
    return [f"{error.type}: {error.message}"] if error is not None else []


def draw_timeline(console: Console, rows: Sequence[Row], begin: datetime, now: datetime, *, ended: bool) -> None:
    """Draw the rows below each other, on one scale of time from the run's beginning to its end, or to now."""
    end = max((row.end or row.begin for row in rows), default=begin) if ended else now
    bar = _BAR if console.width >= _COMFORTABLE else _BAR // 2
    what = max((len(row.title) for row in rows), default=0)
    details = max(console.width - bar - what - _FIXED, 0)
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", show_edge=False)
    table.add_column("after", justify="right", no_wrap=True, style="dim")
    table.add_column("", no_wrap=True, width=bar)
    table.add_column("what", overflow="fold")
    table.add_column("status", no_wrap=True)
    table.add_column("took", justify="right", no_wrap=True)
    if details >= _NARROW:
        table.add_column("details", no_wrap=True)
    scale = _Scale(begin, end, now, bar, _GLYPHS if console.encoding.lower().startswith("utf") else _PLAIN_GLYPHS)
    for row in rows:
        last = (Text(shortened(", ".join(row.details), details), style="dim"),) if details >= _NARROW else ()
        table.add_row(*scale.cells(row), *last)
    console.print()
    console.print(table)


@dataclass(frozen=True)
class _Scale:
    """Time from left to right, on so many characters."""

    begin: datetime
    end: datetime
    now: datetime
    width: int
    glyphs: tuple[str, str, str]

    def cells(self, row: Row) -> tuple[str | Text, ...]:
        took = length((row.end or self.now) - row.begin) if row.end != row.begin else ""
        # What a rerun has from the run that it goes on from is older than itself.
        after = length(row.begin - self.begin) if row.begin >= self.begin else "before"
        return after, self._bar(row), Text(row.title), _status(row), took

    def _place(self, at: datetime) -> int:
        total = (self.end - self.begin).total_seconds()
        share = (at - self.begin).total_seconds() / total if total > 0 else 0.0
        return min(max(round(share * (self.width - 1)), 0), self.width - 1)

    def _bar(self, row: Row) -> Text:
        """Where the row lies: a point, a bar, or a bar that goes on."""
        line, point, going_on = self.glyphs
        first = self._place(row.begin)
        if row.end == row.begin:
            return Text(" " * first + point)
        bar = line * (self._place(row.end or self.end) - first + 1)
        return Text(" " * first + (bar if row.end is not None else bar[:-1] + going_on), style="cyan")


def _status(row: Row) -> Text:
    colors = {"failed": "red", "timed out": "yellow", "retrying": "yellow", "waits": "cyan"}
    return status_text(row.status) if row.kind == "run" else Text(row.status, style=colors.get(row.status, ""))
