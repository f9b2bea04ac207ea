"""The example app under uvicorn, called as the site's function calls it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

SECRET = "a-secret-for-sweeps"


def report(run_id: str, pages: int = 3, seconds: float = 0.1) -> dict[str, Any]:
    input = {"pages": pages, "seconds_a_page": seconds}
    return {"workflow_id": "report", "run_id": run_id, "input": input, "drive": False}


def sweep(app: Any, token: str | None = SECRET, **headers: str) -> tuple[int, Any]:
    return app.call("POST", "/sweep", token=token, **headers)


def test_the_pool_of_connections_outlives_a_request(start_app: Callable[..., Any], postgres_url: str):
    """Three warm sweeps in a row go through the connections of the first one, and runs are driven with them."""
    migrate = [sys.executable, "-m", "workflow.store.postgres", "migrate", "--url", postgres_url]
    subprocess.run(migrate, check=True, capture_output=True)
    app = start_app(DATABASE_URL=postgres_url).wait()
    assert sweep(app)[0] == 200
    seen = asyncio.run(backends(postgres_url))
    for number in range(3):
        app.call("POST", "/api/runs", report(f"pool-{number}", seconds=0.0))
        assert sweep(app)[1]["summary"]["ready"] == {"completed": 1}
        now = asyncio.run(backends(postgres_url))
        assert_still_used(seen, now)
        seen = now


def test_a_doubled_firing_is_harmless(start_app: Callable[..., Any]):
    """Two firings at one time drive no run twice."""
    app = start_app().wait()
    for number in range(5):
        app.call("POST", "/api/runs", report(f"r{number}"))
    with ThreadPoolExecutor() as at_once:
        swept = list(at_once.map(lambda _: sweep(app)[1]["summary"], range(2)))
    assert sum((Counter(part["ready"]) for part in swept), Counter()) == {"completed": 5}


def test_a_long_run_goes_on_from_firing_to_firing(start_app: Callable[..., Any]):
    """A run that takes longer than the function waits yields in time, and the next firings bring it to its end."""
    app = start_app().wait()
    app.call("POST", "/api/runs", report("r", pages=10, seconds=0.25))
    waits = {"x-workflow-seconds": "3"}
    answers = [sweep(app, **waits)]
    assert answers[0][1]["summary"]["ready"] == {"queued": 1} and answers[0][1]["deadline_reached"]
    while "completed" not in answers[-1][1]["summary"]["ready"]:
        answers.append(sweep(app, **waits))
        assert len(answers) < 20
    assert app.call("GET", "/api/runs/r")[1]["output"] == 10


@pytest.mark.parametrize("token", [None, "", "wrong", "a-token-for-tests"])
def test_strangers_are_refused(start_app: Callable[..., Any], token: str | None):
    """The sweep takes its own secret only, and not even the token of the API."""
    assert sweep(start_app().wait(), token=token)[0] == 401


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
