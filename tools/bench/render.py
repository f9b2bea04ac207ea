"""The report as tables: of `rich` for the terminal, of Markdown for the page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from bench.catalog import CATALOG
from bench.goals import goals
from bench.results import Crowded, Report
from bench.rows import cell, number, rows
from rich.console import Console
from rich.table import Table

__all__ = ["TABLES", "markdown", "parts", "show"]

Cells = list[list[str]]
"""A table: the first row is its header."""


def compared(report: Report) -> Cells:
    figures = report.figures()
    systems = [key for key in CATALOG if key in figures]
    header = ["", "", *(CATALOG[key].title for key in systems)]
    return [
        header,
        *([row.title, row.unit, *(cell(figures, key, row) for key in systems)] for row in rows(report.sizes)),
    ]


def wanted(report: Report) -> Cells:
    found = goals(report)
    return [
        ["goal", "wanted", "measured", ""],
        *([goal.title, goal.want, number(goal.ratio), "met" if goal.met else "not met"] for goal in found),
    ]


def scaled(report: Report) -> Cells:
    first = next(iter(report.scale.values()), 1.0)
    return [
        ["worker processes", "runs/s", "beside one"],
        *([processes, number(rate), number(rate / first)] for processes, rate in report.scale.items()),
    ]


def crowded(report: Report) -> Cells:
    header = ["", "empty store, ms", "full store, ms"]
    if (full := report.crowded) is None:
        return [header]
    return [header, *([name, number(full.empty_ms[name]), number(ms)] for name, ms in full.full_ms.items())]


TABLES = {"systems": compared, "goals": wanted, "scale": scaled, "crowded": crowded}


def show(report: Report, console: Console) -> None:
    for title, cells in TABLES.items():
        table = Table(title=title)
        header, *body = cells(report)
        for number_, name in enumerate(header):
            table.add_column(name, justify="left" if number_ == 0 else "right")
        for row in body:
            table.add_row(*row)
        console.print(table)
    for failure in report.failures:
        console.print(f"[red]failed:[/red] {failure}", highlight=False)


def markdown(cells: Cells) -> str:
    header, *body = cells
    rules = ["---", *("--:" for _ in header[1:])]
    return "\n".join(_line(row) for row in [header, rules, *body])


def _line(row: Sequence[str]) -> str:
    return "| " + " | ".join(text.replace("|", "\\|") for text in row) + " |"


def parts(report: Report) -> dict[str, str]:
    """What the page has between its markers, by name."""
    tables = {name: markdown(cells(report)) for name, cells in TABLES.items()}
    return {**tables, "setting": _setting(report), "plans": _plans(report.crowded)}


def _setting(report: Report) -> str:
    machine = ", ".join(f"{value}" for value in report.machine.values())
    versions = ", ".join(f"{name} {version}" for name, version in report.versions.items())
    rounds = report.sizes["rounds"]
    counted = f"medians of {rounds} rounds" if rounds > 1 else "one round"
    return f"Measured {report.when} in {report.took_s / 60:.0f} minutes, {counted}. {machine}. {versions}."


def _plans(full: Crowded | None) -> str:
    lines: Iterable[str] = ()
    if full is not None:
        lines = (line for name, plan in full.plans.items() for line in (name, *(f"    {node}" for node in plan)))
    return "\n".join(["```text", *lines, "```"])
