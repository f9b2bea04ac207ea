#!/usr/bin/env python3
"""How long each host adapter takes to import, and how large it is with all that it needs: what a cold start pays for.

    .venv/bin/python tools/sizes.py             print the table
    .venv/bin/python tools/sizes.py --write     put it into docs/deploy/README.md

Times are of the processor (a busy machine changes little) and the best of several new processes; sizes are those of
the installed files, without compiled caches.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "deploy" / "README.md"
BEGIN, END = "<!-- sizes: written by tools/sizes.py -->", "<!-- end of sizes -->"

_PROGRAM = "import time; t = time.process_time(); {}; print(time.process_time() - t)"


@dataclass(frozen=True)
class Row:
    """One line: what is installed, and what of it is imported."""

    label: str
    distributions: tuple[str, ...]
    imports: str


ROWS = (
    Row("`pydantic` alone, to compare", ("pydantic",), "import pydantic"),
    Row("`workflow-runtime`", ("workflow-runtime",), "import workflow.runtime"),
    Row("`workflow-runtime`, with `WorkflowHTTP`", ("workflow-runtime",), "from workflow.runtime import WorkflowHTTP"),
    Row("`workflow-aws-lambda`, sweeps", ("workflow-aws-lambda",), "import workflow.aws_lambda"),
    Row(
        "`workflow-aws-lambda`, HTTP and queue",
        ("workflow-aws-lambda",),
        "import workflow.aws_lambda, workflow.runtime.http, workflow.aws_lambda.queue",
    ),
    Row("`workflow-vercel`", ("workflow-vercel",), "import workflow.vercel"),
    Row("`workflow-railway`", ("workflow-railway",), "import workflow.railway"),
    Row("`workflow-gcp`", ("workflow-gcp",), "import workflow.gcp"),
    Row(
        "`workflow-gcp[functions,oidc]`, as the guide has it",
        ("workflow-gcp", "functions-framework", "starlette", "google-auth", "requests"),
        "import workflow.gcp, functions_framework.aio",
    ),
    Row("`workflow-netlify`", ("workflow-netlify",), "from workflow.netlify import create_sweep_app"),
    Row(
        "`workflow-cloudflare` and `workflow-store-d1`",
        ("workflow-cloudflare", "workflow-store-d1"),
        "import workflow.cloudflare, workflow.store.d1",
    ),
    Row(
        "`workflow-aws-lambda` and `workflow-store-postgres`",
        ("workflow-aws-lambda", "workflow-store-postgres"),
        "import workflow.aws_lambda, workflow.store.postgres, asyncpg",
    ),
    Row("`boto3` alone, which only waker and dispatcher import", ("boto3",), "import boto3"),
)


def closure(names: tuple[str, ...]) -> set[str]:
    """The distributions that an installation without extras brings along."""
    found: set[str] = set()
    todo = list(names)
    while todo:
        name = normalized(todo.pop())
        if name in found:
            continue
        found.add(name)
        todo += needs(name)
    return found


def needs(name: str, extra: str = "") -> list[str]:
    """What a distribution requires on this platform; with an extra of it, what that adds."""
    wanted: list[str] = []
    for text in importlib.metadata.distribution(name).requires or []:
        requirement = Requirement(text)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": extra}):
            continue
        wanted.append(requirement.name)
        for asked in requirement.extras:  # as in sqlalchemy[asyncio]
            wanted += needs(requirement.name, asked)
    return wanted


def normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def size(name: str) -> int:
    """The bytes of an installed distribution; of one of ours, of its source."""
    if name.startswith("workflow-"):
        files = [path for path in (ROOT / "packages" / name / "src").rglob("*") if path.is_file()]
    else:
        listed = importlib.metadata.distribution(name).files or []
        files = [Path(str(path.locate())) for path in listed]
    return sum(path.stat().st_size for path in files if "__pycache__" not in path.parts and path.exists())


def import_time(program: str, rounds: int) -> float:
    """Milliseconds of CPU, of a process that has imported nothing else, its compiled files at hand: the best."""
    command = [sys.executable, "-c", _PROGRAM.format(program)]
    with tempfile.TemporaryDirectory() as compiled:
        # An installed distribution has its compiled files; this tree may not, and here writing them may be forbidden.
        environment = {**os.environ, "PYTHONPYCACHEPREFIX": compiled}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        runs = [
            subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
            for _ in range(rounds + 1)
        ]
    return min(float(run.stdout) for run in runs) * 1000


def table(rounds: int) -> str:
    lines = ["| what | import (CPU) | installed size | distributions |", "|---|---:|---:|---:|"]
    for row in ROWS:
        names = closure(row.distributions)
        megabytes = sum(map(size, names)) / 1_000_000
        lines.append(f"| {row.label} | {import_time(row.imports, rounds):.0f} ms | {megabytes:.1f} MB | {len(names)} |")
    place = f"Measured with Python {platform.python_version()} on {platform.machine()}: the best of {rounds} processes."
    return "\n".join([*lines, "", place])


def write(text: str) -> None:
    page = PAGE.read_text(encoding="utf-8")
    head, _, rest = page.partition(BEGIN)
    _, found, tail = rest.partition(END)
    if not found:
        sys.exit(f"{PAGE} has no place for the table: {BEGIN} ... {END}")
    PAGE.write_text(f"{head}{BEGIN}\n\n{text}\n\n{END}{tail}", encoding="utf-8")


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="put the table into docs/deploy/README.md")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args(argv)
    text = table(options.rounds)
    print(text)
    if options.write:
        write(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
