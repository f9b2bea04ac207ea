"""The routes of `WorkflowHTTP`: what they do and answer."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any
from urllib.parse import quote

import pytest

from workflow.core import DefinitionError, InvalidArgumentError
from workflow.runtime import MemoryStore, WorkflowHTTP, WorkflowRuntime
from workflow.runtime.hosting import SweepLimits

START = {"workflow_id": "order", "run_id": "order:1", "input": {"order_id": "1"}}


def test_a_run_is_started_signalled_and_read(site: Any):
    """A run that was started over HTTP waits, takes its signal, completes, and shows its output."""

    async def scenario() -> None:
        async with site.client() as client:
            started = await client.post("/runs", json=START)
            assert (started.status_code, started.json()["kind"], started.json()["created"]) == (
                201,
                "paused",
                True,
            )
            assert started.headers["location"] == "/runs/order%3A1"
            assert started.json()["run"]["waits"][0]["name"] == "paid"
            signal = {"signal_id": "s1", "name": "paid", "payload": {"payment_id": "p1"}}
            done = await client.post("/runs/order:1/signals", json=signal)
            assert (done.status_code, done.json()["kind"], done.json()["run"]["output"]) == (200, "completed", "p1")
            shown = (await client.get(started.headers["location"])).json()
            assert (shown["status"], shown["input"], shown["output"]) == (
                "completed",
                {"order_id": "1", "amount": 1},
                "p1",
            )

    asyncio.run(scenario())


def test_a_repeated_start_answers_with_the_run_that_there_is(site: Any):
    """A start that is repeated with its run id starts nothing, and says so by its status."""
    assert site.call("POST", "/runs", json=START).status_code == 201
    again = site.call("POST", "/runs", json={**START, "input": {"order_id": "other"}})
    assert (again.status_code, again.json()["created"], again.json()["run"]["input"]["order_id"]) == (200, False, "1")


def test_a_run_id_of_another_workflow_is_a_conflict(site: Any):
    """Who starts a run under the id of another workflow's run is told that the id is taken."""
    site.call("POST", "/runs", json=START)
    answer = site.call("POST", "/runs", json={"workflow_id": "echo", "run_id": "order:1"})
    assert (answer.status_code, answer.json()["code"]) == (409, "run_id_taken")


def test_a_repeated_signal_is_a_duplicate(site: Any):
    """A signal that is repeated with its id is accepted once, and its sender can rest."""
    site.call("POST", "/runs", json={**START, "drive": False})
    signal = {"signal_id": "s1", "name": "other"}
    kinds = [site.call("POST", "/runs/order:1/signals", json=signal).json()["kind"] for _ in range(2)]
    assert kinds == ["paused", "duplicate"]


def test_an_approval_decides(site: Any):
    """A decision goes to the approval that waits for it, with its feedback."""
    site.call("POST", "/runs", json={"workflow_id": "decision", "run_id": "d"})
    body = {"approval_id": "ship", "approved": True, "feedback": "fine"}
    assert site.call("POST", "/runs/d/approvals", json=body).json()["run"]["output"] == "True: fine"


def test_a_run_is_cancelled_with_or_without_a_body(site: Any):
    """Cancelling needs no body, takes a reason, and repeated is no error."""
    for run_id, request in (("a", {}), ("b", {"json": {"reason": "enough"}})):
        site.call("POST", "/runs", json={"workflow_id": "nap", "run_id": run_id})
        assert site.call("POST", f"/runs/{run_id}/cancel", **request).json()["kind"] == "cancelled"
    assert site.call("POST", "/runs/b/cancel").json()["kind"] == "duplicate"


def test_runs_are_listed_in_pages(site: Any):
    """A list gives newest runs first, is filtered, and goes on at its cursor."""

    async def scenario() -> None:
        async with site.client() as client:
            for number in range(5):
                await client.post("/runs", json={"workflow_id": "echo", "run_id": f"e{number}"})
            await client.post("/runs", json=START)
            first = (await client.get("/runs", params={"workflow_id": "echo", "limit": 3})).json()
            rest = (await client.get("/runs", params={"workflow_id": "echo", "cursor": first["next_cursor"]})).json()
            found = [run["run_id"] for run in first["runs"] + rest["runs"]]
            assert sorted(found) == ["e0", "e1", "e2", "e3", "e4"] and rest["next_cursor"] is None
            both = await client.get("/runs?status=paused&status=errored")
            assert [run["run_id"] for run in both.json()["runs"]] == ["order:1"]
            future = await client.get("/runs", params={"created_from": "2999-01-01T00:00:00Z"})
            assert future.json() == {"runs": [], "next_cursor": None}

    asyncio.run(scenario())


