"""The script that makes the development environment, without making one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import dev
import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dev.Environment:
    """An environment whose creation leaves an empty interpreter and nothing else."""
    environment = dev.Environment(tmp_path / ".venv", sys.executable, "3.11.0")

    def create() -> None:
        Path(environment.python).parent.mkdir(parents=True, exist_ok=True)
        Path(environment.python).touch()

    monkeypatch.setattr(environment, "create", create)
    return environment


@pytest.fixture
def installs(environment: dev.Environment, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The arguments of every pip install that the environment asks for."""
    calls: list[list[str]] = []
    monkeypatch.setattr(environment, "pip_install", calls.append)
    return calls


def test_all_members_are_installed_in_one_resolution(environment: dev.Environment, installs: list[list[str]]):
    """Every distribution of packages/ is named as a path in a single pip command, with the tools."""
    environment.ensure(("test",))
    paths = {str(path.parent) for path in ROOT.glob("packages/*/pyproject.toml")}
    (together,) = [call for call in installs if "--editable" in call]
    assert {argument for argument in together if argument.startswith(str(ROOT))} == paths
    assert any(argument.startswith("pytest>=") for argument in together)
    assert not any("workflow-" in argument for argument in together if argument not in paths)


def test_nothing_is_installed_twice(environment: dev.Environment, installs: list[list[str]]):
    """An environment that is up to date is left alone, whichever of its groups is asked for."""
    environment.ensure(("dev",))
    done = len(installs)
    for groups in dev.GROUPS.values():
        environment.ensure(groups)
    assert len(installs) == done


def test_a_further_group_is_added(environment: dev.Environment, installs: list[list[str]]):
    """A command that needs more than the environment holds adds it, and keeps what is there."""
    environment.ensure(("demo",))
    environment.ensure(("lint",))
    assert any(argument.startswith("ruff") for argument in installs[-1])
    tools = environment.read_stamp()["tools"]
    assert [tool.partition(">")[0] for tool in tools] == ["rich", "ruff"]


@pytest.mark.parametrize("stamp", ["", "{", json.dumps({"python": "3.11.0", "digest": "old", "tools": ["rich>=13.9"]})])
def test_a_stale_environment_is_brought_up_to_date(environment: dev.Environment, installs: list[list[str]], stamp: str):
    """An interrupted installation, or one of other pyproject files, is done again."""
    environment.create()
    environment.stamp.write_text(stamp, encoding="utf-8")
    environment.ensure(("demo",))
    assert installs


def test_an_environment_without_its_interpreter_is_made_anew(environment: dev.Environment, installs: list[list[str]]):
    """Where the interpreter behind the environment was removed, the environment is made from the present one."""
    environment.ensure(("demo",))
    Path(environment.python).unlink()
    environment.ensure(("demo",))
    assert Path(environment.python).exists()
    assert len(installs) == 4


@pytest.mark.parametrize("version", ["3.10.13", "2.7.18"])
def test_an_old_interpreter_is_refused(version: str):
    """A Python before 3.11 is named as the reason, before anything is made."""
    with pytest.raises(SystemExit, match=f"Python 3.11 or newer is needed; this is {version}"):
        dev.require_version(version)


def test_something_else_than_an_interpreter_is_refused(tmp_path: Path):
    """`--python` with a path that can't be run says so."""
    with pytest.raises(SystemExit, match="can't be run as a Python interpreter"):
        dev.environment(str(tmp_path / "python"))


def test_a_failed_installation_leaves_no_stamp(environment: dev.Environment, monkeypatch: pytest.MonkeyPatch):
    """pip's exit code is passed on, and the next command tries again."""
    monkeypatch.setattr(dev, "run", lambda command: 23)
    with pytest.raises(SystemExit) as failure:
        environment.ensure(("demo",))
    assert failure.value.code == 23
    assert not environment.stamp.exists()


def test_the_digest_follows_the_members(tmp_path: Path):
    """A new distribution, a changed one and a changed group each make the environment stale."""
    project = tmp_path / "packages" / "workflow-core" / "pyproject.toml"
    digests = [dev.inputs_digest(tmp_path, {"test": []})]
    project.parent.mkdir(parents=True)
    for text in ("[project]", "[project]  # changed"):
        project.write_text(text, encoding="utf-8")
        digests.append(dev.inputs_digest(tmp_path, {"test": []}))
    digests.append(dev.inputs_digest(tmp_path, {"test": ["pytest"]}))
    assert len(set(digests)) == 4


def test_included_groups_are_followed():
    """A group holds the requirements of the groups it includes, each once."""
    groups = {"a": ["x", "y"], "b": [{"include-group": "a"}, "x", "z"]}
    assert dev.group_requirements(groups, "b") == ["x", "y", "z"]


def test_every_command_knows_its_groups():
    """Each command has its dependency groups, and each group is in pyproject.toml."""
    groups = dev.read_toml(ROOT / "pyproject.toml")["dependency-groups"]
    assert dev.GROUPS.keys() == dev.COMMANDS.keys()
    assert {group for wanted in dev.GROUPS.values() for group in wanted} <= groups.keys()


def test_no_group_names_a_sibling():
    """Siblings come from the tree: a group that named one would ask the index."""
    groups = dev.read_toml(ROOT / "pyproject.toml")["dependency-groups"]
    assert not [need for group in groups for need in dev.group_requirements(groups, group) if "workflow" in need]


@pytest.mark.parametrize(("program", "code"), [("raise SystemExit(7)", 7), ("import os; os.kill(os.getpid(), 9)", 137)])
def test_exit_codes_are_passed_on(program: str, code: int):
    """A command's exit code comes back, a fatal signal as the shell would give it."""
    assert dev.run([sys.executable, "-c", program]) == code


def test_help_works_from_any_directory(tmp_path: Path):
    """`--help` lists every command, and installs nothing."""
    command = [sys.executable, str(ROOT / "tools" / "dev.py"), "--help"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert all(f"dev.py {name} " in done.stdout for name in dev.COMMANDS)
    assert list(tmp_path.iterdir()) == []


def test_pytest_takes_the_arguments(monkeypatch: pytest.MonkeyPatch):
    """What follows the command reaches pytest as it was written."""
    seen: list[list[str]] = []
    monkeypatch.setattr(dev.Environment, "ensure", lambda self, groups: None)
    monkeypatch.setattr(dev, "run", lambda command: seen.append(command) or 5)
    assert dev.main(["test", "-k", "a or b", "--", "packages/workflow-core"]) == 5
    assert seen[0][1:] == ["-m", "pytest", "-k", "a or b", "--", "packages/workflow-core"]
