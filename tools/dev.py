#!/usr/bin/env python3
"""Work on this repository. Needs Python 3.11+ with pip, and nothing else; runs from any directory.

    python tools/dev.py demo [ARGS]        the fulfilment demo
    python tools/dev.py test [ARGS]        all tests, or pytest with ARGS (paths count from the top)
    python tools/dev.py coverage [ARGS]    the same, with a coverage report
    python tools/dev.py lint               ruff: rules and format
    python tools/dev.py fmt                ruff: fix and format
    python tools/dev.py types              pyright
    python tools/dev.py check              lint, types and test
    python tools/dev.py build              an sdist and a wheel of every distribution, in dist/
    python tools/dev.py setup              everything installed, nothing run

The first command makes a virtual environment, .venv; a later one brings it up to date when a pyproject.toml
has changed. `--python PATH` (before the command) uses another interpreter, and .venv-3.13 or the like.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
OLDEST = (3, 11)
# The groups of [dependency-groups] that each command needs.
GROUPS = {
    "demo": ("demo",),
    "test": ("test",),
    "coverage": ("test",),
    "lint": ("lint",),
    "fmt": ("lint",),
    "types": ("types",),
    "check": ("dev",),
    "build": ("test",),
    "setup": ("dev",),
}


def say(message: str) -> None:
    print(f"==> {message}", flush=True)


def run(command: list[str], cwd: Path = ROOT) -> int:
    """Run a command, from the top of the tree or elsewhere in it, its output streamed, and give its exit code."""
    with subprocess.Popen(command, cwd=cwd) as child:
        while True:
            try:
                code = child.wait()
            except KeyboardInterrupt:
                continue  # The child got the signal too: let it clean up, then report its exit code.
            return code if code >= 0 else 128 - code


# -- What is to be installed


def read_toml(path: Path) -> dict[str, Any]:
    import tomllib  # Here, so that an older Python reaches the message of main().

    return tomllib.loads(path.read_text(encoding="utf-8"))


def members(root: Path = ROOT) -> list[Path]:
    """The distributions of this tree: the folders of packages/ that have a pyproject.toml."""
    return sorted(path.parent for path in root.glob("packages/*/pyproject.toml"))


def group_requirements(groups: dict[str, list[Any]], name: str) -> list[str]:
    """The requirements of a dependency group, with the groups that it includes.

    pip reads groups from 25.1 on; the pip that comes with Python 3.11 is older.
    """
    found: list[str] = []
    for entry in groups[name]:
        found += group_requirements(groups, entry["include-group"]) if isinstance(entry, dict) else [entry]
    return list(dict.fromkeys(found))


def build_requirements() -> list[str]:
    """What builds the members: installed first, so that pip needs no build environment for each of them."""
    projects = (read_toml(path / "pyproject.toml") for path in members())
    return sorted({need for project in projects for need in project["build-system"]["requires"]})


def inputs_digest(root: Path, groups: dict[str, list[Any]]) -> str:
    """Changes when something changes that decides what is installed."""
    digest = hashlib.sha256(json.dumps([str(root), groups], sort_keys=True).encode())
    for path in members(root):
        digest.update(path.name.encode() + (path / "pyproject.toml").read_bytes())
    return digest.hexdigest()


# -- The virtual environment


@dataclass
class Environment:
    path: Path
    base_python: str
    version: str

    @property
    def python(self) -> str:
        return str(self.path / ("Scripts/python.exe" if os.name == "nt" else "bin/python"))

    @property
    def stamp(self) -> Path:
        """Written last, so an interrupted installation is begun again."""
        return self.path / "dev-stamp.json"

    def read_stamp(self) -> dict[str, Any]:
        try:
            return json.loads(self.stamp.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}

    def ensure(self, wanted: tuple[str, ...]) -> None:
        """Make the environment hold the members and the wanted groups; do nothing when it does already."""
        groups = read_toml(ROOT / "pyproject.toml")["dependency-groups"]
        inputs = {"python": self.version, "digest": inputs_digest(ROOT, groups)}
        with installation_lock():
            stamp = self.read_stamp()
            if stamp.get("python") != self.version or not Path(self.python).exists():
                stamp = {}
                self.create()
            tools = {need for group in wanted for need in group_requirements(groups, group)}
            if stamp.get("digest") == inputs["digest"] and tools <= set(stamp["tools"]):
                return
            say(f"installing {', '.join(path.name for path in members())}, and the tools for: {', '.join(wanted)}")
            if stamp.get("digest") == inputs["digest"]:
                tools |= set(stamp["tools"])
            self.install(sorted(tools))
            self.stamp.write_text(json.dumps({**inputs, "tools": sorted(tools)}), encoding="utf-8")

    def create(self) -> None:
        say(f"creating {self.path.name} (Python {self.version})")
        if run([self.base_python, "-m", "venv", "--clear", str(self.path)]):
            sys.exit("No virtual environment could be made. On Debian and Ubuntu, `apt install python3-venv` first.")

    def install(self, tools: list[str]) -> None:
        """Install all members in one resolution with the tools.

        One resolution matters: a sibling must never be looked up in the index, where a foreign `workflow-core`
        exists. A member that is named as a path is the only candidate for its name.
        """
        editables = [argument for path in members() for argument in ("--editable", str(path))]
        self.pip_install(build_requirements())
        self.pip_install(["--no-build-isolation", *editables, *tools])

    def pip_install(self, arguments: list[str]) -> None:
        pip = [self.python, "-m", "pip", "install", "-qq", "--disable-pip-version-check", *arguments]
        if code := run(pip):
            sys.exit(code)


@contextlib.contextmanager
def installation_lock() -> Iterator[None]:
    """Keep two commands from installing into one environment at once, where the platform has file locks."""
    try:
        import fcntl
    except ImportError:
        yield
        return
    with open(__file__, encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def environment(python: str | None) -> Environment:
    """The environment of this interpreter, or of the one given by `--python`."""
    # Run by .venv's own python, a new environment is to come from the interpreter behind it.
    report = (
        "import sys; print(*sys.version_info[:3], sep='.'); print(getattr(sys, '_base_executable', sys.executable))"
    )
    try:
        told = subprocess.run([python or sys.executable, "-c", report], check=True, stdout=subprocess.PIPE, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        sys.exit(f"{python} can't be run as a Python interpreter: {error}")
    version, base = told.stdout.splitlines()
    require_version(version)
    short = ".".join(version.split(".")[:2])
    return Environment(ROOT / (f".venv-{short}" if python else ".venv"), base, version)


def require_version(version: str) -> None:
    if tuple(int(part) for part in version.split(".")[:2]) < OLDEST:
        sys.exit(f"Python {'.'.join(map(str, OLDEST))} or newer is needed; this is {version}.")


# -- The commands


def demo(python: str, arguments: list[str]) -> int:
    return run([python, str(ROOT / "tools" / "demo"), *arguments])


def test(python: str, arguments: list[str]) -> int:
    say(" ".join(["pytest", *arguments]))
    return run([python, "-m", "pytest", *arguments])


def coverage(python: str, arguments: list[str]) -> int:
    say(" ".join(["pytest, with coverage", *arguments]))
    run([python, "-m", "coverage", "erase"])
    code = run([python, "-m", "coverage", "run", "-m", "pytest", *arguments])
    run([python, "-m", "coverage", "combine", "--quiet"])
    run([python, "-m", "coverage", "report"])
    return code


def lint(python: str, arguments: list[str]) -> int:
    say("ruff check, ruff format --check")
    rules = run([python, "-m", "ruff", "check", *arguments])
    return run([python, "-m", "ruff", "format", "--check", *arguments]) or rules


def fmt(python: str, arguments: list[str]) -> int:
    say("ruff check --fix, ruff format")
    rules = run([python, "-m", "ruff", "check", "--fix", *arguments])
    return run([python, "-m", "ruff", "format", *arguments]) or rules


def types(python: str, arguments: list[str]) -> int:
    say("pyright")
    return run([python, "-m", "pyright", "--pythonpath", python, *arguments])


def check(python: str, arguments: list[str]) -> int:
    """Run all of them, also after a failure, and say at the end which failed."""
    codes = {"lint": lint(python, []), "types": types(python, []), "test": test(python, arguments)}
    failed = [name for name, code in codes.items() if code]
    say(f"failed: {', '.join(failed)}" if failed else "lint, types and test passed")
    return next((code for code in codes.values() if code), 0)


def build(python: str, arguments: list[str]) -> int:
    say("building into dist/")
    for path in members():
        if code := run([python, "-m", "hatchling", "build", "-d", str(ROOT / "dist"), *arguments], cwd=path):
            return code
    return 0


def setup(python: str, arguments: list[str]) -> int:
    say(f"ready: {python}")
    return 0


COMMANDS = {command.__name__: command for command in (demo, test, coverage, lint, fmt, types, check, build, setup)}


def main(argv: list[str]) -> int:
    require_version(f"{sys.version_info[0]}.{sys.version_info[1]}")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", metavar="PATH", help="another interpreter, with an environment of its own")
    parser.add_argument("command", choices=COMMANDS, nargs="?", default="setup")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="passed on to the command")
    options = parser.parse_args(argv)
    venv = environment(options.python)
    venv.ensure(GROUPS[options.command])
    return COMMANDS[options.command](venv.python, options.arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
