"""What users get: wheels built from this tree, installed into environments that hold nothing else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from email import message_from_string
from pathlib import Path

import pytest
from version import PREFIX, current_version, normalized, read_projects

ROOT = Path(__file__).resolve().parent.parent
VERSION = current_version(ROOT)
DISTRIBUTIONS = [path.parent.name for path in read_projects(ROOT)]

PYDANTIC = {"annotated-types", "pydantic", "pydantic-core", "typing-extensions", "typing-inspection"}
CORE = {*PYDANTIC, "jsonpatch", "jsonpointer"}
RUNTIME = {*CORE, "cronsim"}
# For every distribution: its import, the siblings that come with it, and all that it may bring from elsewhere.
EXPECTED: dict[str, tuple[str, set[str], set[str]]] = {
    "workflow-cloudflare": ("workflow.cloudflare", {"workflow-core", "workflow-runtime"}, RUNTIME),
    "workflow-aws-lambda": ("workflow.aws_lambda", {"workflow-core", "workflow-runtime"}, RUNTIME),
    "workflow-gcp": ("workflow.gcp", {"workflow-core", "workflow-runtime"}, RUNTIME),
    "workflow-netlify": ("workflow.netlify", {"workflow-core", "workflow-runtime"}, RUNTIME),
    "workflow-railway": ("workflow.railway", {"workflow-core", "workflow-runtime"}, RUNTIME),
    "workflow-core": ("workflow.core", set(), CORE),
    "workflow-runtime": ("workflow.runtime", {"workflow-core"}, RUNTIME),
    "workflow-store-d1": ("workflow.store.d1", {"workflow-core", "workflow-runtime", "workflow-store-sqlite"}, RUNTIME),
    "workflow-store-postgres": (
        "workflow.store.postgres",
        {"workflow-core", "workflow-runtime"},
        {*RUNTIME, "asyncpg", "greenlet", "sqlalchemy"},
    ),
    "workflow-store-sqlite": ("workflow.store.sqlite", {"workflow-core", "workflow-runtime"}, RUNTIME),
    "workflow-vercel": ("workflow.vercel", {"workflow-core", "workflow-runtime"}, RUNTIME),
}

pytestmark = pytest.mark.slow


# -- Building and installing


def call(*command: str | Path, cwd: Path | None = None, env: dict[str, str] | None = None) -> str:
    done = subprocess.run([str(part) for part in command], cwd=cwd, env=env, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}"
    return done.stdout


def build(distribution: str, target: Path) -> Path:
    """An sdist from the tree, then the wheel from that sdist: so the sdist is shown to be whole."""
    hatchling = [sys.executable, "-m", "hatchling", "build"]
    call(*hatchling, "-t", "sdist", "-d", target, cwd=ROOT / "packages" / distribution)
    stem = f"{distribution.replace('-', '_')}-{VERSION}"
    call(sys.executable, "-m", "tarfile", "-e", target / f"{stem}.tar.gz", target / "unpacked")
    call(*hatchling, "-t", "wheel", "-d", target, cwd=target / "unpacked" / stem)
    return target / f"{stem}-py3-none-any.whl"


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The wheel of every distribution, in one folder."""
    target = tmp_path_factory.mktemp("dist")
    return {name: build(name, target) for name in DISTRIBUTIONS}


