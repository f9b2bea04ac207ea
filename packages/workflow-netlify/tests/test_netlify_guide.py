"""docs/deploy/netlify.md, followed line by line."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from guides import Guide, Image, Reader, needs_of, quotes, third_party

GUIDE = Guide("netlify")
EXAMPLES = Path(__file__).parent.parent / "examples"


def test_the_guide_quotes_the_example():
    """What the guide shows of the app is in the file that it has the reader copy."""
    assert quotes(GUIDE, "python", EXAMPLES / "app.py") == []


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_guide_leads_to_an_app_that_works(tmp_path: Path, postgres_url: str, start_app: Callable[..., Any]):
    """Its image migrates, writes the site's function, and answers the requests of the guide."""
    links = third_party(sys.executable, *needs_of("workflow-netlify", "workflow-store-postgres"), "uvicorn>=0.34")
    reader = Reader(GUIDE, tmp_path, links=[links], env={"DATABASE_URL": postgres_url, "URL": "https://app"})
    (reader.home / "site").mkdir()
    reader.follow(until="docker build")
    image = Image(reader.place / "Dockerfile", tmp_path / "image", [links])
    reader.stand_in("docker", image.as_docker())
    reader.follow(until="curl")
    functions = reader.home / "site" / "netlify" / "functions"
    assert [path.name for path in functions.iterdir()] == ["workflow-sweep.mts"]
    calls = reader.calls.read_text()
    assert "netlify env:set WORKFLOW_SWEEP_URL https://app/sweep" in calls
    assert f"netlify env:set WORKFLOW_SWEEP_SECRET {reader.env['WORKFLOW_SWEEP_SECRET']}" in calls
    names = ("DATABASE_URL", "WORKFLOW_TOKEN", "WORKFLOW_SWEEP_SECRET")
    app = start_app(image=image, **{name: reader.env[name] for name in names})
    reader.env["URL"] = app.wait().url.removesuffix("/sweep")
    started, swept, shown = (json.loads(reader.step()) for _ in range(3))
    assert (started["kind"], swept["summary"]["ready"], shown["output"]) == ("queued", {"completed": 1}, 3)
