"""The example app, run by Lambda's own runtime client."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

pytest.importorskip("awslambdaric", reason="awslambdaric runs on Linux only")

SCHEDULE = {"source": "aws.scheduler"}
ORDER = {"workflow_id": "order", "run_id": "order/1", "input": {"order_id": "1"}}


def body_of(outcome: Any) -> Any:
    assert not outcome.error, outcome.value
    return json.loads(outcome.value["body"])


def test_one_function_serves_sweeps_and_takes_messages(
    start_function: Callable[..., Any], make_sqs_event: Callable[..., Any]
):
    """From a cold start through warm invocations, a run is started by HTTP, paid by SQS, and swept by a schedule."""
    function = start_function()
    assert function.invoke(SCHEDULE).value["summary"]["ready"] == {}
    started = function.http("POST", "/runs", ORDER)
    assert started.value["statusCode"] == 201 and body_of(started)["kind"] == "paused"
    paid = {"type": "signal", "run_id": "order/1", "signal_id": "e1", "name": "paid", "payload": {"payment_id": "p"}}
    assert function.invoke(make_sqs_event(paid)).value == {"batchItemFailures": []}
    shown = body_of(function.http("GET", started.value["headers"]["location"]))
    assert (shown["status"], shown["output"]) == ("completed", "p")
    later = function.http("POST", "/runs", {"workflow_id": "report", "input": {"pages": 1}, "drive": False})
    assert body_of(later)["kind"] == "queued"
    swept = function.invoke(SCHEDULE).value
    assert swept["summary"]["ready"] == {"completed": 1}
    assert swept["owner"] == "lambda:invocation-6"


def test_a_long_run_goes_on_from_invocation_to_invocation(start_function: Callable[..., Any]):
    """A run that takes longer than an invocation may yields in time, and the next sweeps bring it to its end."""
    function = start_function()
    function.invoke(SCHEDULE)
    report = {"workflow_id": "report", "run_id": "r", "input": {"pages": 12, "seconds_a_page": 0.25}, "drive": False}
    function.http("POST", "/runs", report)
    answers = [function.invoke(SCHEDULE, seconds=3.0)]
    while "completed" not in answers[-1].value["summary"]["ready"]:
        assert answers[-1].value["summary"]["ready"] == {"queued": 1}
        assert answers[-1].value["deadline_reached"] and answers[-1].value["remaining_may_exist"]
        answers.append(function.invoke(SCHEDULE, seconds=3.0))
        assert len(answers) < 20
    assert len(answers) >= 2 and all(answer.seconds < 3.0 for answer in answers)
    timeline = body_of(function.http("GET", "/runs/r/timeline"))["events"]
    finished = [event["id"] for event in timeline if event["type"] == "STEP_FINISHED"]
    assert finished == [f"page-{number}" for number in range(12)]


def test_a_doubled_schedule_is_harmless(start_function: Callable[..., Any]):
    """Two functions that sweep one database at one time run each step once."""
    first, second = start_function(), start_function()
    second.invoke(SCHEDULE)
    for number in range(5):
        input = {"pages": 3, "seconds_a_page": 0.1}
        first.http("POST", "/runs", {"workflow_id": "report", "run_id": f"r{number}", "input": input, "drive": False})
    with ThreadPoolExecutor() as at_once:
        swept = list(at_once.map(lambda function: function.invoke(SCHEDULE).value["summary"], (first, second)))
    # No run was driven twice: each is in the counts of one of them.
    assert sum((Counter(part["ready"]) for part in swept), Counter()) == {"completed": 5}
    assert all(part["recovered"] == {} for part in swept)
    assert first.invoke(SCHEDULE).value["summary"]["ready"] == {}


@pytest.mark.parametrize("token", [None, "wrong", ""])
def test_a_stranger_is_refused_at_the_url(start_function: Callable[..., Any], token: str | None):
    """The URL of the function is public: without the token it answers 401 and does nothing."""
    refused = start_function().http("POST", "/sweep", {}, token=token)
    assert refused.value["statusCode"] == 401 and refused.value["headers"]["www-authenticate"] == "Bearer"


def test_a_function_without_its_token_does_not_start(start_function: Callable[..., Any]):
    """A function whose secret was forgotten fails when it starts, and says what is missing."""
    function = start_function(WORKFLOW_TOKEN="")
    outcome = function.invoke(SCHEDULE)
    assert outcome.error and "token is empty" in outcome.value["errorMessage"]


def test_an_unreachable_database_is_an_error_that_lambda_sees(
    start_function: Callable[..., Any], make_sqs_event: Callable[..., Any]
):
    """Without its database a sweep fails as an invocation, HTTP answers 503, and messages come again."""
    function = start_function(DATABASE_URL="postgresql+asyncpg://nobody@127.0.0.1:1/none", DATABASE_RETRY_SECONDS="0.2")
    swept = function.invoke(SCHEDULE)
    assert swept.error and "did not answer" in swept.value["errorMessage"]
    served = function.http("GET", "/runs")
    assert (served.value["statusCode"], body_of(served)["code"]) == (503, "unavailable")
    start = {"type": "start", "run_id": "x", "workflow_id": "order", "input": {"order_id": "1"}}
    assert function.invoke(make_sqs_event(start)).value == {"batchItemFailures": [{"itemIdentifier": "m0"}]}


def test_a_missing_schema_is_told_in_the_log(start_function: Callable[..., Any], postgres_url: str):
    """A deployment without its migration fails with the command that helps."""
    function = start_function(DATABASE_URL=postgres_url)
    swept = function.invoke(SCHEDULE)
    assert swept.error and "migrate" in swept.value["errorMessage"]


def test_the_pool_of_connections_outlives_an_invocation(start_function: Callable[..., Any], postgres_url: str):
    """Three warm invocations in a row go through the connections of the cold start, and runs are driven with them."""
    asyncio.run(migrated(postgres_url))
    function = start_function(DATABASE_URL=postgres_url)
    assert "summary" in function.invoke(SCHEDULE).value
    seen = asyncio.run(backends(postgres_url))
    for number in range(3):
        answer = function.http("POST", "/runs", {**ORDER, "run_id": f"o{number}"})
        assert body_of(answer)["kind"] == "paused"
        assert function.invoke(SCHEDULE).value["remaining_may_exist"] is False
        now = asyncio.run(backends(postgres_url))
        assert_still_used(seen, now)
        seen = now


async def migrated(url: str) -> None:
    from workflow.store.postgres import PostgresStore

    store = PostgresStore(url)
    await store.migrate()
    await store.close()


async def backends(url: str) -> dict[int, Any]:
    """The processes of the server that serve somebody else than this call, and when each was last asked something."""
    import asyncpg

    connection = await asyncpg.connect(url.replace("+asyncpg", ""))
    try:
        rows = await connection.fetch(
            "select pid, query_start from pg_stat_activity where backend_type = 'client backend'"
            " and datname = current_database() and pid <> pg_backend_pid()"
        )
        return {row["pid"]: row["query_start"] for row in rows}
    finally:
        await connection.close()


def assert_still_used(before: dict[int, Any], now: dict[int, Any]) -> None:
    """All connections of before are there, and what came since went through one of them."""
    assert before and before.keys() <= now.keys(), (before, now)
    assert any(now[pid] > asked for pid, asked in before.items()), (before, now)
