"""Query plans on many runs, and everything at once: nothing reads a whole table, and nothing deadlocks."""

from __future__ import annotations

import asyncio
import os
import random
import re
from collections import Counter
from datetime import UTC, datetime
from typing import Any

import asyncpg
import pytest

from workflow.core.errors import LeaseLostError, LogConflictError
from workflow.core.records import ENDED
from workflow.runtime.contract import ClaimLimits, HeldLease
from workflow.runtime.testing.invariants import all_runs, check_invariants
from workflow.runtime.testing.suite.samples import (
    WORKFLOW,
    at,
    commit,
    end,
    lease,
    new_run,
    pause,
    queue,
    signal,
    signal_wait,
    timer_wait,
)
from workflow.store.postgres import PostgresStore
from workflow.store.postgres.statements import Statements

_FILL = """
INSERT INTO {0}.workflow_runs
    (run_id, workflow_id, status, created_at, updated_at, completed_at, due_at, wake_at, input, log_length)
SELECT 'run-' || n, 'w' || n % 5, status, at, at, CASE WHEN status = 'completed' THEN at END,
    CASE WHEN status <> 'completed' THEN at + interval '30 days' END,
    CASE WHEN status <> 'completed' THEN at + interval '30 days' END, '{{}}', 2
FROM generate_series(1, 40000) n, LATERAL (SELECT timestamptz '2026-01-01' + n * interval '1 second' AS at) a,
    LATERAL (
        SELECT CASE WHEN n % 20 = 0 THEN 'paused' WHEN n % 500 = 1 THEN 'running' ELSE 'completed' END AS status
    ) s;
INSERT INTO {0}.workflow_log
SELECT 'run-' || n, idx, '{{}}', NULL FROM generate_series(1, 40000) n, generate_series(0, 1) idx;
INSERT INTO {0}.workflow_mail (run_id, kind, id, seq, name, payload, sent_at)
SELECT 'run-' || n, 'signal', 's', 1, 'x', '{{}}', now() FROM generate_series(1, 40000) n;
ANALYZE {0}.workflow_runs; ANALYZE {0}.workflow_log; ANALYZE {0}.workflow_mail;
"""


def _example(type_: str, array: bool) -> Any:
    values = {
        "text": "{1}",  # some texts are those of arrays
        "jsonb": '[["run-1", 1]]',
        "timestamptz": datetime(2026, 3, 1, tzinfo=UTC),
        "boolean": True,
        "bigint": 1,
        "integer": 1,
    }
    return [values[type_]] * 3 if array else values[type_]


def _examples(sql: str) -> list[Any]:
    types = dict(reversed(re.findall(r"\$(\d+)::(\w+(?:\[\])?)", sql)))  # the first cast of each counts
    return [_example(types[str(n)].removesuffix("[]"), types[str(n)].endswith("[]")) for n in range(1, len(types) + 1)]


def test_no_statement_reads_a_whole_table(postgres_url: str, schema: str):
    """With tens of thousands of ended and sleeping runs every statement finds its rows through an index."""

    async def main() -> None:
        store = PostgresStore(postgres_url, schema=schema)
        await store.migrate()
        await store.close()
        connection = await asyncpg.connect(postgres_url.replace("+asyncpg", ""))
        await connection.execute(_FILL.format(schema))
        whole: dict[str, list[str]] = {}
        for mode in ("force_generic_plan", "force_custom_plan"):
            await connection.execute(f"SET plan_cache_mode = {mode}")
            for name, sql in Statements(schema).texts():
                if name == "version":
                    continue
                plan = [line[0] for line in await connection.fetch(f"EXPLAIN {sql}", *_examples(sql))]
                scans = [line.strip() for line in plan if "Seq Scan on workflow" in line]
                whole.update({f"{name} ({mode})": scans} if scans else {})
        await connection.close()
        assert whole == {}

    asyncio.run(main())


def test_plans_of_the_first_moment_find_runs_by_their_ids(postgres_url: str, schema: str):
    """What is planned while there are no runs, and kept, reads no table and no index of statuses to find a run."""
    looks_up = ("append_one", "append_two", "finish_one", "finish_two", "commit", "commit_many", "deliver", "renew")
    looks_up += ("deliver_many", "held", "claim_run", "claim_due", "claim_chosen", "reopen")

    async def main() -> None:
        store = PostgresStore(postgres_url, schema=schema)
        await store.migrate()
        await store.close()
        connection = await asyncpg.connect(postgres_url.replace("+asyncpg", ""))
        await connection.execute("SET plan_cache_mode = force_generic_plan")
        for name, sql in Statements(schema).texts():
            if name in looks_up:
                await connection.execute(f"PREPARE {name} AS {sql}")
                nulls = ", ".join(["NULL"] * len(_examples(sql)))
                plan = "\n".join(row[0] for row in await connection.fetch(f"EXPLAIN EXECUTE {name}({nulls})"))
                assert "workflow_runs_pkey" in plan
                assert "workflow_runs_listed" not in plan, plan
                assert "Seq Scan on workflow_runs" not in plan, plan
        await connection.close()

    asyncio.run(main())


