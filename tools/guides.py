"""Runs the guides of docs/deploy as a reader would, so that they can't rot. For the tests of the hosts.

    reader = Reader(Guide("vercel"), folder, python=..., links=[...])
    reader.follow(until="curl")                            # everything before the first request
    reader.follow(env={"URL": "http://127.0.0.1:8000"})    # the requests, to an app that runs here

Commands of a platform (`sam`, `vercel`, `gcloud`, ...) are recorded and not run, as nobody is logged in here. All
others are run: copying, installing from the wheels, migrating, making secrets, calling.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from version import PREFIX, read_projects

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / ".cache" / "guides"
_KEPT = 24 * 3600  # another test run may still use it
PLATFORMS = ("aws", "docker", "gcloud", "netlify", "railway", "sam", "terraform", "vercel")

_FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_EXPORT = re.compile(r"export (.*)")
_ASSIGNED = re.compile(r"(\w+)=")


# No index, where strangers have our names; and nothing that only takes time.
_PIP = {
    "PIP_CONFIG_FILE": os.devnull,
    "PIP_NO_INDEX": "1",
    "PIP_NO_COMPILE": "1",
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    "PIP_QUIET": "1",
    "PIP_ROOT_USER_ACTION": "ignore",
}


# -- A guide


class Guide:
    """A page of docs/deploy."""

    def __init__(self, name: str) -> None:
        self.path = ROOT / "docs" / "deploy" / f"{name}.md"
        self.text = self.path.read_text(encoding="utf-8")

    def commands(self, section: str = "From nothing", indent: int = 7) -> list[str]:
        """The commands of the numbered steps, or of another section; lines that go on with a backslash are one."""
        lines: list[str] = []
        inside = False
        for line in _FENCE.sub("", self.text).splitlines():
            if line.startswith("## "):
                inside = line.startswith(f"## {section}")
            elif inside and line.startswith(" " * indent):
                lines.append(line.strip())
        return _joined(lines)

    def blocks(self, language: str) -> list[str]:
        """The fenced blocks of a language."""
        return [text for name, text in _FENCE.findall(self.text) if name == language]


def _joined(lines: Sequence[str]) -> list[str]:
    text = "\n".join(lines).replace("\\\n", " ")
    return [re.sub(r" {2,}", " ", line) for line in text.splitlines()]


def quotes(guide: Guide, language: str, *files: Path) -> list[str]:
    """The blocks of a guide that are in none of these files, word for word."""
    texts = [path.read_text(encoding="utf-8") for path in files]
    return [block for block in guide.blocks(language) if not any(block.strip("\n") in text for text in texts)]


# -- What a guide builds on


def wheels() -> Path:
    """A folder with the wheels of this tree, as `tools/dev.py build` makes them; made once for each state of it."""
    projects = [path.parent for path in read_projects(ROOT)]
    digest = hashlib.sha256(sys.version.encode())
    sources = (path for project in projects for path in [project / "pyproject.toml", *project.glob("src/**/*")])
    for path in sorted(sources):
        if path.is_file() and "__pycache__" not in path.parts:
            digest.update(str(path).encode() + path.read_bytes())
    target = CACHE / f"dist-{digest.hexdigest()[:16]}"
    with _only_one("dist"):
        if not target.exists():
            for old in CACHE.glob("dist-*/"):
                if time.time() - old.stat().st_mtime > _KEPT:
                    shutil.rmtree(old)
            for project in projects:
                _call([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", f"{target}.new"], cwd=project)
            Path(f"{target}.new").rename(target)
    return target


def third_party(python: str, *needs: str) -> Path:
    """A folder with the wheels that others have made and that this Python needs, fetched once.

    What is installed from it and from `wheels()` can't come from the index, where strangers have our names.
    """
    version = _call([python, "-c", "import sys; print(sys.version_info[:3])"])
    digest = hashlib.sha256("\n".join([version, *sorted(needs)]).encode()).hexdigest()[:16]
    target = CACHE / f"third-party-{digest}"
    with _only_one("third-party"):
        if not target.exists():
            pip = [sys.executable, "-m", "pip", "--python", python, "download", "-q", "--only-binary", ":all:"]
            _call([*pip, "-d", f"{target}.new", *needs])
            Path(f"{target}.new").rename(target)
    return target


def needs_of(*distributions: str) -> list[str]:
    """What our distributions need of others, without extras."""
    projects = {document["project"]["name"]: document["project"] for document in read_projects(ROOT).values()}
    names = {"workflow-core", "workflow-runtime", *distributions}
    needs = {need for name in names for need in projects[name]["dependencies"] if not need.startswith(PREFIX)}
    return sorted(needs)


@contextlib.contextmanager
def _only_one(what: str) -> Iterator[None]:
    """Two test runs that fetch at once take turns."""
    import fcntl

    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"{what}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        for unfinished in CACHE.glob(f"{what}-*.new"):
            shutil.rmtree(unfinished)
        yield


def _call(command: Sequence[str | Path], cwd: Path = ROOT) -> str:
    done = subprocess.run([str(part) for part in command], cwd=cwd, capture_output=True, text=True)
    if done.returncode:
        raise AssertionError(f"{shlex.join(map(str, command))}\n{done.stdout}{done.stderr}")
    return done.stdout


# -- A reader


@dataclass
class Reader:
    """Somebody with a home and a shell, who follows a guide. `env` is what the reader fills in for the placeholders."""

    guide: Guide
    folder: Path
    python: str = sys.executable
    env: dict[str, str] = field(default_factory=dict[str, str])
    links: list[Path] = field(default_factory=list[Path])
    """Folders of wheels for pip, which asks no index."""
    replace: dict[str, str] = field(default_factory=dict[str, str])
    """What is other here than the guide takes it to be, and what it is."""

    def __post_init__(self) -> None:
        self.home = self.folder / "home"
        self._tree = self.folder / "tree"
        self._place = str(self._tree)
        self._bin = self.folder / "bin"
        self._done = 0
        for path in (self.home, self._tree, self._bin):
            path.mkdir(parents=True)
        (self._tree / "dist").symlink_to(wheels())
        (self._tree / "packages").symlink_to(ROOT / "packages")
        self.calls = self.folder / "calls.txt"
        self.calls.touch()
        for name in PLATFORMS:
            record = f'{{ printf "%q " {name} "$@"; echo; }} >> {shlex.quote(str(self.calls))}'
            self.stand_in(name, f"cat > /dev/null\n{record}")
        # What builds the wheels was run before: all other things that are said to Python are.
        self.stand_in("python", f'[ "$1" = tools/dev.py ] || exec {shlex.quote(self.python)} "$@"')

    @property
    def place(self) -> Path:
        """Where the reader is."""
        return Path(self._place)

    def stand_in(self, name: str, script: str) -> None:
        """Put a command on the reader's PATH."""
        path = self._bin / name
        path.write_text(f"#!/bin/bash\n{script}\n")
        path.chmod(0o755)

    def follow(self, *, until: str | None = None, env: dict[str, str] | None = None) -> str:
        """Run the commands that come next, until one that begins with a word; what they have written.

        A command that fails is an `AssertionError`. A variable that `env` has keeps its value.
        """
        self.env |= env or {}
        commands = self.guide.commands()[self._done :]
        if until is not None:
            stop = next(index for index, line in enumerate(commands) if line.startswith(until))
            commands = commands[:stop]
        self._done += len(commands)
        return self.run(commands)

    def step(self) -> str:
        """Run one more command; what it has written."""
        self._done += 1
        return self.run(self.guide.commands()[self._done - 1 : self._done])

    def run(self, commands: Sequence[str]) -> str:
        """Run some commands where the reader is; what they have written."""
        kept = self.folder / "environment"
        script = ["set -euo pipefail", f"cd {shlex.quote(self._place)}"]
        script += [adapted for line in commands if (adapted := self._adapted(line))]
        script += [f"pwd > {kept}.place", f"env -0 > {kept}"]
        done = subprocess.run(
            ["bash", "-c", "\n".join(script)],
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=110,
        )
        if done.returncode:
            raise AssertionError("\n".join([*script, done.stdout, done.stderr]))
        self._place = Path(f"{kept}.place").read_text().strip()
        for item in kept.read_text().split("\0"):
            name, _, value = item.partition("=")
            if name and name not in os.environ:
                self.env[name] = value
        return done.stdout

    def _adapted(self, line: str) -> str:
        """A line, without what the reader knows better: addresses and places."""
        exported = _EXPORT.match(line)
        if exported and any(name in self.env for name in _ASSIGNED.findall(line)):
            return ""
        for text, other in self.replace.items():
            line = line.replace(text, other)
        return line

    def _environment(self) -> dict[str, str]:
        not_ours = ("PIP_", "PYTHON", "COV", "VIRTUAL")
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(not_ours)}
        return {
            **inherited,
            **self.env,
            "HOME": str(self.home),
            "PATH": f"{self._bin}{os.pathsep}{os.environ['PATH']}",
            **_PIP,
            "PIP_FIND_LINKS": " ".join(map(str, self.links)),
        }


