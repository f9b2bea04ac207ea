"""How SQLite carries out the statements: through indexes, and at a cost that ended runs don't raise."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from workflow.core.records import Commit, Lease, LogRecord, NewMail, NewRun, Transition, Wait
from workflow.runtime.contract import ClaimLimits, HeldLease, RunFilter
from workflow.runtime.queues import Queue, RateLimit
from workflow.runtime.schedules.records import ScheduleCommit, ScheduleKey, TickRecord
from workflow.store.sqlite.claims import claim_run_statements, renew_statement
from workflow.store.sqlite.commits import commit_statements
from workflow.store.sqlite.creation import create_statements
from workflow.store.sqlite.due import claim_due_statements, next_due_statement
from workflow.store.sqlite.executor import Batch
from workflow.store.sqlite.inbox import deliver_statements
from workflow.store.sqlite.queries import list_statement, purge_statements, read_log_statement
from workflow.store.sqlite.queueing import claim_queue_statements
from workflow.store.sqlite.reopening import reopen_statements
from workflow.store.sqlite.schedules import (
    commit_schedule_statements,
    list_ticks_statement,
    read_schedules_statements,
)
from workflow.store.sqlite.schema import migrations

NOW = datetime(2030, 1, 1, tzinfo=UTC)
LEASE = Lease("me", NOW + timedelta(seconds=30))
RECORDS = tuple(LogRecord(index, "{}") for index in range(3))
PAUSE = Transition("paused", NOW, (Wait("signal", "1", "n"),))
MAIL = NewMail("signal", "1", "n", "{}")
ALL = ClaimLimits.all(25)
KEY = ScheduleKey("w", "daily")
LIMITED = Queue("q", 5, 2, RateLimit(1000, per=60), RateLimit(100, per=60))
STARTED = Queue("q", 5, 2, holds="started")
SCHEDULE = ScheduleCommit(
    KEY,
    3,
    NOW,
    NOW,
    False,
    "{}",
    starts=(NewRun("new", "w", None, "{}", NOW, log=RECORDS, replace_unstarted=True),),
    cancel=("run", "other"),
    cancel_mail=NewMail("cancel", "1", "cancel", "{}"),
    terminate=("run", "other"),
    termination="{}",
    ticks=(TickRecord(NOW, "started", NOW),),
)


def claim_queue(queue: Queue, workflow_id: str = "w", *, by_age: bool = False, run_id: str | None = None) -> Batch:
    return claim_queue_statements(queue, [workflow_id, "v"], LEASE, ALL, NOW, by_age, run_id)


OPERATIONS: dict[str, Batch] = {
    "create": create_statements(NewRun("run", "w", None, "{}", NOW), LEASE, NOW),
    "claim_run": claim_run_statements("run", LEASE, NOW, False),
    "claim_run_force": claim_run_statements("run", LEASE, NOW, True),
    "commit": commit_statements(Commit("run", 1, 0, NOW, LEASE, RECORDS[:1])),
    "commit_pause": commit_statements(Commit("run", 1, 0, NOW, LEASE, RECORDS, (1, 2), 2, None, PAUSE)),
    "commit_end": commit_statements(Commit("run", 1, 0, NOW, LEASE, RECORDS, transition=Transition("completed"))),
    "deliver": deliver_statements("run", MAIL, None, NOW),
    "deliver_and_claim": deliver_statements("run", MAIL, LEASE, NOW),
    "read_log": [read_log_statement("run", 5, 10)],
    "claim_due": claim_due_statements(["w", "v"], LEASE, ALL, NOW, ["q"]),
    "renew": [renew_statement([HeldLease("run", 1), HeldLease("other", 2)], LEASE.until)],
    "next_due": [next_due_statement(["w", "v"], ["q"])],
    "claim_queue": claim_queue(LIMITED),
    "claim_queue_by_age": claim_queue(LIMITED, by_age=True),
    "claim_queue_started": claim_queue(STARTED),
    "claim_queue_own": claim_queue(LIMITED, "q"),
    "claim_queue_one": claim_queue(LIMITED, run_id="run"),
    "read_schedules": read_schedules_statements([KEY]),
    "commit_schedule": commit_schedule_statements(SCHEDULE),
    "list_ticks": [list_ticks_statement(KEY, 50, (3, 0))],
    "reopen": reopen_statements("run", 3, LogRecord(3, "{}"), [MAIL], NOW, NOW),
    "purge": purge_statements(NOW, None, 100),
    "purge_workflow": purge_statements(NOW, "w", 100),
    "list_page": [list_statement(RunFilter(before=(NOW, "run")))],
    "list_failed": [list_statement(RunFilter(status=frozenset({"errored"}), workflow_id="w", before=(NOW, "run")))],
    "list_open": [list_statement(RunFilter(status=frozenset({"paused", "queued"}), before=(NOW, "run")))],
    "list_between": [list_statement(RunFilter(created_from=NOW, created_until=NOW))],
}


@pytest.fixture
def database() -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    for migration in migrations():
        run(connection, migration.statements())
    yield connection
    connection.close()


def run(connection: sqlite3.Connection, batch: Batch) -> None:
    for sql, values in batch:
        connection.execute(sql, values).fetchall()


@pytest.mark.parametrize("analyzed", [False, True], ids=["fresh", "analyzed"])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_no_table_is_scanned(database: sqlite3.Connection, operation: str, analyzed: bool) -> None:
    """Each statement finds its rows by an index, whether SQLite knows how many rows there are or not."""
    if analyzed:
        add_ended(database, 500)
        database.execute("ANALYZE")
    for sql, values in OPERATIONS[operation]:
        plan = [row[3] for row in database.execute(f"EXPLAIN QUERY PLAN {sql}", values)]
        assert [line for line in plan if line.startswith("SCAN workflow_")] == [], sql


def test_unread_mail_is_found_without_the_read_one(database: sqlite3.Connection) -> None:
    """Mail is looked up among the unread alone, so a run may have had thousands."""
    for operation in ("commit", "commit_pause", "claim_run", "claim_due", "deliver_and_claim"):
        for sql, values in OPERATIONS[operation]:
            plan = [row[3] for row in database.execute(f"EXPLAIN QUERY PLAN {sql}", values)]
            of_mail = [line for line in plan if line.startswith(("SEARCH workflow_mail", "SEARCH mail", "SEARCH news"))]
            by_key = [line for line in of_mail if "(run_id=? AND kind=? AND id=?)" in line]
            assert [line for line in of_mail if "workflow_mail_unread" not in line] == by_key, sql


def work(connection: sqlite3.Connection, batch: Batch) -> int:
    """What a batch costs: so many instructions of SQLite's virtual machine, about. The batch is undone."""
    count = 0

    def tick() -> int:
        nonlocal count
        count += 1
        return 0

    connection.execute("BEGIN")
    connection.set_progress_handler(tick, 1)
    run(connection, batch)
    connection.set_progress_handler(None, 0)
    connection.execute("ROLLBACK")
    return count


