"""Who may import whom, read from the source of every package; and what must import where little is installed."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

# With what later Pythons have added: the core may use it where it is there.
STANDARD_LIBRARY = sys.stdlib_module_names | {"annotationlib"}
ROOT = Path(__file__).resolve().parent.parent

# Distributions that a store or host may build on, beside core and runtime.
EXTRA_SIBLINGS = {"workflow.store.d1": {"workflow.store.sqlite"}}
CORE_THIRD_PARTY = {"annotated_types", "pydantic", "pydantic_core", "typing_extensions"}
CORE_LAZY = {"jsonpatch", "opentelemetry"}
# Pyodide has no use for these, or doesn't have them; and they cost time at every import.
HEAVY = {"multiprocessing", "socket", "sqlite3", "ssl", "subprocess"}
PORTABLE = ("workflow.core", "workflow.runtime")


@dataclass(frozen=True)
class Import:
    module: str
    target: str
    line: int
    eager: bool

    def __str__(self) -> str:
        return f"{self.module}:{self.line} imports {self.target}"


# -- Reading the imports of a tree


def source_files(root: Path) -> Iterator[tuple[str, Path]]:
    """Every module of every distribution, by its dotted name."""
    for source in sorted(root.glob("packages/*/src")):
        for path in sorted(source.rglob("*.py")):
            parts = path.relative_to(source).with_suffix("").parts
            yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


def read_imports(root: Path) -> list[Import]:
    found: list[Import] = []
    for module, path in source_files(root):
        reader = ImportReader(module, is_package=path.name == "__init__.py")
        reader.visit(ast.parse(path.read_text(encoding="utf-8"), str(path)))
        found += reader.found
    return found


class ImportReader(ast.NodeVisitor):
    """Collects imports. Eager is what an import of the module itself executes and can't do without."""

    def __init__(self, module: str, *, is_package: bool) -> None:
        self.module = module
        self.package = module if is_package else module.rpartition(".")[0]
        self.found: list[Import] = []
        self.lazy_depth = 0

    def add(self, target: str, node: ast.stmt | ast.expr) -> None:
        self.found.append(Import(self.module, target, node.lineno, self.lazy_depth == 0))

    def visit_lazily(self, nodes: list[ast.stmt]) -> None:
        self.lazy_depth += 1
        for node in nodes:
            self.visit(node)
        self.lazy_depth -= 1

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self.add(alias.name, node)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        # With the imported name, so that `from workflow import runtime` counts as workflow.runtime.
        parents = self.package.split(".")
        base = parents[: len(parents) - node.level + 1] if node.level else []
        prefix = ".".join([*base, *([node.module] if node.module else [])])
        for alias in node.names:
            self.add(f"{prefix}.{alias.name}", node)

    def visit_Call(self, node: ast.Call) -> None:
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        first = node.args[0] if node.args else None
        if name in {"import_module", "__import__"} and isinstance(first, ast.Constant) and isinstance(first.value, str):
            self.add(first.value, node)
        self.generic_visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self.visit_lazily(node.body)

    visit_AsyncFunctionDef = visit_FunctionDef  # noqa: N815 - the name that ast.NodeVisitor looks up

    def visit_If(self, node: ast.If) -> None:
        if ast.unparse(node.test) not in {"TYPE_CHECKING", "typing.TYPE_CHECKING"}:
            self.generic_visit(node)
            return
        self.visit_lazily(node.body)
        for other in node.orelse:
            self.visit(other)

    def visit_Try(self, node: ast.Try) -> None:
        if not any("ImportError" in ast.unparse(handler.type) for handler in node.handlers if handler.type):
            self.generic_visit(node)
            return
        self.visit_lazily(node.body)
        for other in [*node.handlers, *node.orelse, *node.finalbody]:
            self.visit(other)


# -- The rules


def unit(module: str) -> str:
    """The distribution's import name that a module belongs to: workflow.core, workflow.store.sqlite."""
    parts = module.split(".")
    return ".".join(parts[:3] if parts[:2] == ["workflow", "store"] else parts[:2])


