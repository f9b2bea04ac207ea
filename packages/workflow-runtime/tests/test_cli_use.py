"""What the command line does with what people type: in this process, for there is much of it."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("click", reason="the command line is an extra")
pytest.importorskip("workflow.store.sqlite", reason="the embedded store is not installed")

from workflow.runtime.cli.main import run

from .cli_kit import Terminal

APP_CODE = Path(__file__).with_name("cli_app.py").read_text("utf-8").splitlines()


class Shell:
    """Calls the command, with the app, and gives back its exit code and output."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *arguments: str, app: str | None = "cli_app:make_runtime") -> tuple[int, str, str]:
        code = run([*(["--app", app] if app else []), *arguments])
        captured = self._capsys.readouterr()
        return code, captured.out, captured.err

    def json(self, *arguments: str) -> Any:
        _, out, _ = self(*arguments, "--json")
        return json.loads(out)


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Shell]:
    Terminal(tmp_path)
    (tmp_path / "cli_broken.py").write_text("import a_driver\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("COLUMNS", "100")
    yield Shell(capsys)
    sys.modules.pop("cli_app", None)


@pytest.fixture
def migrated(shell: Shell) -> Shell:
    shell("migrate")
    return shell


@pytest.mark.parametrize(
    ("app", "message"),
    [
        (None, "Which app? Give --app MODULE:NAME"),
        ("cli_app", "write it as 'package.module:name'"),
        ("nowhere:runtime", "No module named 'nowhere'. It was looked for in "),
        ("cli_broken:runtime", "No module named 'a_driver'"),
        ("cli_app:nothing", "has no attribute 'nothing'"),
        ("cli_app:order", "neither a WorkflowRuntime nor a function that makes one"),
        ("cli_app:fail", "can't be loaded: KeyError: 'DATABASE_URL'"),
        ("cli_app:make_store", "and not a WorkflowRuntime"),
    ],
)
def test_a_bad_app_is_explained(shell: Shell, app: str | None, message: str) -> None:
    """Whatever is wrong with --app, one line says so and the exit code is 2."""
    code, out, err = shell("runs", "list", app=app)
    assert (code, out) == (2, "")
    assert message in err.replace("\n", " ")


@pytest.mark.parametrize(
    ("name", "line"), [("cli_broken:runtime", "cli_broken.py, line 1"), ("cli_app:settings", "cli_app.py")]
)
def test_the_place_of_an_apps_error_is_in_the_app(shell: Shell, name: str, line: str) -> None:
    """What breaks while an app is loaded is shown with the app's own line, also where a library raised it."""
    _, _, err = shell("runs", "list", app=name)
    assert line in err.replace("\n", " ")
    assert "<frozen" not in err


def test_the_environment_may_name_the_app(migrated: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """WORKFLOW_APP stands in for --app, which goes first."""
    monkeypatch.setenv("WORKFLOW_APP", "cli_app:make_runtime")
    assert migrated("runs", "list", app=None)[:2] == (0, "No runs.\n")
    assert migrated("runs", "list", app="nowhere:runtime")[0] == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ["frobnicate"],
        ["runs", "start", "order", "--input", "a"],
        ["runs", "start", "order", "--input", "@missing.json"],
        ["runs", "start", "order", "--input", '{"order": 1}'],
        ["runs", "start", "nobody"],
        ["runs", "list", "--since", "yesterday"],
        ["runs", "list", "--status", "asleep"],
        ["runs", "list", "--cursor", "x"],
        ["worker", "--concurrency", "0"],
        ["worker", "--per-workflow", "order=many"],
        ["worker", "--per-workflow", "nobody=1"],
        ["worker", "--per-workflow", "1", "--per-workflow", "order=1"],
    ],
)
def test_wrong_use_changes_nothing(migrated: Shell, arguments: list[str]) -> None:
    """A word, number or JSON that can't be meant is refused with exit code 2, and nothing is written."""
    code, out, err = migrated(*arguments)
    assert (code, out) == (2, "")
    assert "Error: " in err
    assert migrated.json("runs", "list")["runs"] == []


