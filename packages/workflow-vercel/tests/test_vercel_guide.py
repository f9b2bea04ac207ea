"""docs/deploy/vercel.md, followed line by line."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from guides import Guide, Reader, needs_of, quotes, third_party

GUIDE = Guide("vercel")
EXAMPLES = Path(__file__).parent.parent / "examples"


def test_the_guide_quotes_the_example():
    """What the guide shows of the app and of vercel.json is in the files that it has the reader copy."""
    assert quotes(GUIDE, "python", EXAMPLES / "api" / "index.py") == []
    assert quotes(GUIDE, "json", EXAMPLES / "vercel.json") == []


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_guide_leads_to_a_function_that_works(
    tmp_path: Path, postgres_url: str, start_function: Callable[..., Any], vercel_python: str
):
    """Its commands make a project that Vercel's runtime runs by its requirements alone; its requests are answered."""
    links = third_party(vercel_python, *needs_of("workflow-vercel", "workflow-store-postgres"))
    env = {"DATABASE_URL": postgres_url, "URL": ""}
    reader = Reader(GUIDE, tmp_path, python=vercel_python, links=[links], env=env)
    reader.follow(until="curl")
    named = {line.split()[3] for line in reader.calls.read_text().splitlines() if line.startswith("vercel env add")}
    assert named == {"DATABASE_URL", "WORKFLOW_TOKEN", "CRON_SECRET"}
    runtime = subprocess.run(
        [vercel_python, "-c", "import vercel_runtime; print(*vercel_runtime.__path__)"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    client = tmp_path / "client"
    client.mkdir()
    (client / "vercel_runtime").symlink_to(runtime.stdout.strip())
    function = start_function(
        python=str(reader.place / ".venv" / "bin" / "python"),
        folder=reader.place,
        DATABASE_URL=postgres_url,
        WORKFLOW_TOKEN=(reader.place / "token.txt").read_text().strip(),
        PYTHONPATH=str(client),
    )
    reader.env["URL"] = function.url
    started, paid, shown = (json.loads(reader.step()) for _ in range(3))
    assert (started["kind"], paid["kind"], shown["output"]) == ("paused", "completed", "p1")
    assert function.cron()[1]["summary"]["ready"] == {}
