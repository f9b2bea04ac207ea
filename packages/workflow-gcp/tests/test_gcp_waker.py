"""Exact wake-ups by Cloud Tasks, through google-auth's own session, against a stand-in of its API."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from workflow.core import Context, InvalidArgumentError, create_workflow
from workflow.gcp import CloudTasksWaker
from workflow.runtime import MemoryStore, WorkflowRuntime

QUEUE = "projects/p/locations/europe-west3/queues/shop-wake"
SETTINGS: dict[str, Any] = {
    "queue": QUEUE,
    "url": "https://sweep.run.app",
    "service_account": "scheduler@p.iam.gserviceaccount.com",
    "audience": "https://shop-sweep",
}


@create_workflow(id="nap")
async def nap(ctx: Context[Any]) -> str:
    await asyncio.gather(*(ctx.sleep(timedelta(hours=hours), id=f"s{hours}") for hours in (1, 2, 24 * 60)))
    return "awake"


class CloudTasks:
    """The API: keeps tasks by name, refuses a name that it has, or everything."""

    def __init__(self) -> None:
        self.tasks: dict[str, Any] = {}
        self.requests = 0
        self.status: int | None = None
        api = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                task = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["task"]
                api.requests += 1
                status = api.status or (409 if task["name"] in api.tasks else 200)
                if status == 200 and self.path == f"/v2/{QUEUE}/tasks":
                    api.tasks[task["name"]] = task
                self.send_response(status)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def cloud_tasks() -> Iterator[CloudTasks]:
    api = CloudTasks()
    yield api
    api.stop()


@pytest.fixture
def session() -> Iterator[Any]:
    """google-auth's session, with credentials that ask nobody."""
    credentials = pytest.importorskip("google.auth.credentials")
    requests = pytest.importorskip("google.auth.transport.requests")
    with requests.AuthorizedSession(credentials.AnonymousCredentials()) as session:
        yield session


def test_a_run_that_sleeps_is_woken_at_its_time(cloud_tasks: CloudTasks, session: Any):
    """Each time that Cloud Tasks can reach has a task that calls the sweep with the scheduler's identity."""
    waker = CloudTasksWaker(**SETTINGS, session=session, api=cloud_tasks.url)
    runtime = WorkflowRuntime(MemoryStore(), [nap], publish=waker)
    result = asyncio.run(runtime.start_run("nap"))
    assert result.run is not None and result.run.due_at is not None
    first, second = sorted(cloud_tasks.tasks.values(), key=lambda task: task["scheduleTime"])
    at = datetime.strptime(first["scheduleTime"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    assert result.run.due_at <= at < result.run.due_at + timedelta(seconds=1)
    assert first["httpRequest"] == {
        "url": SETTINGS["url"],
        "httpMethod": "POST",
        "oidcToken": {"serviceAccountEmail": SETTINGS["service_account"], "audience": SETTINGS["audience"]},
    }
    assert second["scheduleTime"] > first["scheduleTime"]


def test_two_processes_that_ask_for_one_time_share_a_task(cloud_tasks: CloudTasks, session: Any):
    """A moment has one task, whichever process asks for it."""
    due = datetime.now(UTC) + timedelta(hours=1)
    for _ in range(2):
        waker = CloudTasksWaker(**SETTINGS, session=session, api=cloud_tasks.url)
        assert asyncio.run(waker.wake_at(due)) is True
    assert (len(cloud_tasks.tasks), cloud_tasks.requests) == (1, 2)


@pytest.mark.parametrize("status", [403, 404, 429, 500])
def test_a_refusal_hurts_no_run(cloud_tasks: CloudTasks, session: Any, status: int, caplog: pytest.LogCaptureFixture):
    """Without rights, without a queue, or beyond the quota, runs go on, and the platform is asked once."""
    cloud_tasks.status = status
    waker = CloudTasksWaker(**SETTINGS, session=session, api=cloud_tasks.url)
    runtime = WorkflowRuntime(MemoryStore(), [nap], publish=waker)
    assert asyncio.run(runtime.start_run("nap")).kind == "paused"
    assert cloud_tasks.requests == 1 and "periodic sweep" in caplog.text


def test_a_function_without_credentials_goes_on(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture):
    """Where google-auth finds no credentials, the waker says so and nothing else happens."""
    auth = pytest.importorskip("google.auth")
    exceptions = pytest.importorskip("google.auth.exceptions")

    def default(**options: Any) -> Any:
        raise exceptions.DefaultCredentialsError("no credentials")

    monkeypatch.setattr(auth, "default", default)
    waker = CloudTasksWaker(**SETTINGS)
    assert asyncio.run(waker.wake_at(datetime.now(UTC) + timedelta(hours=1))) is False
    assert "no credentials" in caplog.text


@pytest.mark.parametrize("name", ["queue", "url", "service_account", "audience"])
def test_a_waker_without_a_setting_is_not_made(name: str):
    """A variable of the environment that was forgotten is an error at the start."""
    with pytest.raises(InvalidArgumentError):
        CloudTasksWaker(**{**SETTINGS, name: ""})
