"""The example app, run by Vercel's production runtime."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

ORDER = {"workflow_id": "order", "run_id": "o", "input": {"order_id": "1"}}


def test_one_function_serves_and_sweeps(start_function: Callable[..., Any]):
    """From a cold start through warm requests, a run is started and paid by HTTP, and another one swept by cron."""
    function = start_function()
    status, body, _ = function.cron()
    assert (status, body["summary"]["ready"], body["owner"]) == (200, {}, "vercel:fra1::abc-1")
    assert function.api("POST", "/runs", ORDER)[1]["kind"] == "paused"
    signal = {"signal_id": "s", "name": "paid", "payload": {"payment_id": "p"}}
    assert function.api("POST", "/runs/o/signals", signal)[1]["run"]["output"] == "p"
    function.api("POST", "/runs", {"workflow_id": "report", "input": {"pages": 2}, "drive": False})
    assert function.cron(method="POST")[1]["summary"]["ready"] == {"completed": 1}
    assert function.cron()[1]["summary"]["ready"] == {}


def test_a_sweep_ends_before_vercel_ends_it(start_function: Callable[..., Any]):
    """A run that takes longer than a request may yields before the deadline, and the next cron goes on with it."""
    function = start_function()
    function.cron()
    report = {"workflow_id": "report", "run_id": "r", "input": {"pages": 10, "seconds_a_page": 0.25}, "drive": False}
    function.api("POST", "/runs", report)
    answers = [function.cron(seconds=3.0)]
    assert answers[0][1]["summary"]["ready"] == {"queued": 1} and answers[0][1]["deadline_reached"]
    while "completed" not in answers[-1][1]["summary"]["ready"]:
        answers.append(function.cron(seconds=3.0))
        assert len(answers) < 20
    assert all(seconds < 3.0 for _, _, seconds in answers)
    assert function.api("GET", "/runs/r")[1]["output"] == 10


def test_strangers_are_refused(start_function: Callable[..., Any]):
    """The cron route takes its own secret only, and the API its own token."""
    function = start_function()
    for token in (None, "wrong", "a-token-for-tests", ""):
        assert function.cron(token=token)[0] == 401
    assert function.api("GET", "/runs", token="a-secret-for-cron")[0] == 401
    assert function.cron(method="DELETE")[0] == 405
    assert function.cron()[0] == 200


@pytest.mark.parametrize("missing", ["CRON_SECRET", "WORKFLOW_TOKEN"])
def test_a_function_without_a_secret_does_not_start(start_function: Callable[..., Any], missing: str):
    """A secret that was forgotten stops the deployment instead of opening it."""
    with pytest.raises(AssertionError, match="is empty"):
        start_function(**{missing: ""})


def test_a_doubled_cron_is_harmless(start_function: Callable[..., Any]):
    """Vercel may call twice for one time, in one process or in two: no run is driven twice."""
    first, second = start_function(), start_function()
    second.cron()
    for number in range(5):
        input = {"pages": 3, "seconds_a_page": 0.1}
        first.api("POST", "/runs", {"workflow_id": "report", "run_id": f"r{number}", "input": input, "drive": False})
    with ThreadPoolExecutor() as at_once:
        swept = list(at_once.map(lambda function: function.cron()[1]["summary"], (first, second, first)))
    assert sum((Counter(part["ready"]) for part in swept), Counter()) == {"completed": 5}
    assert all(part["recovered"] == {} for part in swept)


def test_an_unreachable_database_is_503(start_function: Callable[..., Any]):
    """Without its database the cron route says that it is temporary, in Vercel's log as well, and goes on serving."""
    function = start_function(DATABASE_URL="postgresql://nobody@127.0.0.1:1/none")
    for _ in range(2):
        status, body, _ = function.cron()
        assert (status, body["code"]) == (503, "unavailable")


def test_the_pool_of_connections_outlives_a_request(start_function: Callable[..., Any], postgres_url: str):
    """Three warm requests in a row go through the connections of the cold start, on the one loop that Vercel runs."""
    function = start_function(DATABASE_URL=postgres_url)
    assert function.cron()[0] == 200
    seen = asyncio.run(backends(postgres_url))
    for number in range(3):
        assert function.api("POST", "/runs", {**ORDER, "run_id": f"o{number}"})[1]["kind"] == "paused"
        assert function.cron()[0] == 200
        now = asyncio.run(backends(postgres_url))
        assert_still_used(seen, now)
        seen = now


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
