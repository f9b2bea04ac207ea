"""One version for all distributions, and exact pins between them."""

from __future__ import annotations

from pathlib import Path

import pytest
from version import VersionError, current_version, main, problems, write_version

ROOT = Path(__file__).resolve().parent.parent

CORE = """\
[project]
name = "workflow-core"
version = "0.1.0"  # static
dependencies = ["pydantic>=2.11"]
"""
STORE = """\
[project]
name = "workflow-store-sqlite"
version = "0.1.0"
dependencies = ["workflow-core==0.1.0", "other==0.1.0"]

[project.optional-dependencies]
otel = ['workflow-core[otel] == 0.1.0 ; python_version < "4"']
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Two distributions in lockstep."""
    for name, text in {"workflow-core": CORE, "workflow-store-sqlite": STORE}.items():
        path = tmp_path / "packages" / name / "pyproject.toml"
        path.parent.mkdir(parents=True)
        path.write_text(text, encoding="utf-8")
    return tmp_path


def replace(tree: Path, distribution: str, old: str, new: str) -> None:
    path = tree / "packages" / distribution / "pyproject.toml"
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def test_the_tree_is_in_lockstep():
    """All distributions have one version, and require each other at exactly it."""
    assert problems(ROOT) == []


def test_a_new_version_is_written_everywhere(tree: Path):
    """Writing a version changes versions and pins on siblings, and not one character else."""
    write_version(tree, "0.2.0rc1")
    core, store = (path.read_text(encoding="utf-8") for path in sorted(tree.glob("packages/*/pyproject.toml")))
    assert core == CORE.replace("0.1.0", "0.2.0rc1")
    assert store == STORE.replace("0.1.0", "0.2.0rc1").replace("other==0.2.0rc1", "other==0.1.0").replace(" == ", "==")
    assert problems(tree) == []
    assert current_version(tree) == "0.2.0rc1"


def test_a_version_apart_is_found(tree: Path):
    """A distribution whose version differs is reported, and so is the pin that no longer fits."""
    replace(tree, "workflow-store-sqlite", 'version = "0.1.0"', 'version = "0.1.1"')
    assert problems(tree) == ["packages/workflow-store-sqlite/pyproject.toml has version 0.1.1, not 0.1.0."]


@pytest.mark.parametrize("loose", ["workflow-core", "workflow-core>=0.1.0", "workflow_core==0.0.9"])
def test_a_loose_pin_is_found(tree: Path, loose: str):
    """A sibling that is not pinned to the common version is reported."""
    replace(tree, "workflow-store-sqlite", "workflow-core==0.1.0", loose)
    (problem,) = problems(tree)
    assert problem.endswith("not workflow-core==0.1.0.")


def test_a_loose_pin_in_an_extra_is_found(tree: Path):
    """Extras are held to the same pins as dependencies."""
    replace(tree, "workflow-store-sqlite", "[otel] == 0.1.0", "[otel] >= 0.1.0")
    (problem,) = problems(tree)
    assert problem.endswith("requires workflow-core>=0.1.0, not workflow-core==0.1.0.")


def test_a_sibling_that_only_the_index_has_is_found(tree: Path):
    """A requirement of the project's prefix that packages/ doesn't hold is reported."""
    replace(tree, "workflow-store-sqlite", "workflow-core==", "workflow-server==")
    assert any("requires workflow-server, which is not in packages/" in problem for problem in problems(tree))


@pytest.mark.parametrize("version", ["1.2", "v1.2.3", "1.2.3-beta", "latest", ""])
def test_a_malformed_version_is_refused(tree: Path, version: str):
    """Only versions that installers order as expected are written."""
    with pytest.raises(VersionError, match=r"no version such as 1\.2\.3"):
        write_version(tree, version)
    assert current_version(tree) == "0.1.0"


def test_nothing_is_written_where_one_file_has_no_version(tree: Path):
    """A file that can't take the version keeps all others from being changed."""
    replace(tree, "workflow-store-sqlite", 'version = "0.1.0"', 'dynamic = ["version"]')
    with pytest.raises(VersionError, match="0 times"):
        write_version(tree, "0.2.0")
    assert current_version(tree) == "0.1.0"


def test_check_tells_by_its_exit_code(tree: Path, capsys: pytest.CaptureFixture[str]):
    """`--check` exits 0 in lockstep, and 1 with the problem on standard error otherwise."""
    assert main(["--check"], tree) == 0
    replace(tree, "workflow-core", "0.1.0", "0.3.0")
    assert main(["--check"], tree) == 1
    assert "has version 0.1.0, not 0.3.0" in capsys.readouterr().err


def test_the_command_writes_a_version(tree: Path, capsys: pytest.CaptureFixture[str]):
    """The command names each file that it wrote."""
    assert main(["1.0.0"], tree) == 0
    assert capsys.readouterr().out.splitlines() == [
        "packages/workflow-core/pyproject.toml: 1.0.0",
        "packages/workflow-store-sqlite/pyproject.toml: 1.0.0",
    ]
