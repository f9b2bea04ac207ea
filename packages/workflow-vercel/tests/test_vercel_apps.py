"""The apps and their files, without Vercel's runtime."""

from __future__ import annotations

import asyncio
import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest

from workflow.core import InvalidArgumentError
from workflow.runtime import MemoryStore, WorkflowRuntime
from workflow.runtime.hosting import SweepLimits
from workflow.vercel import create_app, create_sweep_app
from workflow.vercel.apps import remaining

EXAMPLES = Path(__file__).parent.parent / "examples"


def make_runtime() -> WorkflowRuntime:
    return WorkflowRuntime(MemoryStore(), [])


def call(app: Any, method: str, path: str, **headers: str) -> httpx.Response:
    async def send() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://site") as client:
            return await client.request(method, path, headers=headers)

    return asyncio.run(send())


@pytest.mark.parametrize("secret", [None, "", [], "line\n"])
def test_no_secret_no_app(secret: Any):
    """Without a usable secret neither app is made."""
    with pytest.raises(InvalidArgumentError, match="cron_secret"):
        create_sweep_app(make_runtime, cron_secret=secret)
    with pytest.raises(InvalidArgumentError, match="cron_secret"):
        create_app(make_runtime, token="t", cron_secret=secret)
    with pytest.raises(InvalidArgumentError, match="token"):
        create_app(make_runtime, token=secret, cron_secret="s")


def test_the_sweep_app_answers_at_any_path():
    """The route alone needs no path of its own; several secrets are good while one is changed."""
    app = create_sweep_app(make_runtime, cron_secret=["new", "old"], limits=SweepLimits(include_sweep_result=True))
    for secret in ("new", "old"):
        answer = call(app, "GET", "/any/path", authorization=f"Bearer {secret}")
        assert (answer.status_code, answer.json()["result"]["ready"]) == (200, [])
    assert call(app, "GET", "/any/path").status_code == 401


def test_the_deadline_is_taken_where_vercel_gives_one(monkeypatch: pytest.MonkeyPatch):
    """With Vercel's runtime the time that is left is known; without it, or without a deadline, it is not."""
    module: Any = ModuleType("vercel_runtime")
    monkeypatch.setitem(sys.modules, "vercel_runtime", module)
    assert remaining() is None
    module.get_deadline = lambda: None
    assert remaining() is None
    module.get_deadline = lambda: datetime.now(UTC) + timedelta(seconds=30)
    left = remaining()
    assert left is not None and 29 < left <= 30
    module.get_deadline = lambda: datetime.now(UTC) - timedelta(seconds=30)
    assert remaining() == 0
    monkeypatch.setitem(sys.modules, "vercel_runtime", None)
    assert remaining() is None


def test_the_crons_of_the_example_call_its_route():
    """vercel.json names the path at which the example sweeps, and a function that there is."""
    settings = json.loads((EXAMPLES / "vercel.json").read_text())
    (cron,) = settings["crons"]
    app = create_app(make_runtime, token="t", cron_secret="s")
    assert call(app, "GET", cron["path"], authorization="Bearer s").status_code == 200
    assert len(cron["schedule"].split()) == 5
    assert all((EXAMPLES / name).is_file() for name in settings["functions"])
