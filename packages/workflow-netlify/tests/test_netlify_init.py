"""`init`, and what the function calls, without node."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest

from workflow.core import InvalidArgumentError
from workflow.netlify import create_sweep_app
from workflow.netlify.__main__ import main
from workflow.runtime import MemoryStore, WorkflowRuntime


def test_init_writes_into_a_site_and_replaces_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """The function is written where the site keeps its functions; what is there stays, unless told otherwise."""
    assert main(["init", str(tmp_path)]) == 0
    path = tmp_path / "netlify" / "functions" / "workflow-sweep.mts"
    assert 'schedule: "*/5 * * * *"' in path.read_text()
    path.write_text("mine")
    assert main(["init", str(tmp_path)]) == 2 and path.read_text() == "mine"
    assert main(["init", str(tmp_path), "--force", "--schedule", "@hourly", "--background"]) == 0
    assert '"@hourly"' in path.read_text()
    assert (tmp_path / "netlify" / "functions" / "workflow-sweep-background.mts").exists()
    assert "--force" in capsys.readouterr().err
    assert main(["init", str(tmp_path / "nowhere")]) == 2


@pytest.mark.parametrize("schedule", ["", "* * * *", "@never", '"; evil(); "', "*  * * * *", "* * * * *\n"])
def test_what_is_no_schedule_is_written_nowhere(tmp_path: Path, schedule: str):
    """Only a schedule gets into the file, which is code."""
    assert main(["init", str(tmp_path), "--schedule", schedule]) == 2
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("secret", [None, "", "line\n"])
def test_without_a_secret_the_app_is_not_made(secret: Any):
    """The app has an address that anybody can call: without a secret it does not start."""
    with pytest.raises(InvalidArgumentError):
        create_sweep_app(WorkflowRuntime(MemoryStore(), []), secret=secret)


@pytest.mark.parametrize(("seconds", "reached"), [("1", True), ("30", False), ("x", False), ("-5", False), ("", False)])
def test_the_sweep_ends_while_the_function_waits(seconds: str, reached: bool):
    """The function says how long it waits, and the sweep ends before that; nonsense is ignored."""
    app = create_sweep_app(WorkflowRuntime(MemoryStore(), []), secret="s")

    async def call() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://app") as client:
            headers = {"authorization": "Bearer s", "x-workflow-seconds": seconds}
            assert (await client.get("/", headers=headers)).status_code == 405
            return await client.post("/", headers=headers)

    answer = asyncio.run(call())
    assert (answer.status_code, answer.json()["deadline_reached"]) == (200, reached)