def allowed_units(importer: str) -> set[str]:
    if importer == "workflow.core":
        return {importer}
    return {importer, "workflow.core", "workflow.runtime", *EXTRA_SIBLINGS.get(importer, ())}


def direction_problems(imports: list[Import]) -> list[str]:
    """Imports between distributions that go the wrong way, lazy ones included."""
    ours = [found for found in imports if found.target.split(".")[0] == "workflow"]
    return [str(found) for found in ours if unit(found.target) not in allowed_units(unit(found.module))]


def core_problems(imports: list[Import]) -> list[str]:
    """What the core imports beyond the standard library, pydantic and typing helpers."""
    problems: list[str] = []
    for found in imports:
        top = found.target.split(".")[0]
        if unit(found.module) != "workflow.core" or top in STANDARD_LIBRARY | CORE_THIRD_PARTY | {"workflow"}:
            continue
        if top not in CORE_LAZY:
            problems.append(f"{found}, which is no dependency of the core")
        elif found.eager:
            problems.append(f"{found} when it is imported; do it where it is needed")
    return problems


def heavy_problems(imports: list[Import]) -> list[str]:
    """Heavy modules that the portable packages import when they are imported."""
    eager = [found for found in imports if found.eager and unit(found.module) in PORTABLE]
    return [str(found) for found in eager if found.target.split(".")[0] in HEAVY]


# -- The tree keeps them


def test_distributions_import_in_one_direction_only():
    """Core imports no sibling, runtime only core, stores and hosts only these two."""
    assert direction_problems(read_imports(ROOT)) == []


def test_core_imports_only_its_dependencies():
    """The core needs pydantic and typing helpers; jsonpatch and OpenTelemetry are imported when first used."""
    assert core_problems(read_imports(ROOT)) == []


def test_core_and_runtime_import_nothing_heavy():
    """Importing core or runtime doesn't itself import sockets, processes or SQLite."""
    assert heavy_problems(read_imports(ROOT)) == []


# What Pyodide leaves out of the standard library, and what has an accelerator in C that it can't load.
ABSENT = ["_multiprocessing", "_sqlite3", "_ssl", "curses", "fcntl", "grp", "jsonpatch", "opentelemetry", "pwd"]
ABSENT += ["resource", "sqlite3", "ssl", "termios"]

IMPORT_WITHOUT = """
import importlib, sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in sys.argv[1].split(","):
            raise ModuleNotFoundError(f"No module named {name!r} here", name=name)
sys.meta_path.insert(0, Absent())
for name in [name for name in sys.modules if name.partition(".")[0] in sys.argv[1].split(",")]:
    del sys.modules[name]  # Loaded at start-up, by `site` or for coverage.
for name in sys.argv[2].split(","):
    importlib.import_module(name)
"""


def import_without(absent: list[str], modules: list[str]) -> subprocess.CompletedProcess[str]:
    """Import modules in a new process that can't import some others."""
    # Coverage keeps its data in SQLite: measured, that process would have imported what is to be absent.
    env = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    command = [sys.executable, "-c", IMPORT_WITHOUT, ",".join(absent), ",".join(modules)]
    return subprocess.run(command, capture_output=True, text=True, env=env)


def portable_modules() -> list[str]:
    """What must import under Pyodide: all of core, runtime and d1; of sqlite what d1 builds on, without its file."""
    modules = [module for module, _ in source_files(ROOT) if unit(module) in {*PORTABLE, "workflow.store.d1"}]
    # `testing` is for the suites of stores, which run where there is pytest; `__main__` is the command line.
    modules = [module for module in modules if not {"testing", "__main__"} & set(module.split("."))]
    return [*modules, "workflow.store.sqlite"]


def test_portable_packages_import_without_what_pyodide_lacks():
    """Core, runtime and the SQL of sqlite import where ssl, sqlite3, fcntl and optional dependencies are absent."""
    done = import_without(ABSENT, portable_modules())
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("absent", ["sqlite3", "ssl", "jsonpatch"])
def test_an_import_of_something_absent_is_found(absent: str):
    """The check above does hide what it says it hides."""
    assert f"No module named '{absent}' here" in import_without(ABSENT, [absent]).stderr


