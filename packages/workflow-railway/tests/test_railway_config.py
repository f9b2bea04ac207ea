"""railway.toml: written, checked, and the five-minute rule."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from workflow.core import InvalidArgumentError
from workflow.railway.config import check_file, cron_problems, make_toml, smallest_gap
from workflow.railway.main import main

EXAMPLES = Path(__file__).parent.parent / "examples"


@pytest.mark.parametrize(
    ("cron", "gap"),
    [
        ("*/5 * * * *", 5),
        ("*/7 * * * *", 4),
        ("*/15 * * * *", 15),
        ("* * * * *", 1),
        ("0 * * * *", 60),
        ("0 9 * * *", 1440),
        ("58,2 * * * *", 4),
        ("0,59 23 * * *", 59),
        ("58 23 * * *", 1440),
        ("0-59/20 * * * *", 20),
        ("3/10 8-17 * * mon-fri", 10),
        ("0 0,23 1 jan,jul sun", 60),
    ],
)
def test_the_gap_between_firings_is_found(cron: str, gap: int):
    """The shortest time between two firings, over the ends of hours and days as well."""
    assert smallest_gap(cron) == gap
    assert bool(cron_problems(cron)) == (gap < 5)


@pytest.mark.parametrize(
    "cron", ["", "* * * *", "* * * * * *", "60 * * * *", "*/0 * * * *", "5-1 * * * *", "x * * * *", "-1 * * * *",
             "* 24 * * *", "* * 0 * *", "* * * 13 *", "* * * * 8", "*/x * * * *", "1,,2 * * * *", "@daily"],
)  # fmt: skip
def test_a_schedule_that_is_none_is_refused(cron: str):
    """What is no schedule is told as such, with the field that is wrong."""
    with pytest.raises(InvalidArgumentError):
        smallest_gap(cron)
    assert len(cron_problems(cron)) == 1


def test_a_file_is_written_that_passes_its_check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """`init` writes what `check` finds nothing wrong with, and replaces nothing unasked."""
    monkeypatch.chdir(tmp_path)
    assert main(["init", "--app", "app.flows:runtime", "--cron", "*/10 * * * *"]) == 0
    written = tomllib.loads((tmp_path / "railway.toml").read_text())
    assert written["deploy"]["startCommand"] == "python -m workflow.railway app.flows:runtime"
    assert written["deploy"]["cronSchedule"] == "*/10 * * * *"
    assert written["build"]["builder"] == "RAILPACK"
    assert written["deploy"]["preDeployCommand"] == ["python -m workflow.store.postgres migrate"]
    assert main(["check"]) == 0
    assert main(["init", "--app", "app:runtime"]) == 2
    (tmp_path / "Dockerfile").write_text("FROM scratch\n")
    assert main(["init", "--app", "app:runtime", "--force", "--migrate", "alembic upgrade head"]) == 0
    written = tomllib.loads((tmp_path / "railway.toml").read_text())
    assert written["build"]["builder"] == "DOCKERFILE"
    assert written["deploy"]["preDeployCommand"] == ["alembic upgrade head"]
    assert "--force" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [
        ["--app", "app:r", "--cron", "*/7 * * * *"],
        ["--app", "app"],
        ["--app", 'a:"b'],
        ["--app", "a:b", "--migrate", 'sh -c "x"'],
        ["--app", "a:b", "--migrate", "x\ny"],
    ],
)
def test_no_file_is_written_that_railway_would_refuse(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
):
    """A schedule or an app that can't work is refused when the file is made."""
    monkeypatch.chdir(tmp_path)
    assert main(["init", *arguments]) == 2
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "text", "problems"),
    [
        ("railway.toml", "", 1),
        ("railway.toml", "not toml", 1),
        ("railway.toml", "[deploy]\n", 3),
        ("railway.toml", "deploy = 5\n", 1),
        ("railway.json", "[]", 1),
        ("railway.json", "{", 1),
        ("railway.json", '{"deploy": {"cronSchedule": "*/7 * * * *", "startCommand": "python app.py"}}', 3),
        (
            "railway.json",
            '{"deploy": {"cronSchedule": "*/5 * * * *", "startCommand": "python -m workflow.railway a:b",'
            ' "restartPolicyType": "NEVER"}}',
            0,
        ),
    ],
)
def test_a_file_is_held_to_the_rules(tmp_path: Path, name: str, text: str, problems: int):
    """`check` names everything that would go wrong, in either format."""
    (tmp_path / name).write_text(text)
    assert len(check_file(tmp_path / name)) == problems
    assert main(["check", str(tmp_path / name)]) == (2 if problems else 0)


def test_the_example_passes_its_check():
    """The railway.toml of the example is what `init` writes, and keeps Railway's rules."""
    assert check_file(EXAMPLES / "railway.toml") == []
    assert (EXAMPLES / "railway.toml").read_text() == make_toml("app:runtime", "*/5 * * * *", builder="DOCKERFILE")
