"""docs/deploy/gcp.md, followed line by line."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from guides import Guide, Reader, needs_of, quotes, third_party

GUIDE = Guide("gcp")
EXAMPLES = Path(__file__).parent.parent / "examples"
# The extras of ours that the guide names, and what it adds.
EXTRAS = ("functions-framework>=3.10,<4", "starlette>=1.0.1", "google-auth>=2.40", "requests>=2.32")


def test_the_guide_quotes_the_example():
    """What the guide shows of the app is in the file that it has the reader copy."""
    assert quotes(GUIDE, "python", EXAMPLES / "main.py") == []
    for name in set(re.findall(r"\b((?:SWEEP|WAKE)_[A-Z]+)=", GUIDE.text)) - {"SWEEP_URL"}:
        assert f'"{name}"' in (EXAMPLES / "main.py").read_text()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_guide_leads_to_functions_that_work(tmp_path: Path, postgres_url: str, start_function: Callable[..., Any]):
    """Its commands make a folder that functions-framework runs by its requirements alone; its requests are answered."""
    links = third_party(sys.executable, *needs_of("workflow-gcp", "workflow-store-postgres"), *EXTRAS)
    reader = Reader(
        GUIDE, tmp_path, links=[links], env={"DATABASE_URL": postgres_url, "URL": "", "SWEEP_URL": "https://x"}
    )
    reader.follow(until="curl")
    assert "gcloud scheduler jobs create http shop-sweep" in reader.calls.read_text()
    check_commands_of_gcloud(reader, tmp_path)
    settings = {"DATABASE_URL": postgres_url, "PYTHONPATH": ""}
    place = {"folder": reader.place, "python": str(reader.place / ".venv" / "bin" / "python")}
    token = (reader.place / "token.txt").read_text().strip()
    api = start_function("api", WORKFLOW_TOKEN=token, **place, **settings)
    reader.env["URL"] = api.url
    started, paid, shown = (json.loads(reader.step()) for _ in range(3))
    assert (started["kind"], paid["kind"], shown["output"]) == ("paused", "completed", "p1")
    # The identity that the guide gives the scheduler is Google's to make; that strangers are refused can be seen here.
    account = "shop-scheduler@p.iam.gserviceaccount.com"
    sweep = start_function("sweep", SWEEP_AUDIENCE="https://shop-sweep", SWEEP_ACCOUNT=account, **place, **settings)
    assert sweep.sweep(token=None)[0] == 401


def check_commands_of_gcloud(reader: Reader, folder: Path) -> None:
    """Each command that the guide has given, with all its options, is one that gcloud's own parser takes."""
    reader.run(GUIDE.commands("Sooner", indent=4))
    commands = [line.strip() for line in reader.calls.read_text().splitlines() if line.startswith("gcloud ")]
    assert len(commands) >= 16
    gcloud = shutil.which("gcloud")
    if gcloud is None:
        return
    path = folder / "commands.json"
    path.write_text(json.dumps([{"command_string": command} for command in commands]))
    lint = [gcloud, "meta", "lint-gcloud-commands", f"--commands-file={path}"]
    done = subprocess.run(lint, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    checked = json.loads(done.stdout)
    problems = [(item["command_string"], item["error_message"]) for item in checked if not item["success"]]
    assert len(checked) == len(commands) and problems == []