@pytest.mark.parametrize(
    "arguments",
    [["runs", "show", "x"], ["runs", "signal", "x", "n"], ["runs", "approve", "x"], ["runs", "cancel", "x"]],
)
def test_a_run_that_is_not_there(migrated: Shell, arguments: list[str]) -> None:
    """For a run that there isn't, each command says so and exits with 1; with --json as a document."""
    code, out, err = migrated(*arguments)
    assert (code, out) == (1, "")
    assert "There is no run 'x'" in err
    assert migrated.json(*arguments)["error"]["code"] == "run_not_found"


def test_a_missing_schema_is_an_answer_or_an_error(shell: Shell) -> None:
    """Without a schema, `migrate --check` and `doctor` say no, and what needs the store exits with 3."""
    assert shell("migrate", "--check")[0] == shell("doctor")[0] == 1
    assert shell.json("doctor")["schema_problem"]
    for command in (["runs", "list"], ["sweep"], ["worker"]):
        code, _, err = shell(*command)
        assert (code, err.count("workflow migrate")) == (3, 1)
        assert "workflow migrate" in err.replace("\n", " ")


def test_options_are_taken_before_and_after_the_command(migrated: Shell) -> None:
    """--app and --json work wherever people write them."""
    code, out, _ = migrated("--json", "runs", "list", "--app", "cli_app:make_runtime", app=None)
    assert (code, json.loads(out)) == (0, {"runs": [], "next_cursor": None})