@pytest.fixture(scope="module")
def third_party(wheels: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheels of other projects that ours need, fetched once; siblings are never asked for."""
    target = tmp_path_factory.mktemp("third-party")
    needs = {need for wheel in wheels.values() for need in requirements(wheel) if not need.startswith(PREFIX)}
    call(sys.executable, "-m", "pip", "download", "-q", "--only-binary", ":all:", "-d", target, *sorted(needs))
    return target


def requirements(wheel: Path) -> list[str]:
    """What a wheel requires without its extras."""
    needs = read_metadata(wheel).get_all("Requires-Dist", [])
    return [need for need in needs if "extra ==" not in need]


def read_metadata(wheel: Path):
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        return message_from_string(archive.read(name).decode())


@dataclass
class CleanEnvironment:
    python: Path
    origins: dict[str, str]
    """Where pip took each distribution from, by name."""

    def run(self, program: str) -> str:
        # -I: neither this folder nor the variables of this process help the imports along.
        return call(self.python, "-I", "-c", program, cwd=self.python.parent).strip()

    def installed(self) -> set[str]:
        names = "[d.metadata['Name'] for d in importlib.metadata.distributions()]"
        return {
            normalized(name)
            for name in json.loads(self.run(f"import importlib.metadata, json; print(json.dumps({names}))"))
        }


def install(distribution: str, path: Path, *folders: Path) -> CleanEnvironment:
    """Install one distribution by name into a new environment, from these folders only: there is no index."""
    call(sys.executable, "-m", "venv", "--without-pip", path)
    python = path / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    # pip's variables and files may name further places to look.
    env = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    env["PIP_CONFIG_FILE"] = os.devnull
    report = path / "report.json"
    links = [part for folder in folders for part in ("--find-links", folder)]
    pip = [sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check"]
    call(*pip, "install", "-q", "--no-index", *links, "--report", report, f"{distribution}=={VERSION}", env=env)
    items = json.loads(report.read_text(encoding="utf-8"))["install"]
    return CleanEnvironment(
        python, {normalized(item["metadata"]["name"]): item["download_info"]["url"] for item in items}
    )


# -- What they hold


def content_problems(names: list[str], leaf: str) -> list[str]:
    """What a wheel should not hold, or lacks."""
    code = [name for name in names if ".dist-info/" not in name]
    problems = [f"{name} lies outside {leaf}" for name in code if not name.startswith(f"{leaf}/")]
    problems += [f"{name} is a test" for name in code if "tests/" in name or "/test_" in name or "conftest" in name]
    problems += [
        f"{leaf}/{wanted} is missing" for wanted in ("__init__.py", "py.typed") if f"{leaf}/{wanted}" not in code
    ]
    if not any(name.endswith(".dist-info/licenses/LICENSE") for name in names):
        problems.append("the license is missing")
    return problems


def test_every_distribution_has_its_expectations():
    """A distribution that joins says here what it brings along."""
    assert EXPECTED.keys() == set(DISTRIBUTIONS)


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_a_wheel_holds_its_leaf_and_nothing_else(wheels: dict[str, Path], distribution: str):
    """A wheel has its own package, typed and licensed; no tests, and no file of the shared namespace."""
    with zipfile.ZipFile(wheels[distribution]) as archive:
        names = archive.namelist()
    assert content_problems(names, EXPECTED[distribution][0].replace(".", "/")) == []


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_a_wheel_holds_all_of_its_leaf(wheels: dict[str, Path], distribution: str):
    """Every file of the source arrives by way of the sdist in the wheel: modules, markers, SQL migrations."""
    source = ROOT / "packages" / distribution / "src"
    files = {path.relative_to(source).as_posix() for path in source.rglob("*") if path.is_file()}
    with zipfile.ZipFile(wheels[distribution]) as archive:
        assert {name for name in files if "__pycache__" not in name} <= set(archive.namelist())


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_a_wheel_describes_itself(wheels: dict[str, Path], distribution: str):
    """A wheel's metadata name the license and carry the README, and pin each sibling to the same version."""
    metadata = read_metadata(wheels[distribution])
    readme = (ROOT / "packages" / distribution / "README.md").read_text(encoding="utf-8")
    siblings = [need for need in requirements(wheels[distribution]) if need.startswith(PREFIX)]
    assert (metadata["Name"], metadata["Version"], metadata["License-Expression"]) == (distribution, VERSION, "MIT")
    assert str(metadata.get_payload()).strip() == readme.strip()
    assert all(need.endswith(f"=={VERSION}") for need in siblings)


def test_what_a_wheel_should_not_hold_is_found():
    """Namespace files, tests, a missing marker and a missing license are each reported."""
    names = ["workflow/__init__.py", "workflow/core/__init__.py", "workflow/core/tests/test_a.py"]
    assert content_problems(names, "workflow/core") == [
        "workflow/__init__.py lies outside workflow/core",
        "workflow/core/tests/test_a.py is a test",
        "workflow/core/py.typed is missing",
        "the license is missing",
    ]


# -- What an installation brings


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_it_installs_alone(wheels: dict[str, Path], third_party: Path, tmp_path: Path, distribution: str):
    """Installed by name, a distribution brings its siblings from our wheels, what it needs, and no more."""
    module, siblings, others = EXPECTED[distribution]
    folder = wheels[distribution].parent
    clean = install(distribution, tmp_path / "venv", folder, third_party)
    ours = {distribution, *siblings}
    assert clean.installed() == ours | others
    assert {clean.origins[name] for name in ours} == {wheels[name].as_uri() for name in ours}
    assert clean.run(f"import {module} as m; print(m.__file__)").startswith(str(tmp_path))
    assert clean.run("import workflow; print(getattr(workflow, '__file__', None))") == "None"
    for absent in EXPECTED.keys() - ours:
        program = f"import importlib.util as u\ntry: print(u.find_spec({EXPECTED[absent][0]!r}))"
        assert clean.run(f"{program}\nexcept ModuleNotFoundError: print(None)") == "None"


def test_the_demo_runs_on_installed_wheels(wheels: dict[str, Path], third_party: Path, tmp_path: Path):
    """The demo needs nothing of this tree but its own files: it runs on what users install."""
    folder = wheels["workflow-core"].parent
    clean = install("workflow-store-sqlite", tmp_path / "venv", folder, third_party)
    call(sys.executable, "-m", "pip", "--python", clean.python, "install", "-q", "rich")
    story = call(clean.python, "-I", ROOT / "tools" / "demo", cwd=tmp_path)
    assert story.count("yes  ") == 4
