"""What a worker asks of the database again and again, in a store that is empty and in one with a million runs in it.

The rows are copies of real runs, made by the engine: one that has ended, one that sleeps, one that is about to wake.
The server makes them, in one statement for each table. Ended runs have one entry in their logs here, instead of what
they would have had: what is measured never reads them, and they would only take time and disk.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg  # pyright: ignore[reportMissingTypeStubs]
from bench.database import fresh_database
from bench.plans import explained
from bench.sizes import Sizes
from bench.systems.ours import five_steps, sleeper

from workflow.core.records import Lease
from workflow.runtime import WorkflowRuntime
from workflow.runtime.contract import ClaimLimits
from workflow.store.postgres import PostgresStore

__all__ = ["measure_crowded"]

Timings = dict[str, float]
_IDS = ["five-steps", "sleeper"]
_COLUMNS = """
SELECT column_name FROM information_schema.columns WHERE table_name = 'workflow_runs' AND column_name <> 'run_id'"""
_DUE = 100
"""How many of the sleepers are due where some are."""


def measure_crowded(server: str, sizes: Sizes) -> dict[str, Any]:
    """Milliseconds of each operation, empty and full, and the plans on the full store."""
    answers: dict[str, Any] = {}
    for name, (ended, asleep) in {"empty": (0, 0), "full": (sizes.ended, sizes.asleep)}.items():
        with fresh_database(server, f"crowded_{name}") as url:
            answers[name] = asyncio.run(_measure(url, ended, asleep, sizes.looks))
    return {
        "ended": sizes.ended,
        "asleep": sizes.asleep,
        "due": _DUE,
        "empty_ms": answers["empty"]["ms"],
        "full_ms": answers["full"]["ms"],
        "filled_in_s": answers["full"]["filled_in_s"],
        "plans": answers["full"]["plans"],
    }


async def _measure(url: str, ended: int, asleep: int, looks: int) -> dict[str, Any]:
    async with WorkflowRuntime(PostgresStore(url), [five_steps, sleeper]) as runtime:
        await runtime.migrate()
        await runtime.start_run(five_steps, run_id="model-ended", input=5)
        await runtime.start_run(sleeper, run_id="model-asleep", input=time.time() + 30 * 86_400)
        await runtime.start_run(sleeper, run_id="model-due", input=time.time() + 0.5)
        await asyncio.sleep(0.5)
        began = time.perf_counter()
        connection = await asyncpg.connect(url)
        await _fill(connection, ended, asleep)
        seconds = time.perf_counter() - began
        timings = await _operations(runtime, connection, looks)
        plans = await explained(connection, url, _IDS)
        await connection.close()
    return {"ms": timings, "filled_in_s": seconds, "plans": plans}


async def _fill(connection: Any, ended: int, asleep: int) -> None:
    await _copies(connection, "model-ended", "ended", ended, log="LIMIT 1")
    await _copies(connection, "model-asleep", "asleep", asleep)
    # Sleepers are due over the next 30 days, evenly.
    await connection.execute(
        """UPDATE workflow_runs SET due_at = at, wake_at = at FROM (
            SELECT run_id AS id, now() + interval '1 hour' + random() * interval '30 days' AS at
            FROM workflow_runs WHERE status = 'paused' -- and the model of due runs, which is not to be swept itself
        ) s WHERE run_id = s.id"""
    )
    await connection.execute("VACUUM ANALYZE")
    await connection.execute("CHECKPOINT")


async def _copies(connection: Any, model: str, prefix: str, count: int, log: str = "") -> None:
    columns = await connection.fetch(_COLUMNS)
    names = ", ".join(column[0] for column in columns)
    series = f"generate_series(1, {count}) n"
    await connection.execute(
        f"INSERT INTO workflow_runs (run_id, {names}) SELECT '{prefix}-' || n, {names} "
        f"FROM {series}, workflow_runs WHERE run_id = '{model}'"
    )
    await connection.execute(
        f"INSERT INTO workflow_log (run_id, idx, event, payload) SELECT '{prefix}-' || n, idx, event, payload "
        f"FROM {series}, (SELECT * FROM workflow_log WHERE run_id = '{model}' ORDER BY idx {log}) l"
    )


async def _operations(runtime: WorkflowRuntime, connection: Any, looks: int) -> Timings:
    store = runtime.store

    async def claim() -> Any:
        now = datetime.now(UTC)
        return await store.claim_due(_IDS, Lease("bench", now + timedelta(1)), limits=ClaimLimits.all(25), now=now)

    async def sweep() -> Any:
        return await runtime.sweep()

    timings = {
        "next_due": await _median(lambda: store.next_due(_IDS), looks),
        "claim_due, nothing due": await _median(claim, looks),
        "sweep, nothing due": await _median(sweep, looks),
        "list_runs, 50 newest": await _median(lambda: runtime.list_runs(), looks),
    }
    return timings | await _with_due(runtime, connection, max(looks // 8, 3))


async def _with_due(runtime: WorkflowRuntime, connection: Any, looks: int) -> Timings:
    """Sweeps that find some runs due, which they drive to their ends."""
    sweeps: list[float] = []
    for turn in range(looks):
        await _make_due(connection, turn)
        began = time.perf_counter()
        result = await runtime.sweep(max_timers=_DUE)
        sweeps.append((time.perf_counter() - began) * 1e3)
        if result.summary.timers != {"completed": _DUE}:
            raise RuntimeError(f"The sweep did something else: {result.summary}")
    return {f"sweep of {_DUE} due timers": statistics.median(sweeps)}


async def _make_due(connection: Any, turn: int) -> None:
    """So many new sleepers whose time has come."""
    await _copies(connection, "model-due", f"due-{turn}", _DUE)
    past = datetime.now(UTC) - timedelta(seconds=1)
    await connection.execute(
        "UPDATE workflow_runs SET due_at = $1, wake_at = $1 WHERE run_id LIKE $2 || '%'", past, f"due-{turn}-"
    )


async def _median(operation: Callable[[], Awaitable[Any]], times: int) -> float:
    taken: list[float] = []
    for _ in range(times):
        began = time.perf_counter()
        await operation()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken) * 1e3
