"""The shape that every distribution has, so that they share one namespace and one set of tools."""

from __future__ import annotations

import shutil
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from version import read_projects

ROOT = Path(__file__).resolve().parent.parent
CLASSIFIERS = {f"Programming Language :: Python :: 3.{minor}" for minor in range(11, 15)} | {"Typing :: Typed"}


def leaf(distribution: str) -> Path:
    """Where a distribution's code lies: workflow-store-d1 in workflow/store/d1, workflow-aws-lambda in
    workflow/aws_lambda."""
    name = distribution.removeprefix("workflow-")
    if name.startswith("store-"):
        return Path("workflow", "store", name.removeprefix("store-").replace("-", "_"))
    return Path("workflow", name.replace("-", "_"))


def namespace_problems(root: Path) -> list[str]:
    """Files that would make one distribution own a package that all of them share."""
    shared = ["workflow/__init__.py*", "workflow/store/__init__.py*", "workflow/py.typed", "workflow/store/py.typed"]
    paths = [path for pattern in shared for path in root.glob(f"packages/*/src/{pattern}")]
    return [f"{path.relative_to(root)} must not exist" for path in sorted(paths)]


def leaf_problems(root: Path) -> list[str]:
    """Distributions whose code lies elsewhere than in their leaf, or is not marked as typed."""
    problems: list[str] = []
    for package in sorted(path.parent for path in root.glob("packages/*/pyproject.toml")):
        source, own = package / "src", package / "src" / leaf(package.name)
        problems += [f"{package.name} lacks {leaf(package.name)}/py.typed"] if not (own / "py.typed").is_file() else []
        problems += [
            f"{path.relative_to(root)} lies outside {leaf(package.name)}"
            for path in sorted(source.rglob("*.py"))
            if own not in path.parents
        ]
    return problems


def files_of_tests(root: Path) -> list[Path]:
    folders = [*root.glob("packages/*/tests"), root / "tests"]
    return sorted(path for folder in folders for path in folder.rglob("*.py"))


def name_problems(root: Path) -> list[str]:
    """Test files that share a name, and packages made of test folders: pytest would run the wrong module."""
    by_name: dict[str, list[str]] = defaultdict(list)
    for path in files_of_tests(root):
        if path.name != "conftest.py":
            by_name[path.name].append(str(path.relative_to(root)))
    packages = [f"{paths} must not exist" for name, paths in by_name.items() if name == "__init__.py"]
    return packages + [f"{paths} share a name" for paths in by_name.values() if len(paths) > 1]


def metadata_problems(root: Path, path: Path, document: dict[str, Any]) -> list[str]:
    """What a distribution's pyproject.toml lacks."""
    project, folder = document["project"], path.parent
    tool = document.get("tool", {}).get("hatch", {}).get("build", {})
    checks = {
        "a name like its folder's": project.get("name") == folder.name,
        "a description": bool(project.get("description")),
        "a README": project.get("readme") == "README.md" and (folder / "README.md").is_file(),
        "the MIT license": project.get("license") == "MIT",
        "the LICENSE of the top": read_text(folder / "LICENSE") == read_text(root / "LICENSE"),
        "Python 3.11 as the oldest": project.get("requires-python") == ">=3.11",
        "its classifiers": set(project.get("classifiers", [])) >= CLASSIFIERS,
        "src/workflow as the wheel's content": tool.get("targets", {}).get("wheel") == {"packages": ["src/workflow"]},
        "src for editable installs": tool.get("dev-mode-dirs") == ["src"],
    }
    return [f"{folder.name} lacks {what}" for what, present in checks.items() if not present]


def all_metadata_problems(root: Path) -> list[str]:
    projects = read_projects(root)
    return [problem for path, document in projects.items() for problem in metadata_problems(root, path, document)]


