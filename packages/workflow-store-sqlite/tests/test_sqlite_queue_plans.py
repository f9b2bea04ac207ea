"""What claims from queues cost: nothing for what they don't take, however much of it there is."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from workflow.core.records import Lease
from workflow.runtime.contract import ClaimLimits
from workflow.runtime.queues import Queue, RateLimit
from workflow.store.sqlite.due import claim_due_statements, next_due_statement
from workflow.store.sqlite.executor import Batch
from workflow.store.sqlite.queueing import claim_queue_statements
from workflow.store.sqlite.schema import migrations

NOW = datetime(2030, 1, 1, tzinfo=UTC)
LEASE = Lease("me", NOW + timedelta(seconds=30))
MANY = 100_000
SOME = 20

LIMITED = Queue("q", 5, 2, RateLimit(1000, per=60), RateLimit(100, per=60))
OPERATIONS: dict[str, Batch] = {
    "claim_queue": claim_queue_statements(LIMITED, ["w"], LEASE, ClaimLimits.all(25), NOW, False, None),
    "claim_queue_by_age": claim_queue_statements(LIMITED, ["w"], LEASE, ClaimLimits.all(25), NOW, True, None),
    "claim_queue_started": claim_queue_statements(
        Queue("q", 5, 2, holds="started"), ["w"], LEASE, ClaimLimits.all(25), NOW, False, None
    ),
    "claim_queue_one": claim_queue_statements(LIMITED, ["w"], LEASE, ClaimLimits.all(25), NOW, False, "some1"),
    "claim_due": claim_due_statements(["w"], LEASE, ClaimLimits.all(25), NOW, ["q"]),
    "next_due": [next_due_statement(["w"], ["q"])],
}


@pytest.fixture
def database() -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    for migration in migrations():
        for sql, values in migration.statements():
            connection.execute(sql, values)
    add(connection, "some", SOME, key="'=' || (i % 4)")
    add(connection, "plain", SOME, queue=None)
    yield connection
    connection.close()


def add(
    connection: sqlite3.Connection,
    prefix: str,
    count: int,
    *,
    queue: str | None = "q",
    status: str = "queued",
    key: str = "''",
    due: str = "0",
    fence: int = 0,
    started: str = "NULL",
    completed: str = "NULL",
) -> None:
    """So many runs at once: `key` and the times are SQL, in which `i` is a run's number."""
    connection.execute(
        f"""
        INSERT INTO workflow_runs (run_id, workflow_id, status, input, created_at, updated_at, queue, queue_key,
          due_at, fence, started_at, completed_at)
        WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)
        SELECT ? || i, 'w', ?, '{{}}', i, i, ?, {key}, {due}, ?, {started}, {completed} FROM n
        """,
        (count, prefix, status, queue, fence),
    )


def costs(connection: sqlite3.Connection) -> dict[str, int]:
    return {operation: work(connection, batch) for operation, batch in OPERATIONS.items()}


def work(connection: sqlite3.Connection, batch: Batch) -> int:
    """What a batch costs: so many instructions of SQLite's virtual machine, about. The batch is undone."""
    count = 0

    def tick() -> int:
        nonlocal count
        count += 1
        return 0

    connection.execute("BEGIN")
    connection.set_progress_handler(tick, 1)
    for sql, values in batch:
        connection.execute(sql, values).fetchall()
    connection.set_progress_handler(None, 0)
    connection.execute("ROLLBACK")
    return count


LATER = str(2**60)
CROWDS = {
    "a flood of one key": {"key": "'=flood'"},
    "a flood without a key": {},
    "runs to start later": {"due": LATER},
    "sleeping runs": {"status": "paused", "due": LATER, "fence": 1, "started": "i"},
    "sleeping runs that are due": {"status": "paused", "due": "0", "fence": 1, "started": "i"},
    "runs that wait for mail": {"status": "paused", "due": "NULL", "fence": 1, "started": "i"},
    "ended runs": {"status": "completed", "due": "NULL", "fence": 1, "started": "i", "completed": "i", "key": "'=0'"},
    "a flood of another queue": {"queue": "other", "key": "'=' || (i % 7)"},
}
HOLD_SLOTS = ("sleeping runs", "sleeping runs that are due", "runs that wait for mail")


@pytest.mark.parametrize("crowd", CROWDS)
def test_a_crowd_costs_what_a_few_cost(database: sqlite3.Connection, crowd: str) -> None:
    """Whatever a hundred thousand runs of a queue wait for, claims and polls cost what they cost with a few."""
    add(database, "few", 500, **CROWDS[crowd])  # pyright: ignore[reportArgumentType]
    before = costs(database)
    add(database, "crowd", MANY, **CROWDS[crowd])  # pyright: ignore[reportArgumentType]
    after = costs(database)
    if crowd in HOLD_SLOTS:
        del after["claim_queue_started"]  # who holds a slot is counted
    assert {name: (before[name], after[name]) for name in after if after[name] > before[name] * 1.2 + 300} == {}


def test_many_keys_cost_what_they_are(database: sqlite3.Connection) -> None:
    """Ten times as many keys with due runs cost a claim about ten times as much, and not a hundred times."""
    add(database, "hundred", 1000, key="'=' || (i % 100)")
    before = work(database, OPERATIONS["claim_queue"])
    add(database, "thousand", 10_000, key="'=' || (i % 1000)")
    assert work(database, OPERATIONS["claim_queue"]) < 15 * before


def test_rates_are_counted_in_an_index(database: sqlite3.Connection) -> None:
    """Starts are counted, and grouped by key, without a look at any run's row."""
    (sql, values), *_ = OPERATIONS["claim_queue"]
    plan = [row[3] for row in database.execute(f"EXPLAIN QUERY PLAN {sql}", values)]
    starts = [line for line in plan if "workflow_runs_starts" in line]
    assert starts == [
        "SEARCH workflow_runs USING COVERING INDEX workflow_runs_starts (queue=? AND started_at>?)",
    ] * len(starts)
    assert len(starts) >= 2