def test_a_timeline_is_read_in_pieces(site: Any):
    """The log of a run is given in order, piece by piece, until nothing is left."""
    site.call("POST", "/runs", json=START)
    whole = site.call("GET", "/runs/order:1/timeline").json()
    types = [event["type"] for event in whole["events"]]
    assert types == ["STEP_FINISHED", "SIGNAL_AWAITED"] and whole["next_after"] is None
    first = site.call("GET", "/runs/order:1/timeline?limit=1").json()
    second = site.call("GET", f"/runs/order:1/timeline?after={first['next_after']}").json()
    assert [*first["events"], *second["events"]] == whole["events"]
    assert whole["events"][0]["result"] == "reserved 1"


def test_a_sweep_goes_on_with_what_is_due(site: Any):
    """A sweep answers with its summary, and with single results only where they are asked for."""
    site.call("POST", "/runs", json={"workflow_id": "echo", "run_id": "e", "input": 1, "drive": False})
    short = site.call("POST", "/sweep").json()
    assert (short["summary"]["ready"], short["result"], short["remaining_may_exist"]) == ({"completed": 1}, None, False)
    assert short["owner"].startswith("http:")
    site.call("POST", "/runs", json={"workflow_id": "echo", "run_id": "f", "drive": False})
    long = site.call("POST", "/sweep", json={"include_sweep_result": True, "max_duration": 5}).json()
    assert [result["run_id"] for result in long["result"]["ready"]] == ["f"]


def test_a_sweep_keeps_within_the_bounds_of_its_request(site: Any):
    """A sweep that may take no ready runs leaves them, and never takes longer than its host has left."""
    site.call("POST", "/runs", json={"workflow_id": "echo", "run_id": "e", "drive": False})
    assert site.call("POST", "/sweep", json={"max_ready": 0}).json()["summary"]["ready"] == {}
    late = site.app(remaining=lambda: 0.5, limits=SweepLimits(margin=0.5))
    answer = site.call("POST", "/sweep", json={"max_duration": 60}, app=late).json()
    assert (answer["summary"]["ready"], answer["deadline_reached"]) == ({}, True)


def test_a_failed_run_is_no_failed_request(site: Any):
    """A run that fails is a result with its error, not an error of HTTP."""
    answer = site.call("POST", "/runs", json={"workflow_id": "broken"})
    assert (answer.status_code, answer.json()["kind"]) == (201, "errored")
    assert answer.json()["error"] == {"type": "ValueError", "message": "no luck", "code": "error"}


def test_a_delayed_start_waits(site: Any):
    """A start with a delay is queued for later."""
    answer = site.call("POST", "/runs", json={"workflow_id": "echo", "run_id": "later", "delay": 3600})
    assert (answer.status_code, answer.json()["kind"]) == (201, "queued")
    assert site.call("POST", "/sweep").json()["summary"]["ready"] == {}


@pytest.mark.parametrize("run_id", ["a/b", "a b", "100%", "ä:é", "%2F", "a?b#c", "signals"])
def test_any_run_id_has_its_address(site: Any, run_id: str):
    """A run id with slashes, spaces or other letters is found at the address that its start gave."""
    started = site.call("POST", "/runs", json={"workflow_id": "nap", "run_id": run_id})
    assert site.call("GET", started.headers["location"]).json()["run_id"] == run_id
    assert site.call("GET", f"/runs/{quote(run_id, safe='')}/timeline").status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/runs/none", None),
        ("GET", "/runs/none/timeline", None),
        ("GET", "/runs/none/stream", None),
        ("POST", "/runs/none/signals", {"signal_id": "s", "name": "n"}),
        ("POST", "/runs/none/approvals", {"approval_id": "a", "approved": False}),
        ("POST", "/runs/none/cancel", None),
    ],
)
def test_an_unknown_run_is_a_problem(site: Any, method: str, path: str, body: Any):
    """What is asked of a run that there is not is answered with 404, as problem details."""
    answer = site.call(method, path, **({"json": body} if body else {}))
    assert (answer.status_code, answer.json()["code"]) == (404, "run_not_found")
    assert answer.headers["content-type"] == "application/problem+json"


def test_an_ended_run_takes_no_signals(site: Any):
    """A signal for a run that has ended is refused with a status after which no sender tries again in vain."""
    site.call("POST", "/runs", json={"workflow_id": "echo", "run_id": "e"})
    answer = site.call("POST", "/runs/e/signals", json={"signal_id": "s", "name": "n"})
    assert (answer.status_code, answer.json()["code"]) == (409, "run_ended")