# -- The rules find what breaks them


def write_module(root: Path, distribution: str, module: str, text: str) -> None:
    path = root / "packages" / distribution / "src" / Path(*module.split(".")).with_suffix(".py")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


@pytest.mark.parametrize(
    ("module", "text"),
    [
        ("workflow.core.bad", "import workflow.runtime"),
        ("workflow.core.bad", "from workflow import runtime"),
        ("workflow.core.bad", "from ..runtime import Runtime"),
        ("workflow.core.bad", "def f():\n    from workflow.store.sqlite import SQLiteStore"),
        ("workflow.core.bad", "import importlib\nimportlib.import_module('workflow.runtime.sweep')"),
        ("workflow.runtime.bad", "from workflow.store.sqlite import SQLiteStore"),
        ("workflow.store.postgres.bad", "from workflow.store import sqlite"),
        ("workflow.store.sqlite.bad", "from workflow.store.d1 import D1Store"),
        ("workflow.vercel.bad", "from workflow.railway import main"),
    ],
)
def test_an_import_in_the_wrong_direction_is_found(tmp_path: Path, module: str, text: str):
    """However it is written, an import against the direction is reported."""
    write_module(tmp_path, "any", module, text)
    assert len(direction_problems(read_imports(tmp_path))) == 1


@pytest.mark.parametrize(
    ("module", "text"),
    [
        ("workflow.core.good", "from .errors import WorkflowError\nfrom . import store"),
        ("workflow.runtime.good", "from workflow.core import Context"),
        ("workflow.store.d1.good", "from workflow.store.sqlite.sql import SCHEMA\nfrom workflow.runtime import X"),
        ("workflow.railway.good", "import workflow.runtime, workflow.core"),
    ],
)
def test_an_import_in_the_right_direction_is_allowed(tmp_path: Path, module: str, text: str):
    """Within a distribution, towards the core, and from d1 to sqlite's SQL, imports are allowed."""
    write_module(tmp_path, "any", module, text)
    assert direction_problems(read_imports(tmp_path)) == []


@pytest.mark.parametrize(
    "text",
    [
        "import httpx",
        "def f():\n    import httpx",
        "import jsonpatch",
        "from opentelemetry import trace",
        "class A:\n    import jsonpatch",
        "try:\n    import os\nexcept OSError:\n    import jsonpatch",
    ],
)
def test_a_foreign_import_of_the_core_is_found(tmp_path: Path, text: str):
    """An undeclared dependency of the core, or an optional one imported eagerly, is reported."""
    write_module(tmp_path, "workflow-core", "workflow.core.bad", text)
    assert len(core_problems(read_imports(tmp_path))) == 1


@pytest.mark.parametrize(
    "text",
    [
        "import asyncio\nfrom pydantic import BaseModel",
        "async def f():\n    import jsonpatch",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from opentelemetry import trace",
        "try:\n    from opentelemetry import trace\nexcept ImportError:\n    trace = None",
    ],
)
def test_a_tolerant_import_of_the_core_is_allowed(tmp_path: Path, text: str):
    """An optional dependency may be imported in a function, for type checkers, or where its absence is handled."""
    write_module(tmp_path, "workflow-core", "workflow.core.good", text)
    assert core_problems(read_imports(tmp_path)) == []


def test_a_heavy_import_is_found_only_when_eager(tmp_path: Path):
    """A heavy module may be imported by a function of runtime, but not by runtime itself."""
    write_module(tmp_path, "workflow-runtime", "workflow.runtime.bad", "import sqlite3\nfrom socket import socket")
    write_module(tmp_path, "workflow-runtime", "workflow.runtime.good", "def f():\n    import sqlite3")
    assert heavy_problems(read_imports(tmp_path)) == [
        "workflow.runtime.bad:1 imports sqlite3",
        "workflow.runtime.bad:2 imports socket.socket",
    ]
