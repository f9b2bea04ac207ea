"""Tables and paragraphs for people."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from workflow.core.records import Wait
from workflow.runtime.diagnosis import Diagnosis
from workflow.runtime.results import Run, RunPage, RunResult, SweepResult

from .places import place_of
from .words import brief, counted, length, local, moment, shortened, status_text

__all__ = ["draw_diagnosis", "draw_page", "draw_result", "draw_run", "draw_sweep", "result_line", "waits_text"]

_GAP = 2
_LINE = 300
"""Of an error in a worker's list of drives, so many characters."""
_WHOLE = 4000
_NARROW = 16
"""Fewer characters than these say nothing about a run."""


def waits_text(waits: Sequence[Wait]) -> str:
    """What a run waits for, in a few words."""
    return ", ".join(f"{wait.kind} {wait.name or wait.id}" if wait.kind != "blocked" else "blocked" for wait in waits)


def _about(run: Run[Any]) -> str:
    if run.error is not None:
        return f"{run.error.type}: {run.error.message}"
    return brief(run.output) if run.status == "completed" and run.output is not None else waits_text(run.waits)


def draw_page(console: Console, page: RunPage) -> None:
    """Runs below each other. Ids are never cut: they are there to be copied."""
    if not page.runs:
        console.print("No runs.")
        return
    columns = {
        "run": [run.run_id for run in page.runs],
        "workflow": [run.workflow_id for run in page.runs],
        "status": [run.status for run in page.runs],
        "created": [moment(run.created_at) for run in page.runs],
        "due": [moment(run.due_at) for run in page.runs],
    }
    room = _fit(columns, console.width)
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", show_edge=False)
    for name in columns:
        table.add_column(name, overflow="fold", no_wrap=name != "run")
    if room:
        table.add_column("about", no_wrap=True)
    for run, *cells in zip(page.runs, *columns.values(), strict=True):
        styled = (status_text(cell) if cell == run.status else Text(cell) for cell in cells)
        table.add_row(*styled, *([Text(shortened(_about(run), room), style="dim")] if room else []))
    console.print(table)
    if page.next_cursor is not None:
        console.print(f"There are more: --cursor {page.next_cursor}", style="dim", soft_wrap=True)


def _fit(columns: dict[str, list[str]], width: int) -> int:
    """Leave out what a narrow terminal can do without; how many characters remain for a last column."""
    for spare in ("created", "due", "workflow", None):
        taken = sum(max(len(name), *map(len, cells)) + _GAP for name, cells in columns.items()) + _GAP
        if width - taken >= _NARROW:
            return width - taken
        if spare is not None:
            del columns[spare]
    return 0


def draw_run(console: Console, run: Run[Any], diagnosis: Diagnosis) -> None:
    """Everything about one run."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    version = f" (version {run.workflow_version})" if run.workflow_version is not None else ""
    table.add_row("run", Text(run.run_id, style="bold"))
    table.add_row("workflow", Text(f"{run.workflow_id}{version}"))
    table.add_row("status", status_text(run.status))
    table.add_row("created", local(run.created_at))
    if run.completed_at is not None:
        table.add_row("ended", f"{local(run.completed_at)} (after {length(run.completed_at - run.created_at)})")
    table.add_row("input", Text(shortened(brief(run.input), 1000)))
    for name, value in (("output", run.output), ("state", run.state)):
        if value is not None:
            table.add_row(name, Text(shortened(brief(value), 1000)))
    if run.error is not None and (run.ended or run.error.message not in diagnosis.summary):
        table.add_row("error", Text(f"{run.error.type}: {run.error.message}", style="red"))
    console.print(table)
    if not run.ended:
        console.print()
        draw_diagnosis(console, diagnosis)


def draw_diagnosis(console: Console, diagnosis: Diagnosis) -> None:
    console.print(Text(diagnosis.summary, style="yellow" if diagnosis.stuck else ""), soft_wrap=True)
    for detail in diagnosis.details:
        console.print(Text(f"  {detail}"), soft_wrap=True)
    if diagnosis.remedy is not None:
        console.print(Text(f"  -> {diagnosis.remedy}", style="bold"), soft_wrap=True)


def result_line(result: RunResult[Any], at: datetime | None = None, limit: int = _LINE) -> Text:
    """What became of a run, in one line; of what is longer than the limit, the beginning."""
    line = Text(f"{local(at)} " if at is not None else "")
    line.append_text(status_text(result.kind))
    line.append(f" {result.run_id}")
    about = _about_result(result)
    place = place_of(result.exception) if result.kind == "errored" else None
    line.append(f"  {shortened(about, limit)}" if about else "", style="dim")
    return line.append(f" ({place})" if place is not None else "", style="dim")


def _about_result(result: RunResult[Any]) -> str:
    """Why, or with what; of a delivery, what its kind means."""
    run = result.run
    if result.kind == "not_waiting":
        return f"nothing was delivered: the run has ended ({run.status})" if run is not None else ""
    if result.kind == "duplicate":
        return "it was accepted before; nothing has changed"
    if result.kind == "buffered":
        return "it is kept until the run asks for it" + (f"; now it waits for {waits_text(run.waits)}" if run else "")
    if result.error is not None:
        return f"{result.error.type}: {result.error.message}"
    return _about(run) if run is not None else ""


def draw_result(console: Console, result: RunResult[Any]) -> None:
    console.print(result_line(result, limit=_WHOLE), soft_wrap=True)


def draw_sweep(console: Console, sweeps: Sequence[SweepResult]) -> None:
    """What sweeps have done, all in all."""
    parts = ("recovered", "ready", "scheduled", "timers")
    total = sum(sweep.summary.total for sweep in sweeps)
    for part in parts:
        kinds: dict[str, int] = {}
        for sweep in sweeps:
            for kind, number in getattr(sweep.summary, part).items():
                kinds[kind] = kinds.get(kind, 0) + number
        if kinds:
            console.print(f"{part:>10}  " + ", ".join(f"{number} {kind}" for kind, number in sorted(kinds.items())))
    last = sweeps[-1]
    more = "there may be more: sweep again" if last.remaining_may_exist else "nothing more is due"
    console.print(escape(f"{counted(total, 'run')} driven, {more}."))