def read_text(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.is_file() else None


# -- The tree keeps the rules


def test_no_distribution_owns_the_namespace():
    """`workflow` and `workflow.store` are PEP 420 namespaces: no distribution has an `__init__.py` in them."""
    assert namespace_problems(ROOT) == []


def test_each_distribution_keeps_to_its_leaf_and_is_typed():
    """A distribution's code lies in the one package that its name says, which has a py.typed."""
    assert leaf_problems(ROOT) == []


def test_test_files_have_unique_names():
    """No two test files of the tree have one name, and no test folder is a package."""
    assert name_problems(ROOT) == []


def test_each_distribution_has_whole_metadata():
    """Every distribution has a README, the license, its classifiers and the same build settings."""
    assert all_metadata_problems(ROOT) == []


def test_every_folder_of_packages_is_a_distribution():
    """A folder in packages/ that the tools would not discover is a mistake."""
    folders = {path.name for path in (ROOT / "packages").iterdir() if path.is_dir()}
    assert folders == {path.parent.name for path in read_projects(ROOT)}


# -- The rules find what breaks them


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """The metadata of this tree, without sources and tests."""
    shutil.copy(ROOT / "LICENSE", tmp_path)
    for path in read_projects(ROOT):
        target = tmp_path / "packages" / path.parent.name
        (target / "src" / leaf(target.name)).mkdir(parents=True)
        (target / "src" / leaf(target.name) / "py.typed").touch()
        for name in ("pyproject.toml", "README.md", "LICENSE"):
            shutil.copy(path.parent / name, target)
    return tmp_path


def touch(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


def test_a_sound_tree_has_no_problems(tree: Path):
    """The rules find nothing in a tree that keeps them."""
    assert namespace_problems(tree) + leaf_problems(tree) + name_problems(tree) + all_metadata_problems(tree) == []


@pytest.mark.parametrize("stray", ["workflow/__init__.py", "workflow/store/__init__.py", "workflow/__init__.pyi"])
def test_a_stray_init_is_found(tree: Path, stray: str):
    """An `__init__.py` in the shared namespace is reported."""
    touch(tree / "packages/workflow-store-sqlite/src" / stray)
    assert namespace_problems(tree) == [f"packages/workflow-store-sqlite/src/{stray} must not exist"]


def test_a_missing_py_typed_is_found(tree: Path):
    """A leaf without py.typed is reported."""
    (tree / "packages/workflow-core/src/workflow/core/py.typed").unlink()
    assert leaf_problems(tree) == ["workflow-core lacks workflow/core/py.typed"]


def test_code_outside_the_leaf_is_found(tree: Path):
    """A module that a distribution puts into a sibling's package is reported."""
    touch(tree / "packages/workflow-runtime/src/workflow/core/extra.py")
    problem = "packages/workflow-runtime/src/workflow/core/extra.py lies outside workflow/runtime"
    assert leaf_problems(tree) == [problem]


def test_equal_names_of_test_files_are_found(tree: Path):
    """Two test files of one name are reported, two conftest.py are not."""
    for folder in ("packages/workflow-core/tests", "tests/deeper"):
        touch(tree / folder / "conftest.py")
        touch(tree / folder / "test_same.py")
    assert name_problems(tree) == [
        "['packages/workflow-core/tests/test_same.py', 'tests/deeper/test_same.py'] share a name"
    ]


def test_a_test_folder_as_package_is_found(tree: Path):
    """An `__init__.py` in a test folder is reported."""
    touch(tree / "packages/workflow-core/tests/__init__.py")
    assert name_problems(tree) == ["['packages/workflow-core/tests/__init__.py'] must not exist"]


@pytest.mark.parametrize(
    ("old", "new", "lacking"),
    [
        ('name = "workflow-core"', 'name = "workflow_core"', "a name like its folder's"),
        ('readme = "README.md"', 'readme = "OTHER.md"', "a README"),
        ('license = "MIT"', 'license = "BSD-3-Clause"', "the MIT license"),
        ('requires-python = ">=3.11"', 'requires-python = ">=3.12"', "Python 3.11 as the oldest"),
        ('    "Typing :: Typed",\n', "", "its classifiers"),
        ('packages = ["src/workflow"]', 'packages = ["src"]', "src/workflow as the wheel's content"),
        ('dev-mode-dirs = ["src"]', "", "src for editable installs"),
    ],
)
def test_poor_metadata_is_found(tree: Path, old: str, new: str, lacking: str):
    """Each thing that a pyproject.toml must say is reported when it doesn't."""
    path = tree / "packages/workflow-core/pyproject.toml"
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")
    assert all_metadata_problems(tree) == [f"workflow-core lacks {lacking}"]


def test_another_license_text_is_found(tree: Path):
    """A LICENSE that differs from the one at the top is reported."""
    (tree / "packages/workflow-core/LICENSE").write_text("All rights reserved", encoding="utf-8")
    assert all_metadata_problems(tree) == ["workflow-core lacks the LICENSE of the top"]