def add_ended(connection: sqlite3.Connection, count: int, *, prefix: str = "ended") -> None:
    connection.execute(
        """
        INSERT INTO workflow_runs (run_id, workflow_id, status, input, created_at, updated_at, completed_at)
        WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)
        SELECT ? || i, 'w', 'completed', '{}', i, i, i FROM n
        """,
        (count, prefix),
    )


def add_due(connection: sqlite3.Connection, count: int, workflow_id: str, prefix: str) -> None:
    for number in range(count):
        run(connection, create_statements(NewRun(f"{prefix}{number}", workflow_id, None, "{}", NOW), None, NOW))


HOT = ["create", "claim_run", "commit", "commit_pause", "commit_end", "deliver_and_claim", "claim_due", "renew"]
HOT += ["next_due", "list_page", "list_open", "list_failed"]


def test_ended_runs_cost_nothing(database: sqlite3.Connection) -> None:
    """A hundred thousand ended runs don't make any frequent operation work harder, claims least of all."""
    add_due(database, 100, "w", "due")
    run(database, create_statements(NewRun("run", "w", None, "{}", NOW), LEASE, NOW))
    before = {operation: work(database, OPERATIONS[operation]) for operation in HOT}
    add_ended(database, 100_000)
    after = {operation: work(database, OPERATIONS[operation]) for operation in HOT}
    assert {name: after[name] for name in HOT if after[name] > before[name] * 1.2 + 200} == {}


def test_what_is_not_taken_costs_nothing(database: sqlite3.Connection) -> None:
    """A backlog of due runs behind the limit, and runs that wait for mail alone, leave a claim as it is."""
    add_due(database, 100, "w", "due")
    before = work(database, OPERATIONS["claim_due"])
    add_due(database, 2000, "w", "later")
    add_ended(database, 2000, prefix="waiting")
    database.execute("UPDATE workflow_runs SET status = 'paused', completed_at = NULL WHERE completed_at IS NOT NULL")
    assert work(database, OPERATIONS["claim_due"]) <= before * 1.2 + 200


def test_read_mail_costs_nothing(database: sqlite3.Connection) -> None:
    """A run that has consumed ten thousand mails commits and delivers like one that never had any."""
    run(database, create_statements(NewRun("run", "w", None, "{}", NOW), LEASE, NOW))
    operations = ["commit_pause", "deliver_and_claim", "claim_run_force"]
    before = {operation: work(database, OPERATIONS[operation]) for operation in operations}
    database.execute(
        """
        INSERT INTO workflow_mail (run_id, kind, id, seq, name, payload, sent_at)
        WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 10000)
        SELECT 'run', 'signal', 'read-' || i, i, 'n', NULL, 0 FROM n
        """
    )
    after = {operation: work(database, OPERATIONS[operation]) for operation in operations}
    assert {name: after[name] for name in operations if after[name] > before[name] + 200} == {}


def test_renewal_is_linear(database: sqlite3.Connection) -> None:
    """Renewing a thousand leases in one statement costs ten times what a hundred cost, not a hundred times."""
    for number in range(1000):
        run(database, create_statements(NewRun(f"run-{number}", "w", None, "{}", NOW), LEASE, NOW))
    held = [HeldLease(f"run-{number}", 1) for number in range(1000)]
    hundred = work(database, [renew_statement(held[:100], LEASE.until)])
    assert work(database, [renew_statement(held, LEASE.until)]) < 15 * hundred