def test_events_come_where_they_are_asked_for(site: Any):
    """An answer holds the events of its drive only on request."""
    body = {"workflow_id": "echo", "input": 1}
    without = site.call("POST", "/runs", json=body).json()
    with_events = site.call("POST", "/runs", json={**body, "include_events": True}).json()
    assert without["events"] == [] and without["event_count"] == with_events["event_count"] > 0
    assert "RUN_FINISHED" in [event["type"] for event in with_events["events"]]


def test_a_mounted_app_finds_its_paths(site: Any):
    """The app works below another path: mounted in Starlette, or with a prefix of its own."""
    from starlette.applications import Starlette
    from starlette.routing import Mount

    mounted = Starlette(routes=[Mount("/api/flows", app=site.app())])
    prefixed = site.app(prefix="/api/flows")
    for number, app in enumerate((mounted, prefixed)):
        body = {"workflow_id": "nap", "run_id": f"a/{number}"}
        started = site.call("POST", "/api/flows/runs", json=body, app=app)
        assert started.headers["location"] == f"/api/flows/runs/a%2F{number}"
        assert site.call("GET", started.headers["location"], app=app).json()["run_id"] == f"a/{number}"
        assert site.call("GET", "/api/flows/runs/", app=app).status_code == 200
    assert site.call("GET", "/runs", app=prefixed).status_code == 404


def test_a_runtime_is_made_when_the_first_request_comes(site: Any):
    """A factory, sync or async, is called once, however many requests come at first, and again after it failed."""
    calls: list[int] = []

    async def make() -> WorkflowRuntime:
        calls.append(1)
        await asyncio.sleep(0)
        if len(calls) == 1:
            raise ConnectionError("not yet")
        return site.runtime

    async def scenario() -> None:
        app = site.app(runtime=make)
        assert calls == []
        async with site.client(app) as client:
            failed = await asyncio.gather(*(client.get("/runs") for _ in range(3)))
            assert [answer.status_code for answer in failed] == [503, 503, 503] and len(calls) == 1
            fine = await asyncio.gather(*(client.get("/runs") for _ in range(3)))
            assert [answer.status_code for answer in fine] == [200, 200, 200] and len(calls) == 2

    asyncio.run(scenario())
    assert site.call("GET", "/runs", app=site.app(runtime=lambda: site.runtime)).status_code == 200


def test_lifespan_closes_what_the_app_has_made():
    """Where there are lifespan events, the app closes at the end what it has made, and not what it was given."""
    closed: list[WorkflowRuntime] = []

    class Watched(WorkflowRuntime):
        async def close(self) -> None:
            closed.append(self)
            await super().close()

    async def scenario(app: WorkflowHTTP) -> list[str]:
        told: list[str] = []
        inbox = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]

        async def receive() -> dict[str, Any]:
            return inbox.pop(0)

        async def send(message: Any) -> None:
            told.append(message["type"])

        await app._source.get()  # pyright: ignore[reportPrivateUsage]
        await app({"type": "lifespan"}, receive, send)
        return told

    given = Watched(MemoryStore(), [])
    for runtime, count in ((given, 0), (lambda: Watched(MemoryStore(), []), 1)):
        app = WorkflowHTTP(runtime, token="t")
        assert asyncio.run(scenario(app)) == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
        assert len(closed) == count


def test_a_request_drives_no_longer_than_it_may(site: Any):
    """A request gives up driving when its time is spent; a sweep goes on."""
    app = site.app(remaining=lambda: 0.0)
    answer = site.call("POST", "/runs", json=START, app=app).json()
    assert answer["kind"] == "queued"
    assert site.call("POST", "/sweep").json()["summary"]["ready"] == {"paused": 1}


def test_bad_settings_fail_at_once(site: Any):
    """An app that could not work is not made."""
    bad: dict[str, list[Any]] = {
        "prefix": ["no slash", "/a b"],
        "max_body": [0, -1, 1.5, "1 MB"],
        "max_duration": [-1, float("nan"), float("inf"), "30"],
        "max_stream": [-1, float("nan"), "60"],
        "heartbeat": [0, -1, float("nan"), "15"],
    }
    for options in ({name: value} for name, values in bad.items() for value in values):
        with pytest.raises(InvalidArgumentError):
            site.app(**options)
    with pytest.raises(DefinitionError, match="WorkflowRuntime"):
        WorkflowHTTP("app:runtime", token="t")  # pyright: ignore[reportArgumentType]
    with pytest.raises(InvalidArgumentError):
        SweepLimits(max_duration=timedelta(0).total_seconds())
