#!/usr/bin/env python3
"""The one version that all distributions carry. Standard library only.

    python tools/version.py              print it
    python tools/version.py 0.2.0        write it, and the pins on siblings, into every packages/*/pyproject.toml
    python tools/version.py --check      verify that versions and pins are in lockstep

Versions are static, and written by this script, because an sdist must carry the same text as the tree.
"""

from __future__ import annotations

import argparse
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
VERSION = re.compile(r"\d+\.\d+\.\d+((a|b|rc)\d+)?(\.dev\d+)?")
REQUIREMENT = re.compile(r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)\s*(\[[^\]]*\])?\s*(?P<rest>.*)")
# Names of this prefix belong to this project or, in the index, to strangers: nothing may depend on the latter.
PREFIX = "workflow-"


class VersionError(Exception):
    """The tree's versions are not what they must be."""


def read_projects(root: Path) -> dict[Path, dict[str, Any]]:
    """The parsed pyproject.toml of every distribution, by its path."""
    paths = sorted(root.glob("packages/*/pyproject.toml"))
    if not paths:
        raise VersionError(f"{root} has no packages/*/pyproject.toml.")
    return {path: tomllib.loads(path.read_text(encoding="utf-8")) for path in paths}


def requirements(project: dict[str, Any]) -> Iterator[str]:
    """Every requirement that a distribution declares, extras included."""
    yield from project["project"].get("dependencies", [])
    for extra in project["project"].get("optional-dependencies", {}).values():
        yield from extra


def sibling_pins(project: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """The name and the specifier of every requirement that bears the project's prefix."""
    for requirement in requirements(project):
        match = REQUIREMENT.match(requirement)
        if match and normalized(match["name"]).startswith(PREFIX):
            yield normalized(match["name"]), match["rest"].partition(";")[0].replace(" ", "")


def normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def current_version(root: Path) -> str:
    """The version of the first distribution; `problems` tells whether the others agree."""
    return next(iter(read_projects(root).values()))["project"]["version"]


def problems(root: Path) -> list[str]:
    """What is out of lockstep, one sentence each; empty when all is well."""
    projects = read_projects(root)
    names = {project["project"]["name"] for project in projects.values()}
    version = current_version(root)
    found: list[str] = []
    for path, project in projects.items():
        where = path.relative_to(root)
        if project["project"]["version"] != version:
            found.append(f"{where} has version {project['project']['version']}, not {version}.")
        for name, specifier in sibling_pins(project):
            if name not in names:
                found.append(f"{where} requires {name}, which is not in packages/: the index would be asked for it.")
            elif specifier != f"=={version}":
                found.append(f"{where} requires {name}{specifier}, not {name}=={version}.")
    return found


def rewritten(text: str, version: str) -> str:
    """A pyproject.toml with its version and its pins on siblings replaced, all else left as it is."""
    text, count = re.subn(r'^version = "[^"]*"', f'version = "{version}"', text, flags=re.MULTILINE)
    if count != 1:
        raise VersionError(f"A line `version = ...` is expected once, and is there {count} times.")
    pin = rf'(?P<name>["\']{PREFIX}[a-z0-9-]+(\[[^\]]*\])?)\s*==\s*[^"\';,\s]+'
    return re.sub(pin, lambda match: f"{match['name']}=={version}", text)


def write_version(root: Path, version: str) -> list[Path]:
    """Write the version everywhere, or nowhere when a file can't take it."""
    if not VERSION.fullmatch(version):
        raise VersionError(f"{version!r} is no version such as 1.2.3, 1.2.3rc1 or 1.2.3.dev4.")
    texts = {path: rewritten(path.read_text(encoding="utf-8"), version) for path in read_projects(root)}
    for path, text in texts.items():
        path.write_text(text, encoding="utf-8")
    return list(texts)


def main(argv: list[str], root: Path = ROOT) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("version", nargs="?", help="the version to write")
    parser.add_argument("--check", action="store_true", help="verify only")
    options = parser.parse_args(argv)
    try:
        if options.version:
            for path in write_version(root, options.version):
                print(f"{path.relative_to(root)}: {options.version}")
        found = problems(root)
        if not options.version:
            print(current_version(root))
    except VersionError as error:
        found = [str(error)]
    for problem in found:
        print(problem, file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
