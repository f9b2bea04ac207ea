"""Query plans on a long queue, and on many schedules: what is looked for is found, whatever else is there."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import asyncpg
import pytest

from workflow.runtime.contract import ClaimLimits
from workflow.runtime.queues import Queue, RateLimit
from workflow.runtime.testing.suite.samples import at, lease
from workflow.store.postgres import PostgresStore, queueing
from workflow.store.postgres.statements import Statements

_FILL = """
INSERT INTO {0}.workflow_runs
    (run_id, workflow_id, status, created_at, updated_at, completed_at, due_at, wake_at, started_at, fence, input,
    queue, key, priority, schedule_id)
SELECT 'run-' || n, 'w' || n % 5, status, at, at, CASE WHEN status = 'completed' THEN at END, due, due,
    CASE WHEN status <> 'queued' OR n % 7 = 0 THEN at END, 1, '{{}}',
    CASE WHEN n % 10 < 8 THEN 'q' || n % 2 END, CASE WHEN n % 3 > 0 THEN 'k' || (n / 7) % 50 END, n % 4,
    CASE WHEN n % 1000 < 40 THEN 's' || n % 20 END
FROM generate_series(1, 100000) n, LATERAL (SELECT timestamptz '2026-01-01' + n * interval '1 second' AS at) a,
    LATERAL (SELECT CASE n % 20 WHEN 0 THEN 'paused' WHEN 1 THEN 'running' WHEN 2 THEN 'completed' ELSE 'queued' END
        AS status) s,
    LATERAL (SELECT CASE WHEN status <> 'completed' THEN at + interval '1 hour' END AS due) d;
INSERT INTO {0}.workflow_schedules
SELECT 'w' || n % 5, 's' || n, 1, now(), false, '', now(), now() FROM generate_series(1, 20000) n;
INSERT INTO {0}.workflow_ticks
SELECT 'w' || n % 5, 's' || n, revision, 0, now(), NULL, 'started', now()
FROM generate_series(1, 1000) n, generate_series(1, 50) revision;
ANALYZE {0}.workflow_runs; ANALYZE {0}.workflow_schedules; ANALYZE {0}.workflow_ticks;
"""


def _pages(plan: list[Any]) -> int:
    """How many pages a statement has touched, all in all."""
    found = re.search(r"Buffers: shared hit=(\d+)(?: read=(\d+))?", "\n".join(line[0] for line in plan))
    assert found is not None
    return int(found[1]) + int(found[2] or 0)


@pytest.mark.parametrize("analyzed", [True, False])
def test_plans_on_a_long_queue(postgres_url: str, schema: str, analyzed: bool):
    """With 100,000 runs, most of them waiting in two queues, no statement reads a table, or much more than it needs."""
    now, limits = at(10**7), Queue("q0", 10, 3, RateLimit(40, per=600), RateLimit(5, per=600))

    async def main() -> None:
        store = PostgresStore(postgres_url, schema=schema)
        await store.migrate()
        await store.close()
        connection = await asyncpg.connect(postgres_url.replace("+asyncpg", ""))
        try:
            await connection.execute(_FILL.format(schema).split("ANALYZE" if not analyzed else "\0")[0])
            sql = Statements(schema)
            claim = queueing.QueueClaim(limits, ["w0", "w1"], lease(), ClaimLimits.all(10), now, False, None)
            args = (*queueing._args(claim, 104), [], *queueing._limits(claim))
            without = ["q0", "q1", "w0"]
            asked = {
                sql.queue_by_order: (args, 1500),
                sql.queue_by_keys: (args, 3500),
                sql.queue_by_run: ((*args, "run-40"), 400),
                sql.claim_due: (("x", now, now, ["w0", "w1"], 10, 10, 10, without), 1500),
                sql.next_due: ((["w0", "w1"], without), 1500),
                sql.these_schedules: ((["w1", "w2"], ["s1", "s2"]), 1200),
                sql.list_ticks: (("w1", "s1", 40, 0, 10), 100),
            }
            for text, (values, most) in asked.items():
                for mode in ("force_generic_plan", "force_custom_plan"):
                    await connection.execute(f"SET plan_cache_mode = {mode}")
                    transaction = connection.transaction()
                    await transaction.start()
                    plan = await connection.fetch(f"EXPLAIN (ANALYZE, BUFFERS) {text}", *values)
                    await transaction.rollback()
                    lines = "\n".join(line[0] for line in plan)
                    assert "Seq Scan on workflow" not in lines, lines
                    assert not analyzed or _pages(plan) < most, lines
        finally:
            await connection.close()

    asyncio.run(main())
