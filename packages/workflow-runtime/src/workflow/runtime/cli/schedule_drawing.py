"""Schedules for people."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from workflow.runtime.schedules.views import ScheduleHistory, ScheduleInfo, ScheduleTick

from .words import local, moment

__all__ = ["draw_schedule", "draw_schedules", "schedule_line", "span_text"]

_GAP = 2
_COLORS = {"paused": "yellow", "disabled": "yellow", "unregistered": "red", "superseded": "yellow"}
_OUTCOMES = {"missed": "red", "skipped": "yellow", "replaced": "yellow", "buffered": "cyan"}


def schedule_status(info: ScheduleInfo) -> str:
    """In one word, whether it fires."""
    if info.paused:
        return "paused"
    if not info.enabled:
        return "disabled"
    if not info.registered:
        return "unregistered"
    return "superseded" if info.superseded else "active"


def schedule_line(info: ScheduleInfo) -> Text:
    """What has become of a schedule, in one line."""
    line = _status(info)
    line.append(f" {info.id}")
    if info.next_at is not None:
        line.append(f"  next {local(info.next_at)}", style="dim")
    return line.append(f"  {info.pause_reason}" if info.pause_reason else "", style="dim")


def _status(info: ScheduleInfo) -> Text:
    status = schedule_status(info)
    return Text(status, style=_COLORS.get(status, "green"))


def draw_schedules(console: Console, found: Sequence[ScheduleInfo]) -> None:
    """Schedules below each other. Ids are never cut."""
    if not found:
        console.print("No schedules.")
        return
    columns = {
        "schedule": [info.id for info in found],
        "workflow": [info.workflow_id for info in found],
        "status": [schedule_status(info) for info in found],
        "next": [moment(info.next_at) for info in found],
        "last": [f"{info.last_outcome} {moment(info.last_tick)}" if info.last_outcome else "" for info in found],
        "runs": [str(len(info.active_runs)) if info.active_runs else "" for info in found],
        "when": [info.spec for info in found],
    }
    _fit(columns, console.width)
    table = Table(box=None, padding=(0, _GAP, 0, 0), header_style="dim", show_edge=False)
    for name in columns:
        table.add_column(name, overflow="fold", no_wrap=name != "schedule")
    for cells in zip(*columns.values(), strict=True):
        table.add_row(*(Text(cell, style=_COLORS.get(cell, "")) for cell in cells))
    console.print(table)


def _fit(columns: dict[str, list[str]], width: int) -> None:
    """Leave out what a narrow terminal can do without."""
    for spare in ("last", "runs", "when", "workflow"):
        if sum(max(len(name), *map(len, cells)) + _GAP for name, cells in columns.items()) <= width:
            return
        del columns[spare]


def draw_schedule(console: Console, info: ScheduleInfo, history: ScheduleHistory) -> None:
    """Everything about one schedule, and its last ticks."""
    table = Table.grid(padding=(0, _GAP))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row("schedule", Text(info.id, style="bold"))
    table.add_row("workflow", Text(info.workflow_id))
    table.add_row("when", Text(info.spec))
    table.add_row("status", _status(info))
    if info.paused:
        table.add_row("paused", Text(" ".join(filter(None, [local(info.paused_at), info.pause_reason]))))
    table.add_row("next", local(info.next_at) or "not before it is resumed, enabled or first seen by a sweep")
    for name, value in (("buffered", local(info.buffered)), ("runs", "\n".join(info.active_runs))):
        if value:
            table.add_row(name, Text(value))
    console.print(table)
    console.print()
    _draw_history(console, history)


def _draw_history(console: Console, history: ScheduleHistory) -> None:
    if not history.ticks:
        console.print("No tick has come yet.")
        return
    table = Table(box=None, padding=(0, _GAP, 0, 0), header_style="dim", show_edge=False)
    ticks = [span_text(tick) for tick in history.ticks]
    for name in ("tick", "outcome", "run, or why not"):
        table.add_column(name, no_wrap=name != "run, or why not", overflow="fold")
    for tick, when in zip(history.ticks, ticks, strict=True):
        outcome = Text(tick.outcome, style=_OUTCOMES.get(tick.outcome, "green"))
        table.add_row(when, outcome, Text(tick.run_id or tick.detail or ""))
    console.print(table)
    if history.next_before is not None:
        console.print(f"There is more: --before {history.next_before}", style="dim", soft_wrap=True)


def span_text(tick: ScheduleTick) -> str:
    """When it was; of several ticks in one, from when to when, with the day once."""
    if tick.until is None:
        return local(tick.tick_at)
    first, last = local(tick.tick_at), local(tick.until)
    day, _, time = last.partition(" ")
    return f"{first} to {time if first.startswith(day) else last}"
