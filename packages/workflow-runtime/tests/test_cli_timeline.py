"""The drawn timeline."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta
from typing import Any, get_args

import pytest

pytest.importorskip("click", reason="the command line is an extra")

from rich.console import Console

from workflow.core.events import (
    ErrorInfo,
    NowRecorded,
    RunErrored,
    RunFinished,
    RunRetried,
    SignalAwaited,
    SignalResolved,
    StepFailed,
    StepFinished,
    StepRetrying,
    TimerFired,
    TimerStarted,
    UuidRecorded,
    WorkflowEvent,
)
from workflow.core.payload import Json
from workflow.runtime.cli.timeline import draw_timeline, timeline_rows

START = datetime(2026, 1, 1, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


BROKEN = ErrorInfo(type="ValueError", message="broken")
EVENTS: list[Any] = [
    StepFinished(at=at(1), id="reserve", result=Json('"shelf"')),
    NowRecorded(at=at(1), id="$now#1", value=at(1)),
    TimerStarted(at=at(1), id="nap", due_at=at(5)),
    SignalAwaited(at=at(1), id="$paid#1", name="paid", until=at(3)),
    TimerFired(at=at(3), id="$paid#1"),
    TimerFired(at=at(5), id="nap"),
    SignalResolved(at=at(5), id="$early#1", name="early", signal_id="s", payload=Json("1")),
    StepRetrying(at=at(6), id="flaky", attempt=1, retry_at=at(8), error=BROKEN),
    StepFinished(at=at(8), id="flaky", attempt=2),
    StepFailed(at=at(9), id="hopeless", error=BROKEN),
    RunFinished(at=at(10), output=Json("true")),
]


def rows(events: list[Any]) -> list[tuple[str, str, float, float | None]]:
    return [
        (row.title, row.status, (row.begin - START).total_seconds(), row.end and (row.end - START).total_seconds())
        for row in timeline_rows(events)
    ]


def test_each_operation_is_one_row() -> None:
    """What opens and closes is one row with its two ends; a step with retries is one row, however many there were."""
    assert rows(EVENTS) == [
        ("step reserve", "done", 1, 1),
        ("now $now#1", "", 1, 1),
        ("timer nap", "fired", 1, 5),
        ("signal paid", "timed out", 1, 3),
        ("signal early", "received", 5, 5),
        ("step flaky", "done", 6, 8),
        ("step hopeless", "failed", 9, 9),
        ("run", "completed", 10, 10),
    ]


def test_what_is_open_has_no_end() -> None:
    """A wait that goes on, and a step that is to be tried again, are open."""
    assert rows(EVENTS[:4])[-2:] == [("timer nap", "waits", 1, None), ("signal paid", "waits", 1, None)]
    assert rows(EVENTS[7:8]) == [("step flaky", "retrying", 6, None)]


def drawn(events: list[Any], width: int, *, encoding: str = "utf-8", ended: bool = True) -> list[str]:
    raw = io.BytesIO()
    console = Console(file=io.TextIOWrapper(raw, encoding=encoding), width=width, color_system=None)
    draw_timeline(console, timeline_rows(events), START, at(10), ended=ended)
    console.file.flush()
    return [line.rstrip() for line in raw.getvalue().decode(encoding).splitlines() if line.strip()]


def test_bars_lie_where_things_happened() -> None:
    """Points and bars lie on one scale from the beginning to the end."""
    lines = drawn(EVENTS, 120)
    assert lines[1].startswith(" 1.0 s    ●")
    assert lines[3].startswith(" 1.0 s    ━━━━━━━━━━━  ")
    assert lines[-1].startswith(f"10.0 s  {' ' * 23}●")
    assert lines[4].endswith("timed out  2.0 s")


def test_it_fits_the_terminal() -> None:
    """However narrow the terminal, a row is a line, and no line is longer than it."""
    for width in (200, 100, 80, 66):
        lines = drawn(EVENTS, width)
        assert len(lines) == len(timeline_rows(EVENTS)) + 1
        assert max(map(len, lines)) <= width


def test_it_can_do_without_unicode() -> None:
    """A terminal of few characters gets bars of those."""
    text = "\n".join(drawn(EVENTS[:4], 80, encoding="ascii", ended=False))
    assert "*" in text
    assert "==>" in text


def test_a_retried_run_shows_both_tries() -> None:
    """The failure stays to be seen, the retry has its reason, and what comes then has rows of its own."""
    events: list[Any] = [
        SignalAwaited(at=at(0), id="go", name="go"),
        StepFailed(at=at(1), id="reserve", error=BROKEN),
        RunErrored(at=at(1)),
        RunRetried(at=at(5), voided=(1, 2), reason="stock has come"),
        StepFinished(at=at(6), id="reserve", result=Json("1")),
        RunFinished(at=at(6)),
    ]
    rows = timeline_rows(events)
    assert [(row.title, row.status) for row in rows] == [
        ("signal go", "void"),
        ("step reserve", "failed"),
        ("run", "errored"),
        ("run", "retried"),
        ("step reserve", "done"),
        ("run", "completed"),
    ]
    assert rows[3].details == ["stock has come"]


def test_every_event_of_a_log_can_be_drawn() -> None:
    """No type of event breaks the timeline, so a new one can't be forgotten here."""
    union = get_args(get_args(WorkflowEvent)[0])
    fields: dict[str, Any] = {
        "id": "i",
        "name": "n",
        "title": "t",
        "value": at(1),
        "workflow_id": "w",
        "signal_id": "s",
        "due_at": at(2),
        "retry_at": at(2),
        "error": BROKEN,
        "result": Json("1"),
        "patch": [],
        "voided": (),
    }
    never_logged = {"RUN_STARTED", "STATE_DELTA", "CUSTOM"}
    for event in union:
        if event.model_fields["type"].default not in never_logged:
            given = {name: value for name, value in fields.items() if name in event.model_fields}
            if event is UuidRecorded:
                given["value"] = "u"
            assert timeline_rows([event(at=at(1), **given)])


def test_what_a_rerun_has_from_another_run_was_before_it() -> None:
    """What happened before the run was created is called so, and lies at the beginning of its scale."""
    console = Console(file=io.StringIO(), width=120, color_system=None)
    draw_timeline(console, timeline_rows(EVENTS), at(4), at(10), ended=True)
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    (reserve,) = (line for line in lines if "step reserve" in line)
    assert reserve.split()[:2] == ["before", "●"]
    assert not [line for line in lines if line.lstrip().startswith("-")]


def test_what_was_open_at_the_end_was_dropped() -> None:
    """Of a run that has ended nothing goes on: what it still waited for ends with it."""
    events: list[Any] = [
        TimerStarted(at=at(0), id="nap", due_at=at(60)),
        StepRetrying(at=at(1), id="flaky", attempt=1, retry_at=at(8), error=BROKEN),
        StepFailed(at=at(2), id="hopeless", error=BROKEN),
        RunErrored(at=at(2)),
    ]
    assert rows(events)[:3] == [
        ("timer nap", "dropped", 0, 2),
        ("step flaky", "dropped", 1, 2),
        ("step hopeless", "failed", 2, 2),
    ]