class Image:
    """What a Dockerfile makes, as far as it concerns Python: packages, and commands that find these and no others."""

    def __init__(self, dockerfile: Path, folder: Path, links: Sequence[Path]) -> None:
        self.place = dockerfile.parent
        self.command: list[str] = []
        self._packages = folder / "packages"
        self._bin = folder / "bin"
        self._bin.mkdir(parents=True)
        for name, module in (("python", ""), ("uvicorn", "-m uvicorn "), ("pip", "")):
            python = f"{shlex.quote(base_python())} -S {module}"
            # pip itself is no part of the image that is made: this environment's installs into it.
            script = f'{python}"$@"' if name != "pip" else f'{shlex.quote(sys.executable)} -m pip "$@"'
            (self._bin / name).write_text(f"#!/bin/sh\nexec {script}\n")
            (self._bin / name).chmod(0o755)
        pip = {"PIP_TARGET": str(self._packages), "PIP_FIND_LINKS": " ".join(map(str, links))}
        for line in dockerfile.read_text(encoding="utf-8").replace("\\\n", " ").splitlines():
            self._do(line, {**_PIP, **pip})

    def _do(self, line: str, pip: dict[str, str]) -> None:
        word, _, rest = line.partition(" ")
        if word == "COPY":
            *sources, _ = rest.split()
            assert all(list(self.place.glob(source)) for source in sources), f"{line}: nothing to copy"
        elif word == "RUN":
            self.run(rest, **pip)
        elif word == "CMD":
            self.command = json.loads(rest)
        else:
            assert word in ("FROM", "WORKDIR", "#", ""), f"{line}: what does it do?"

    def environment(self, **more: str) -> dict[str, str]:
        """The variables of a process in it."""
        not_ours = ("PIP_", "PYTHON", "COV", "VIRTUAL")
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(not_ours)}
        path = f"{self._bin}{os.pathsep}{os.environ['PATH']}"
        return {**inherited, "PATH": path, "PYTHONPATH": str(self._packages), **more}

    def run(self, command: str, **env: str) -> str:
        """Run a command as the platform does; what it has written. One that fails is an `AssertionError`."""
        done = subprocess.run(
            ["bash", "-euc", command], cwd=self.place, env=self.environment(**env), capture_output=True, text=True
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        return done.stdout

    def as_docker(self) -> str:
        """A stand-in for `docker`, which runs `docker run --rm [-e NAME] [-v FROM:TO] IMAGE COMMAND` here."""
        return f"""
[ "$1 $2" = "run --rm" ] || exit 0
shift 2; from=; to=
while [ "${{1#-}}" != "$1" ]; do
  if [ "$1" = -v ]; then from="${{2%%:*}}"; to="${{2##*:}}"; fi
  shift 2
done
shift
command=(); for word in "$@"; do [ -n "$to" ] && [ "$word" = "$to" ] && word="$from"; command+=("$word"); done
PATH={shlex.quote(str(self._bin))}:"$PATH" PYTHONPATH={shlex.quote(str(self._packages))} exec "${{command[@]}}"
"""


def base_python() -> str:
    """The interpreter behind the one that runs this: `-S` keeps it from seeing what is installed."""
    return str(getattr(sys, "_base_executable", sys.executable))


__all__ = ["ROOT", "Guide", "Image", "Reader", "base_python", "needs_of", "quotes", "third_party", "wheels"]
