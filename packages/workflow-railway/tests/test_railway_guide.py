"""docs/deploy/railway.md, followed line by line."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shlex
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from guides import Guide, Image, Reader, needs_of, quotes, third_party

from workflow.railway.main import main

GUIDE = Guide("railway")
EXAMPLES = Path(__file__).parent.parent / "examples"


def test_the_guide_quotes_the_example():
    """What the guide shows of railway.toml is in it, and the worker's variant is TOML that says what the text says."""
    shown, worker = GUIDE.blocks("toml")
    assert quotes(GUIDE, "toml", EXAMPLES / "railway.toml") == [worker]
    assert tomllib.loads(shown)["deploy"].keys() <= tomllib.loads(worker).keys() | {"preDeployCommand", "cronSchedule"}


def test_the_console_of_the_guide_is_what_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """The commands that the guide shows with their output write this output."""
    monkeypatch.chdir(tmp_path)
    (console,) = GUIDE.blocks("console")
    seen: list[str] = []
    for line in console.splitlines():
        if line.startswith("$ "):
            seen.append(line)
            assert main(shlex.split(line)[4:]) == 0
            seen += [*capsys.readouterr().out.splitlines(), ""]
    assert "\n".join(seen).strip() == console.strip()


def test_the_worker_of_the_guide_works(tmp_path: Path):
    """worker.py, as the guide has it, drives what is there until it is told to stop."""
    from workflow.core import Context, create_workflow
    from workflow.runtime import MemoryStore, WorkflowRuntime

    (program,) = GUIDE.blocks("python")
    done = asyncio.Event()

    @create_workflow(id="hello")
    async def hello(ctx: Context[Any]) -> None:
        done.set()

    made = WorkflowRuntime(MemoryStore(), [hello])
    names: dict[str, Any] = {}
    body = program.replace("from app import runtime", "").replace("asyncio.run(main())", "")
    exec(body, {"runtime": lambda: made, "asyncio": asyncio}, names)

    async def work() -> None:
        await made.start_run("hello", drive=False)
        serving = asyncio.ensure_future(names["main"]())
        await asyncio.wait_for(done.wait(), 30)
        serving.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await serving

    asyncio.run(work())


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_guide_leads_to_services_that_work(tmp_path: Path, postgres_url: str):
    """Its image migrates, serves the requests of the guide and sweeps, by the commands of the two files."""
    links = third_party(sys.executable, *needs_of("workflow-railway", "workflow-store-postgres"), "uvicorn>=0.34")
    reader = Reader(GUIDE, tmp_path, links=[links], env={"URL": ""})
    reader.follow(until="curl")
    assert "railway up --service cron" in reader.calls.read_text()
    image = Image(reader.place / "Dockerfile", tmp_path / "image", [links])
    cron = tomllib.loads((reader.place / "railway.toml").read_text())["deploy"]
    web = tomllib.loads((reader.place / "railway.web.toml").read_text())["deploy"]
    settings = {"DATABASE_URL": postgres_url, "WORKFLOW_TOKEN": (reader.place / "token.txt").read_text().strip()}
    for command in (*cron["preDeployCommand"], *web["preDeployCommand"]):
        image.run(command, **settings)
    with served(image, web["startCommand"], settings) as url:
        reader.env["URL"] = url
        assert json.loads(reader.step())["kind"] == "paused"
        give_up = time.monotonic() + 60
        while "completed" not in json.loads(image.run(cron["startCommand"], **settings))["summary"]["timers"]:
            assert time.monotonic() < give_up
        assert json.loads(reader.step())["status"] == "completed"


@contextlib.contextmanager
def served(image: Image, command: str, settings: dict[str, str]) -> Iterator[str]:
    """The address of a web service, started as Railway does it: without a shell."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    env = image.environment(**settings, PORT=str(port))
    process = subprocess.Popen(shlex.split(command), cwd=image.place, env=env, stderr=subprocess.PIPE, text=True)
    try:
        give_up = time.monotonic() + 60
        while True:
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            assert process.poll() is None and time.monotonic() < give_up, process.communicate(timeout=5)
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.communicate(timeout=30)
    assert process.returncode in (0, -15)
