"""The example app, run by functions-framework."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

ORDER = {"workflow_id": "order", "run_id": "order/1", "input": {"order_id": "1"}}


def report(pages: int, seconds: float = 0.0, run_id: str | None = None) -> dict[str, Any]:
    body = {"workflow_id": "report", "input": {"pages": pages, "seconds_a_page": seconds}, "drive": False}
    return body if run_id is None else {**body, "run_id": run_id}


def test_one_function_serves_and_another_sweeps(start_function: Callable[..., Any]):
    """From cold starts through warm requests, runs are started and paid by HTTP, and swept by the scheduler."""
    api, sweep = start_function("api"), start_function("sweep")
    assert sweep.sweep()[1]["summary"]["ready"] == {}
    assert api.call("POST", "/runs", token="a-token-for-tests", body=ORDER)[1]["kind"] == "paused"
    signal = {"signal_id": "s", "name": "paid", "payload": {"payment_id": "p"}}
    paid = api.call("POST", "/runs/order%2F1/signals", token="a-token-for-tests", body=signal)
    assert paid[1]["run"]["output"] == "p"
    for number in range(2):
        api.call("POST", "/runs", token="a-token-for-tests", body=report(2, run_id=f"r{number}"))
        status, answer = sweep.sweep(**{"x-cloud-trace-context": f"trace{number}/1;o=1"})
        assert (status, answer["summary"]["ready"], answer["owner"]) == (200, {"completed": 1}, f"gcp:trace{number}")
    # A doubled call finds nothing to do, and strangers find nothing at all.
    assert sweep.sweep()[1]["summary"]["ready"] == {}
    for token in (None, "wrong", ""):
        assert sweep.sweep(token=token)[0] == 401
        assert api.call("GET", "/runs", token=token)[0] == 401
    large = {**ORDER, "input": "x" * (1024 * 1024)}
    assert api.call("POST", "/runs", token="a-token-for-tests", body=large)[0] == 413


def test_a_sweep_ends_before_the_timeout(start_function: Callable[..., Any]):
    """A run that takes longer than a request may yields in time, and the next sweep goes on with it."""
    api, sweep = start_function("api"), start_function("sweep", CLOUD_RUN_TIMEOUT_SECONDS="3")
    api.call("POST", "/runs", token="a-token-for-tests", body=report(10, 0.25, "r"))
    answers = [sweep.sweep()]
    assert answers[0][1]["summary"]["ready"] == {"queued": 1} and answers[0][1]["deadline_reached"]
    while "completed" not in answers[-1][1]["summary"]["ready"]:
        answers.append(sweep.sweep())
        assert len(answers) < 20
    assert [status for status, _ in answers] == [200] * len(answers)


def test_an_unreachable_database_is_503(start_function: Callable[..., Any]):
    """Without its database the function says that it is temporary, so that the scheduler may try again."""
    sweep = start_function("sweep", DATABASE_URL="postgresql://nobody@127.0.0.1:1/none")
    status, body = sweep.sweep()
    assert (status, body["code"]) == (503, "unavailable")


@pytest.mark.parametrize("env", [{"SWEEP_SECRET": ""}, {"SWEEP_AUDIENCE": "https://x"}, {"SWEEP_AUDIENCE": ""}])
def test_a_function_without_its_secret_does_not_start(start_function: Callable[..., Any], env: dict[str, str]):
    """A setting that was forgotten stops the deployment instead of opening it."""
    with pytest.raises(AssertionError, match=r"missing|empty"):
        start_function("sweep", **env)


def test_a_doubled_tick_is_harmless(start_function: Callable[..., Any]):
    """Cloud Scheduler may call twice for one tick: no run is driven twice."""
    api, sweep = start_function("api"), start_function("sweep")
    for number in range(5):
        api.call("POST", "/runs", token="a-token-for-tests", body=report(3, 0.1, f"r{number}"))
    with ThreadPoolExecutor() as at_once:
        swept = list(at_once.map(lambda _: sweep.sweep()[1]["summary"], range(2)))
    assert sum((Counter(part["ready"]) for part in swept), Counter()) == {"completed": 5}
    assert all(part["recovered"] == {} for part in swept)


def test_the_pool_of_connections_outlives_a_request(start_function: Callable[..., Any], postgres_url: str):
    """Three warm requests in a row go through the connections of the cold start, on the one loop of the process."""
    api = start_function("api", DATABASE_URL=postgres_url)
    assert api.call("GET", "/runs", token="a-token-for-tests")[0] == 200
    seen = asyncio.run(backends(postgres_url))
    for number in range(3):
        body = {**ORDER, "run_id": f"o{number}"}
        assert api.call("POST", "/runs", token="a-token-for-tests", body=body)[1]["kind"] == "paused"
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
