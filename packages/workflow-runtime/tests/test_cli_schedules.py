"""`workflow schedules`: what people type, and what they get to see."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("click", reason="the command line is an extra")
pytest.importorskip("workflow.store.sqlite", reason="the embedded store is not installed")

from workflow.runtime.cli.schedule_drawing import span_text
from workflow.runtime.schedules.views import ScheduleTick

from .cli_kit import Terminal
from .test_cli_use import Shell

APP = "cli_app:make_scheduled"


class Scheduled(Shell):
    """The command with the app that has schedules."""

    def __call__(self, *arguments: str, app: str | None = APP) -> tuple[int, str, str]:
        return super().__call__(*arguments, app=app)

    def good(self, *arguments: str, app: str = APP) -> str:
        code, out, err = self(*arguments, app=app)
        assert (code, err) == (0, "")
        return out


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Scheduled]:
    Terminal(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("COLUMNS", "120")
    shell = Scheduled(capsys)
    shell.good("migrate")
    yield shell
    sys.modules.pop("cli_app", None)


def test_schedules_are_listed_before_and_after_they_are_seen(shop: Scheduled) -> None:
    """A table of what the app has, with what comes next once a sweep has seen it; as JSON the same."""
    assert [line.split() for line in shop.good("schedules", "list").splitlines()] == [
        ["schedule", "workflow", "status", "next", "last", "runs", "when"],
        ["hourly", "order", "active", "every", "hour"],
        ["weekly", "order", "active", "cron", "0", "9", "*", "*", "MON", "Europe/Berlin"],
    ]
    shop.good("sweep")
    hourly, weekly = shop.json("schedules", "list", "--workflow", "order")["schedules"]
    assert (hourly["id"], hourly["spec"], hourly["registered"], hourly["paused"]) == (
        "hourly",
        "every hour",
        True,
        False,
    )
    assert hourly["next_at"].endswith(":00:00Z")
    assert weekly["next_at"][-10:] in ("T08:00:00Z", "T07:00:00Z")
    assert shop.json("schedules", "list", "--workflow", "nobody") == {"schedules": []}
    assert shop.good("schedules", "list", "--workflow", "nobody") == "No schedules.\n"


def test_a_narrow_terminal_gets_fewer_columns(shop: Scheduled, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ids and what comes next are what stays."""
    monkeypatch.setenv("COLUMNS", "48")
    lines = shop.good("schedules", "list").splitlines()
    assert lines[0].split() == ["schedule", "workflow", "status", "next"]
    assert all(len(line) <= 48 for line in lines)


def test_pausing_and_resuming(shop: Scheduled) -> None:
    """Through the command, on a schedule that no sweep has seen yet, with the reason for those who look."""
    assert shop.good("schedules", "pause", "weekly", "--reason", "no mail") == "paused weekly  no mail\n"
    assert "paused" in shop.good("schedules", "list")
    out = shop.good("schedules", "show", "weekly")
    assert "no mail" in out
    assert "No tick has come yet." in out
    assert "schedule weekly: Paused since" in shop.good("doctor")
    assert shop.good("schedules", "resume", "weekly").startswith("active weekly  next ")
    assert shop.json("schedules", "show", "weekly")["schedule"]["paused"] is False
    assert shop.json("schedules", "pause", "weekly")["paused_at"] is not None


def test_a_schedule_is_triggered(shop: Scheduled) -> None:
    """Driven at once, or left to a sweep; the exit code says how the run has ended."""
    out = shop.good("schedules", "trigger", "hourly", "--id", "one")
    assert out == "paused order:hourly:manual:one  signal paid\n"
    assert shop.good("schedules", "trigger", "hourly", "--id", "one") == out
    assert shop.json("schedules", "trigger", "hourly", "--enqueue")["kind"] == "queued"
    code, out, _ = shop("schedules", "trigger", "weekly")
    assert code == 1
    assert "LookupError: there is no order 13" in out
    outcomes = [tick["outcome"] for tick in shop.json("schedules", "show", "hourly")["history"]]
    assert outcomes == ["triggered", "triggered"]


def test_a_backfill_and_the_history(shop: Scheduled) -> None:
    """Runs for the ticks of a time, enqueued; the history shows them in parts."""
    times = ("2026-01-01T00:00+00:00", "2026-01-01T04:30+00:00")
    done = shop.json("schedules", "backfill", "hourly", *times)
    assert len(done["run_ids"]) == 5
    again = shop.good("schedules", "backfill", "hourly", *times)
    assert again == f"5 runs are there, the last one {done['run_ids'][-1]}.\n"
    assert shop.json("sweep")["summary"]["ready"] == {"paused": 5}
    shown = shop.good("schedules", "show", "hourly", "--limit", "3")
    assert f"backfilled  {done['run_ids'][-1]}" in shown
    assert "There is more: --before " in shown
    part = shop.json("schedules", "show", "hourly", "--limit", "3")
    assert (len(part["history"]), part["schedule"]["active_runs"]) == (3, done["run_ids"])
    rest = shop.json("schedules", "show", "hourly", "--before", part["next_before"])
    assert (len(rest["history"]), rest["next_before"]) == (7, None)


def test_the_doctor_sees_what_is_overdue_and_unregistered(shop: Scheduled) -> None:
    """A schedule that nobody looks at needs somebody; one that the app doesn't have any more is mentioned."""
    shop.good("sweep")
    code, out, _ = shop("doctor", app="cli_app:make_late")
    assert code == 1
    assert "wrong schedule hourly: Due for " in out
    code, out, _ = shop("doctor", app="cli_app:make_runtime")
    assert code == 0
    assert "schedule hourly: Not registered with this app" in out
    found: Any = shop("doctor", "--json", app="cli_app:make_runtime")
    assert '"code":"unregistered"' in found[1]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["show", "nope"], 1, "There is no schedule 'nope'. There are: 'hourly', 'weekly'."),
        (["pause", "hourly", "--workflow", "x"], 1, "no schedule 'hourly' of workflow 'x'"),
        (["trigger", "nope"], 1, "There is no schedule 'nope'"),
        (["backfill", "hourly", "yesterday"], 2, "neither a time"),
        (["backfill", "hourly", "3000h"], 2, "more than 1000 ticks"),
        (["show", "hourly", "--before", "x"], 2, "is no next_before"),
        (["frobnicate"], 2, "No such command"),
    ],
)
def test_what_is_wrong_is_said(shop: Scheduled, arguments: list[str], code: int, message: str) -> None:
    """One line, and an exit code that tells a wrong name from a wrong use."""
    got, out, err = shop("schedules", *arguments)
    assert (got, out) == (code, "")
    assert message in err.replace("\n", " ")


def test_ticks_that_were_missed_together_have_their_day_once() -> None:
    """From when to when: the second time has no date where it is the first one's."""
    begin = datetime(2026, 1, 1, 8).astimezone()
    for end, says in ((begin.replace(hour=9), "09:00:00"), (begin.replace(day=2), "2026-01-02 08:00:00")):
        assert span_text(ScheduleTick(begin, "missed", begin, until=end)) == f"2026-01-01 08:00:00 to {says}"
