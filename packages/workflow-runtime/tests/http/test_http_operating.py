"""The routes of people who operate an app: retries, and schedules."""

from __future__ import annotations

from typing import Any

import pytest

from workflow.core import Context, create_workflow
from workflow.runtime import MemoryStore, Registration, Schedule, WorkflowRuntime, every
from workflow.runtime.contract import Capabilities


class Shop:
    """A workflow whose step fails until it is repaired."""

    def __init__(self) -> None:
        self.repaired = False
        self.ran: list[str] = []

        @create_workflow(id="ship")
        async def ship(ctx: Context[str]) -> str:
            await ctx.step("pack", self.work, "pack")
            await ctx.step("send", self.work, "send")
            return f"{ctx.input} is on its way"

        self.runtime = WorkflowRuntime(
            MemoryStore(), [Registration(ship, schedules=[Schedule("daily", every.days(1), input="the lot")])]
        )

    async def work(self, name: str) -> None:
        self.ran.append(name)
        if name == "send" and not self.repaired:
            raise ConnectionError("no courier")


def test_a_run_that_failed_is_retried(site: Any):
    """It goes on from the step that failed, and the answer is what became of it; the log keeps the reason."""
    shop = Shop()
    app = site.app(runtime=shop.runtime)
    site.call("POST", "/runs", app=app, json={"workflow_id": "ship", "run_id": "s", "input": "it"})
    shop.repaired = True
    done = site.call("POST", "/runs/s/retry", app=app, json={"reason": "couriers are back"})
    assert (done.status_code, done.json()["kind"], done.json()["run"]["output"]) == (
        200,
        "completed",
        "it is on its way",
    )
    assert shop.ran == ["pack", "send", "send"]
    events = site.call("GET", "/runs/s/timeline", app=app).json()["events"]
    assert [event["reason"] for event in events if event["type"] == "RUN_RETRIED"] == ["couriers are back"]


def test_a_retry_goes_back_to_a_step(site: Any):
    """`from_step` names another step, and nothing is driven where that is not wanted."""
    shop = Shop()
    app = site.app(runtime=shop.runtime)
    site.call("POST", "/runs", app=app, json={"workflow_id": "ship", "run_id": "s", "input": "it"})
    shop.repaired = True
    queued = site.call("POST", "/runs/s/retry", app=app, json={"from_step": "pack", "drive": False})
    assert (queued.status_code, queued.json()["kind"]) == (200, "queued")
    site.call("POST", "/sweep", app=app)
    assert shop.ran == ["pack", "send", "pack", "send"]


def test_what_can_not_be_retried_is_told(site: Any):
    """A run that waits or has completed is a conflict, an unknown step is a mistake, an unknown run is not found."""
    site.call("POST", "/runs", json={"workflow_id": "echo", "run_id": "done"})
    site.call("POST", "/runs", json={"workflow_id": "nap", "run_id": "asleep"})
    site.call("POST", "/runs", json={"workflow_id": "broken", "run_id": "broken"})
    for run_id, body, status, code in [
        ("done", {}, 409, "run_not_failed"),
        ("asleep", {}, 409, "run_not_failed"),
        ("broken", {"from_step": "none"}, 422, "invalid_argument"),
        ("none", {}, 404, "run_not_found"),
    ]:
        answer = site.call("POST", f"/runs/{run_id}/retry", json=body)
        assert (answer.status_code, answer.json()["code"]) == (status, code)


def test_schedules_are_listed_and_shown(site: Any):
    """Each with when it fires; those of one workflow where that is asked for."""
    (listed,) = site.call("GET", "/schedules").json()["schedules"]
    assert (listed["id"], listed["workflow_id"], listed["spec"], listed["registered"]) == (
        "nightly",
        "nap",
        "every day",
        True,
    )
    assert site.call("GET", "/schedules?workflow_id=echo").json() == {"schedules": []}
    assert site.call("GET", "/schedules/nightly").json() == listed
    missing = site.call("GET", "/schedules/none")
    assert (missing.status_code, missing.json()["code"]) == (404, "schedule_not_found")