@pytest.mark.parametrize("filled", [False, True])
def test_polls_are_not_planned_each_time(postgres_url: str, schema: str, filled: bool):
    """Who asks for what is due, again and again, has it planned a few times only, for one workflow as for many.

    Also where statistics know that nothing is due.
    """

    async def main() -> None:
        store = PostgresStore(postgres_url, schema=schema)
        await store.migrate()
        await store.close()
        connection = await asyncpg.connect(postgres_url.replace("+asyncpg", ""))
        if filled:
            await connection.execute(_FILL.format(schema))
        sql, now = Statements(schema), datetime(2026, 1, 15, tzinfo=UTC)
        for ids in (["w1"], [f"w{n}" for n in range(5)]):
            for text, args in ((sql.claim_due, ("me", now, now, ids, 25, 25, 25, [])), (sql.next_due, (ids, []))):
                prepared = await connection.prepare(text)
                for _ in range(12):
                    await prepared.fetch(*args)
        plans = "SELECT generic_plans, custom_plans FROM pg_prepared_statements WHERE statement = ANY ($1)"
        counts = [tuple(row) for row in await connection.fetch(plans, [sql.claim_due, sql.next_due])]
        assert counts
        assert all(generic > custom for generic, custom in counts), counts
        await connection.close()

    asyncio.run(main())


def test_claims_do_not_feel_what_has_ended(postgres_url: str, schema: str):
    """A claim of what is due touches a few pages, however many runs have ended or sleep."""

    async def main() -> None:
        store = PostgresStore(postgres_url, schema=schema)
        await store.migrate()
        await store.close()
        connection = await asyncpg.connect(postgres_url.replace("+asyncpg", ""))
        await connection.execute(_FILL.format(schema))
        sql = Statements(schema).claim_due
        now = datetime(2026, 1, 15, tzinfo=UTC)  # nothing is due
        plan = await connection.fetch(
            f"EXPLAIN (ANALYZE, BUFFERS) {sql}", "me", now, now, [f"w{n}" for n in range(5)], 25, 25, 25, []
        )
        pages = re.search(r"Buffers: shared hit=(\d+)", "\n".join(line[0] for line in plan))
        assert pages is not None
        assert int(pages[1]) < 100
        await connection.close()

    asyncio.run(main())


class Crowd:
    """Workers that do everything at once to a few runs, each with a random choice, on stores of their own."""

    def __init__(self, stores: list[PostgresStore]) -> None:
        self.stores = stores
        self.random = random.Random(7)
        self.done: Counter[str] = Counter()

    async def work(self, number: int, until: float) -> None:
        store = self.stores[number % len(self.stores)]
        loop = asyncio.get_running_loop()
        while loop.time() < until:
            action = self.random.choice([self.create, self.deliver, self.sweep, self.sweep, self.look, self.take])
            await action(store, f"r{self.random.randrange(60)}", number)
            self.done[action.__name__] += 1

    async def create(self, store: PostgresStore, run_id: str, number: int) -> None:
        await store.create_run(new_run(run_id), lease=None, now=at(0))

    async def deliver(self, store: PostgresStore, run_id: str, number: int) -> None:
        await store.deliver(run_id, signal(f"s{self.random.random()}"), lease=None, now=at(0))

    async def look(self, store: PostgresStore, run_id: str, number: int) -> None:
        await store.get_run(run_id)
        await store.next_due([WORKFLOW])
        await store.purge(at(-1))

    async def take(self, store: PostgresStore, run_id: str, number: int) -> None:
        claimed = await store.claim_run(run_id, lease(str(number), 5), now=at(0), force=True)
        if claimed is not None:
            await self.drive(store, [claimed])

    async def sweep(self, store: PostgresStore, run_id: str, number: int) -> None:
        found = await store.claim_due([WORKFLOW], lease(str(number), 5), limits=ClaimLimits.all(8), now=at(0))
        held = [HeldLease(claimed.run.run_id, claimed.run.fence) for claimed in found]
        self.random.shuffle(held)
        await asyncio.gather(self.drive(store, found), store.renew(held, until=at(6), now=at(0)))

    async def drive(self, store: PostgresStore, found: Any) -> None:
        await asyncio.gather(*(self.drive_one(store, claimed) for claimed in found))

    async def drive_one(self, store: PostgresStore, claimed: Any) -> None:
        seqs = tuple(mail.seq for mail in claimed.mail)
        release = self.random.choice([queue(), pause(signal_wait()), pause(timer_wait(0)), pause(signal_wait()), end()])
        try:
            await store.commit(commit(claimed, 1, consumed=seqs))
            await store.commit(commit(claimed, 1, release, index=claimed.run.log_length + 1))
        except (LeaseLostError, LogConflictError):
            self.done["refused"] += 1


@pytest.mark.slow
def test_everything_at_once(postgres_url: str, schema: str):
    """32 workers in 4 processes' worth of stores do everything to few runs: no deadlock, and every invariant holds.

    WORKFLOW_TEST_CROWD_SECONDS says for how long (15).
    """
    seconds = float(os.environ.get("WORKFLOW_TEST_CROWD_SECONDS", "15"))

    async def main() -> None:
        stores = [PostgresStore(postgres_url, schema=schema, connections=8) for _ in range(4)]
        await stores[0].migrate()
        watcher = await asyncpg.connect(postgres_url.replace("+asyncpg", ""))
        count = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
        before = await watcher.fetchval(count)
        crowd = Crowd(stores)
        until = asyncio.get_running_loop().time() + seconds
        await asyncio.gather(*(crowd.work(number, until) for number in range(32)))
        await watcher.execute("SELECT pg_stat_clear_snapshot()")
        assert await watcher.fetchval(count) == before
        assert all(crowd.done[name] for name in ("create", "deliver", "sweep", "take", "look"))
        await check_invariants(stores[0])
        assert any(run.status in ENDED for run in [run async for run in all_runs(stores[0])])
        await watcher.close()
        await asyncio.gather(*(store.close() for store in stores))

    asyncio.run(main())
