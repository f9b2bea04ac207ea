"""A site that `init` made, bundled and run by Netlify's own tools, waking the example app."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

SECRET = "a-secret-for-sweeps"


def report(run_id: str, pages: int = 2, seconds: float = 0.0) -> dict[str, Any]:
    input = {"pages": pages, "seconds_a_page": seconds}
    return {"workflow_id": "report", "run_id": run_id, "input": input, "drive": False}


def test_the_site_wakes_the_app(start_site: Callable[..., Any], start_app: Callable[..., Any]):
    """Netlify's bundler finds the schedule, and each firing sweeps the Python app once; a doubled one is harmless."""
    app = start_app()
    site = start_site("--schedule", "*/10 * * * *", WORKFLOW_SWEEP_URL=app.url, WORKFLOW_SWEEP_SECRET=SECRET)
    assert [(item["name"], item["schedule"]) for item in site.bundled] == [("workflow-sweep", "*/10 * * * *")]
    app.wait()
    for number in range(3):
        assert app.call("POST", "/api/runs", report(f"r{number}"))[1]["kind"] == "queued"
        status, body = site.call(**{"x-nf-request-id": f"request{number}"})
        answer = json.loads(body)
        assert (status, answer["summary"]["ready"]) == (200, {"completed": 1})
        assert answer["owner"] == f"netlify:request{number}"
    assert json.loads(site.call()[1])["summary"]["ready"] == {}
    assert site.log.count("sweep 200") == 4


def test_a_site_without_its_settings_does_nothing(start_site: Callable[..., Any]):
    """A forgotten variable is named in the log, and nothing is called."""
    for env in ({"WORKFLOW_SWEEP_URL": "http://127.0.0.1:1/"}, {"WORKFLOW_SWEEP_SECRET": SECRET}):
        site = start_site(**{"WORKFLOW_SWEEP_URL": "", "WORKFLOW_SWEEP_SECRET": "", **env})
        assert site.call()[0] == 500 and "is missing" in site.log


def test_a_failure_of_the_app_is_a_failure_of_the_function(
    start_site: Callable[..., Any], start_app: Callable[..., Any]
):
    """A wrong secret, a database that is away, or an app that is gone shows in Netlify's log as an error."""
    app = start_app(DATABASE_URL="postgresql://nobody@127.0.0.1:1/none", DATABASE_RETRY_SECONDS="0.1")
    wrong = start_site(WORKFLOW_SWEEP_URL=app.url, WORKFLOW_SWEEP_SECRET="wrong")
    right = start_site(WORKFLOW_SWEEP_URL=app.url, WORKFLOW_SWEEP_SECRET=SECRET)
    app.wait()
    assert wrong.call()[0] == 502 and "sweep 401" in wrong.log
    assert right.call()[0] == 502 and "sweep 503" in right.log
    app.stop()
    assert right.call() == (502, "unreachable")


def test_the_secret_goes_to_the_app_only(start_site: Callable[..., Any], elsewhere: str):
    """An address that redirects does not get the secret carried on."""
    site = start_site(WORKFLOW_SWEEP_URL=elsewhere, WORKFLOW_SWEEP_SECRET=SECRET)
    assert site.call() == (502, "unreachable")


def test_the_background_function_takes_the_secret_only(
    start_site: Callable[..., Any], start_app: Callable[..., Any], relay: Any
):
    """With `--background` the scheduled function starts another one that has 15 minutes, and that strangers can't
    use.
    """
    app = start_app()
    relay.target = app
    site = start_site("--background", URL=relay.url, WORKFLOW_SWEEP_URL=app.url, WORKFLOW_SWEEP_SECRET=SECRET)
    names = {item["name"]: item["schedule"] for item in site.bundled}
    assert names == {"workflow-sweep": "*/5 * * * *", "workflow-sweep-background": None}
    app.wait()
    # The scheduled one calls the site's own address, with the secret.
    assert site.call()[0] == 200
    path, headers = relay.seen[-1]
    assert path == "/.netlify/functions/workflow-sweep-background"
    app.call("POST", "/api/runs", report("r"))
    for forged in ({}, {"authorization": "Bearer wrong"}, {"authorization": f"Bearer {SECRET} "[:-2]}):
        site.call("workflow-sweep-background", **forged)
    assert app.call("GET", "/api/runs/r")[1]["status"] == "queued"
    assert site.call("workflow-sweep-background", authorization=headers["authorization"])[0] == 202
    give_up = time.monotonic() + 20  # it answers at once, and works on
    while app.call("GET", "/api/runs/r")[1]["status"] != "completed":
        assert time.monotonic() < give_up, site.log


class Relay:
    """Stands where the site's own address would be."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, dict[str, str]]] = []
        self.status = 202
        self.headers: dict[str, str] = {}
        relay = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                relay.seen.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
                self.send_response(relay.status)
                for name, value in relay.headers.items():
                    self.send_header(name, value)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def relay() -> Iterator[Relay]:
    relay = Relay()
    yield relay
    relay.stop()


@pytest.fixture
def elsewhere(relay: Relay) -> Iterator[str]:
    """An address that redirects to itself."""
    relay.status, relay.headers = 307, {"location": f"{relay.url}/stolen"}
    yield f"{relay.url}/sweep"
    assert [path for path, _ in relay.seen] == ["/sweep"]
