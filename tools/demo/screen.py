"""The timeline on the terminal."""

from __future__ import annotations

import time
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

_COLOURS = ("cyan", "green", "magenta")
_WORDS = {
    "RUN_STARTED": "run started",
    "STEP_STARTED": "step started",
    "STEP_FINISHED": "step finished, and recorded",
    "NOW_RECORDED": "time recorded",
    "TIMER_STARTED": "sleeps until",
    "TIMER_FIRED": "timer fired",
    "SIGNAL_AWAITED": "waits for",
    "SIGNAL_RESOLVED": "signal received",
    "RUN_FINISHED": "run finished",
}


class Screen:
    """Prints one line for each thing that happens: when, who, what."""

    def __init__(self) -> None:
        self.console = Console(highlight=False)
        self._begin = time.monotonic()
        self._processes: list[str] = []

    def event(self, process: str, event: dict[str, Any]) -> None:
        detail = event.get("due_at") or event.get("name") or event.get("id") or ""
        self.line(process, _WORDS.get(str(event["type"]), str(event["type"])), str(detail))

    def line(self, who: str, what: str, detail: str = "", style: str = "") -> None:
        text = Text()
        text.append(f"{time.monotonic() - self._begin:6.2f} s  ", style="dim")
        text.append(f"{who:<13}", style=self._colour(who))
        text.append(f"{what:<30}", style=style or "bold")
        text.append(detail, style=style or "dim")
        self.console.print(text, soft_wrap=True)

    def say(self, text: str) -> None:
        self.console.print(f"\n[bold]{text}[/bold]")

    def table(self, title: str, columns: list[str], rows: list[list[str]]) -> None:
        table = Table(title=title, title_justify="left", title_style="bold")
        for column in columns:
            table.add_column(column)
        for row in rows:
            table.add_row(*row)
        self.console.print()
        self.console.print(table)

    def _colour(self, who: str) -> str:
        if not who.startswith("process"):
            return "yellow"
        if who not in self._processes:
            self._processes.append(who)
        return _COLOURS[self._processes.index(who) % len(_COLOURS)]