def test_a_schedule_is_paused_and_resumed(site: Any):
    """Both need no body, take the reason, answer with the schedule, and repeated change nothing."""
    for _ in range(2):
        paused = site.call("POST", "/schedules/nightly/pause", json={"reason": "holidays"}).json()
        assert (paused["paused"], paused["pause_reason"], paused["next_at"]) == (True, "holidays", None)
    for _ in range(2):
        resumed = site.call("POST", "/schedules/nightly/resume").json()
        assert resumed["paused"] is False and resumed["next_at"] is not None
    assert site.call("POST", "/schedules/none/pause").status_code == 404
    assert site.call("POST", "/schedules/none/resume").status_code == 404


def test_a_schedule_is_triggered_once_for_each_id(site: Any):
    """The run is driven in the request; the same request again starts nothing, and says so by its status."""
    shop = Shop()
    shop.repaired = True
    app = site.app(runtime=shop.runtime)
    first = site.call("POST", "/schedules/daily/trigger", app=app, json={"trigger_id": "4711"})
    assert (first.status_code, first.json()["kind"], first.json()["run"]["output"]) == (
        201,
        "completed",
        "the lot is on its way",
    )
    assert first.headers["location"] == "/runs/ship%3Adaily%3Amanual%3A4711"
    again = site.call("POST", "/schedules/daily/trigger", app=app, json={"trigger_id": "4711"})
    assert (again.status_code, again.json()["created"]) == (200, False)
    queued = site.call("POST", "/schedules/daily/trigger", app=app, json={"drive": False})
    assert (queued.status_code, queued.json()["kind"]) == (201, "queued")
    assert site.call("POST", "/schedules/none/trigger").status_code == 404


def test_a_schedule_of_two_workflows_needs_the_workflow(site: Any):
    """Where an id is not enough the request says of which workflow."""
    daily = Schedule("daily", every.days(1))

    @create_workflow(id="a")
    async def a(ctx: Context[None]) -> None: ...

    @create_workflow(id="b")
    async def b(ctx: Context[None]) -> None: ...

    both = [Registration(workflow, schedules=[daily]) for workflow in (a, b)]
    app = site.app(runtime=WorkflowRuntime(MemoryStore(), both))
    assert site.call("POST", "/schedules/daily/pause", app=app).status_code == 422
    assert site.call("GET", "/schedules/daily", app=app).status_code == 422
    paused = site.call("POST", "/schedules/daily/pause", app=app, json={"workflow_id": "b"})
    assert (paused.status_code, paused.json()["workflow_id"]) == (200, "b")
    assert site.call("GET", "/schedules/daily?workflow_id=a", app=app).json()["paused"] is False


def test_where_the_store_knows_no_schedules_there_are_none(site: Any):
    """A store without schedules is no error of the server."""

    class Plain(MemoryStore):
        capabilities = Capabilities(durable=False, shared=False)

    app = site.app(runtime=WorkflowRuntime(Plain(), []))
    assert site.call("GET", "/schedules", app=app).json() == {"schedules": []}
    assert site.call("POST", "/schedules/a/pause", app=app).status_code == 404


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/runs/x/retry"),
        ("GET", "/schedules"),
        ("GET", "/schedules/nightly"),
        ("POST", "/schedules/nightly/pause"),
        ("POST", "/schedules/nightly/resume"),
        ("POST", "/schedules/nightly/trigger"),
    ],
)
def test_strangers_operate_nothing(site: Any, method: str, path: str):
    """Without the token nothing is shown or done; the token for sweeps is not enough."""
    app = site.app(sweep_token="a-token-for-sweeps")
    for token in (None, "another-token-for-tests", "a-token-for-sweeps"):
        assert site.call(method, path, app=app, token=token).status_code == 401
    assert site.call("GET", "/schedules", app=app).json()["schedules"][0]["paused"] is False