def test_lists_fit_the_terminal(migrated: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """A narrow terminal gets fewer columns, never broken lines; ids are whole in each."""
    run_id = "order-with-a-long-name-1"
    migrated("runs", "start", "order", "--run-id", run_id, "--input", '{"order_id": "13"}')
    for width in (200, 100, 72, 48):
        monkeypatch.setenv("COLUMNS", str(width))
        _, out, _ = migrated("runs", "list")
        lines = out.splitlines()
        assert len(lines) == 2
        assert lines[1].startswith(f"{run_id}  ")
        assert max(map(len, lines)) <= width
    assert migrated("runs", "list", "--status", "paused")[1] == "No runs.\n"


def test_pages_continue_where_they_end(migrated: Shell) -> None:
    """A page names the cursor of the next one."""
    for number in range(3):
        migrated("runs", "start", "order", "--run-id", f"r{number}", "--input", '{"order_id": "1"}', "--enqueue")
    first = migrated.json("runs", "list", "--limit", "2")
    rest = migrated.json("runs", "list", "--limit", "2", "--cursor", first["next_cursor"])
    assert [run["run_id"] for page in (first, rest) for run in page["runs"]] == ["r2", "r1", "r0"]
    assert "--cursor" in migrated("runs", "list", "--limit", "2")[1]
    assert migrated.json("runs", "list", "--since", "1h", "--workflow", "nobody")["runs"] == []


def test_a_run_is_shown_with_what_it_waits_for(migrated: Shell) -> None:
    """`runs show` draws the timeline, and says which command brings what the run waits for."""
    migrated("runs", "start", "order", "--run-id", "a b", "--input", '{"order_id": "1"}')
    migrated("sweep", "--all")
    code, out, _ = migrated("runs", "show", "a b")
    assert code == 0
    assert "It waits for the signal 'paid'." in out
    assert "-> workflow runs signal 'a b' paid --payload JSON" in out
    document = migrated.json("runs", "show", "a b")
    assert (document["diagnosis"]["code"], document["diagnosis"]["stuck"]) == ("waiting", False)
    assert document["events"][0]["type"] == "STEP_FINISHED"


def test_an_ambiguous_or_missing_approval_is_said(migrated: Shell) -> None:
    """`runs approve` without an id needs exactly one approval that is awaited."""
    migrated("runs", "start", "order", "--run-id", "a", "--input", '{"order_id": "1"}', "--enqueue")
    code, _, err = migrated("runs", "approve", "a")
    assert (code, "It awaits no approval." in err) == (1, True)


def test_a_second_start_says_so(migrated: Shell) -> None:
    """Starting a run that there is already starts nothing, and says so."""
    start = ["runs", "start", "order", "--run-id", "a", "--input", '{"order_id": "1"}', "--enqueue"]
    migrated(*start)
    code, out, err = migrated(*start)
    assert (code, out) == (0, "queued a\n")
    assert "nothing was started" in err


def test_a_missing_input_is_said(migrated: Shell) -> None:
    """A start without the input that its workflow needs says how to give one."""
    code, _, err = migrated("runs", "start", "order")
    assert (code, "Give it an --input." in err.replace("\n", " ")) == (2, True)


def test_deliveries_say_what_became_of_them(migrated: Shell) -> None:
    """Mail that comes early, twice or too late is told from mail that was waited for, in words."""
    migrated("runs", "start", "order", "--run-id", "a", "--input", '{"order_id": "1"}')
    early = migrated("runs", "approve", "a", "ship")
    assert early[:2] == (0, "buffered a  it is kept until the run asks for it; now it waits for signal paid\n")
    assert migrated("runs", "approve", "a", "ship")[1] == "duplicate a  it was accepted before; nothing has changed\n"
    migrated("runs", "signal", "a", "paid", "--payload", '"cash"')
    late = migrated("runs", "signal", "a", "paid", "--payload", '"cash"')
    assert late[:2] == (1, "not_waiting a  nothing was delivered: the run has ended (completed)\n")


def test_wrong_use_is_a_document_with_json(migrated: Shell) -> None:
    """With --json an unknown option or bad value is an error document as well."""
    document = migrated.json("runs", "list", "--status", "asleep")
    assert (document["error"]["code"], "asleep" in document["error"]["message"]) == ("usage", True)


def test_a_purge_asks_first(migrated: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is deleted unless somebody says yes, and the question has the time in the terminal's zone."""
    migrated("runs", "start", "order", "--run-id", "a", "--input", '{"order_id": "13"}')
    for answer in ("", "n\n"):
        monkeypatch.setattr(sys, "stdin", io.StringIO(answer))
        code, out, err = migrated("purge", "--older-than", "0s")
        assert (code, out) == (1, "")
        assert "Nothing was deleted. --yes deletes without asking." in err.replace("\n", " ")
    assert [run["run_id"] for run in migrated.json("runs", "list")["runs"]] == ["a"]
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    code, out, err = migrated("purge", "--older-than", "2126-01-31T09:00+09:00")
    assert (code, out) == (0, "Deleted 1 run.\n")
    assert f"{datetime(2126, 1, 31, tzinfo=UTC).astimezone():%Y-%m-%d %H:%M:%S (%Z)}" in err


def test_a_failure_has_its_place_and_its_traceback(migrated: Shell) -> None:
    """What a run failed by is said with the line of the app; --debug has the whole traceback."""
    start = ["runs", "start", "order", "--input", '{"order_id": "13"}']
    line = next(number for number, text in enumerate(APP_CODE, 1) if "raise LookupError" in text)
    assert f"LookupError: there is no order 13 (cli_app.py, line {line})\n" in migrated(*start)[1]
    done = Terminal(Path.cwd())("--debug", *start)
    assert "Traceback (most recent call last)" in done.err
    assert done.code == 1


def test_a_blocked_run_has_its_reason_once(migrated: Shell) -> None:
    """`runs show` says why a run is blocked in one place, and of a run that has ended why it failed."""
    migrated("runs", "start", "order", "--run-id", "a", "--input", '{"order_id": "1"}')
    migrated("runs", "signal", "a", "paid", "--payload", '"cash"', app="cli_app:make_changed")
    assert migrated("runs", "show", "a")[1].count("can't be replayed") == 1
    migrated("runs", "start", "order", "--run-id", "b", "--input", '{"order_id": "13"}')
    assert "\nerror     StepError: " in migrated("runs", "show", "b")[1]


def test_a_timeline_that_is_cut_says_so(migrated: Shell) -> None:
    """Where `runs show` leaves events out, it says how many it shows, and with which option come more."""
    migrated("runs", "start", "order", "--run-id", "a", "--input", '{"order_id": "1"}')
    cut, whole = migrated("runs", "show", "a", "--events", "1")[1], migrated("runs", "show", "a")[1]
    assert cut.endswith("There are more events than these 1: --events 10 shows more.\n")
    assert "--events" not in whole
    assert len(migrated.json("runs", "show", "a", "--events", "1")["events"]) == 1
