"""How runs are claimed: read what is about to be claimed, then claim it.

A batch is atomic and writing batches come one after another, so a condition on the rows finds the same runs in each
of its statements until one of them changes those rows. Hence a claim first reads the rows that it will take, then
their logs and their unread mail, and takes them last; what the rows say afterwards needs no second look.

    1. the rows that will be taken     (as they are: also what they were before the claim)
    2. their logs
    3. their unread mail
    4. the claim

Due runs are found by their status and due time, the longest due first, through the index of due runs alone: runs of
workflows that this process doesn't have are passed over there, and no row is touched that is not taken. The order is
total, so all four statements pick the same runs. `INDEXED BY` makes that plan a promise, whatever ANALYZE may have
said: no poll ever reads through a million ended runs.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace
from datetime import datetime
from typing import cast

from workflow.core.records import ClaimedRun, Lease, LogRecord, Mail, RunRecord, RunStatus
from workflow.runtime.contract import ClaimLimits, HeldLease, Renewal

from .executor import Row, SqlValue, Statement
from .rows import (
    MAIL_COLUMNS,
    RUN_COLUMNS,
    decode_id,
    from_micros,
    held_list,
    id_list,
    instant_column,
    log_records,
    mail_of,
    micros,
    run_record,
)

__all__ = [
    "claim_due_result",
    "claim_due_statements",
    "claim_one",
    "claim_run_statements",
    "claimed_run",
    "next_due_result",
    "next_due_statement",
    "renew_result",
    "renew_statement",
]

_TAKE = """
UPDATE workflow_runs SET recoveries = recoveries + (status = 'running'), status = 'running', fence = fence + 1,
  owner = ?, due_at = ?, started_at = coalesce(started_at, ?), updated_at = ?
"""

_OPEN = "completed_at IS NULL"
_DUE = f"{_OPEN} AND due_at <= ?"


def claim_one(condition: str, values: tuple[SqlValue, ...], lease: Lease, now: datetime) -> list[Statement]:
    """Row, log, mail and claim of at most one run: the one that the condition on `workflow_runs` finds by its id."""
    at = micros(now)
    return [
        (f"SELECT {RUN_COLUMNS} FROM workflow_runs WHERE {condition}", values),
        (
            "SELECT idx, event, payload FROM workflow_log "
            f"WHERE run_id = (SELECT run_id FROM workflow_runs WHERE {condition}) ORDER BY idx",
            values,
        ),
        (
            f"SELECT {MAIL_COLUMNS} FROM workflow_mail WHERE payload IS NOT NULL AND "
            f"run_id = (SELECT run_id FROM workflow_runs WHERE {condition}) ORDER BY seq",
            values,
        ),
        (f"{_TAKE} WHERE {condition}", (lease.owner, micros(lease.until), at, at, *values)),
    ]


def claim_run_statements(run_id: str, lease: Lease, now: datetime, force: bool) -> list[Statement]:
    if force:
        return claim_one(f"run_id = ? AND {_OPEN}", (run_id,), lease, now)
    return claim_one(f"run_id = ? AND {_DUE}", (run_id, micros(now)), lease, now)


def claimed_run(results: list[list[Row]], lease: Lease, now: datetime) -> ClaimedRun | None:
    """Read the answers to `claim_one`."""
    rows, log, mail = results[:3]
    if not rows:
        return None
    return _claimed(run_record(rows[0]), log_records(log), mail_of(mail), lease, now)


def _claimed(
    before: RunRecord, log: tuple[LogRecord, ...], mail: tuple[Mail, ...], lease: Lease, now: datetime
) -> ClaimedRun:
    """The run after the claim, which the claim's statement made of the row in just this way."""
    run = replace(
        before,
        status="running",
        recoveries=before.recoveries + (before.status == "running"),
        fence=before.fence + 1,
        owner=lease.owner,
        due_at=lease.until,
        started_at=before.started_at or now,
        updated_at=now,
    )
    return ClaimedRun(run, log, mail, before.status)


def _due_of(status: RunStatus) -> str:
    """The due runs of one status: three parameters, the time, the workflows and the limit."""
    return (
        "SELECT * FROM (SELECT rowid FROM workflow_runs INDEXED BY workflow_runs_due "
        f"WHERE status = '{status}' AND due_at <= ? AND workflow_id IN (SELECT {decode_id('value')} FROM json_each(?)) "
        "ORDER BY due_at, workflow_id, rowid LIMIT ?)"
    )


_KINDS: tuple[RunStatus, ...] = ("running", "queued", "paused")
_ALL_DUE = f"rowid IN ({' UNION ALL '.join(_due_of(status) for status in _KINDS)})"
_THEIRS = f"run_id IN (SELECT run_id FROM workflow_runs WHERE {_ALL_DUE})"

_DUE_ROWS = f"SELECT {RUN_COLUMNS} FROM workflow_runs WHERE {_ALL_DUE} ORDER BY workflow_runs.due_at, rowid"
_DUE_LOGS = f"SELECT run_id, idx, event, payload FROM workflow_log WHERE {_THEIRS} ORDER BY run_id, idx"
_DUE_MAIL = f"""
SELECT run_id, {MAIL_COLUMNS} FROM workflow_mail INDEXED BY workflow_mail_unread
WHERE payload IS NOT NULL AND {_THEIRS} ORDER BY run_id, seq
"""
_TAKE_DUE = f"{_TAKE} WHERE {_ALL_DUE}"


def claim_due_statements(
    workflow_ids: Collection[str], lease: Lease, limits: ClaimLimits, now: datetime
) -> list[Statement]:
    at, ids = micros(now), id_list(workflow_ids)
    due = (at, ids, limits.recovered, at, ids, limits.ready, at, ids, limits.timers)
    take = (lease.owner, micros(lease.until), at, at)
    return [(_DUE_ROWS, due), (_DUE_LOGS, due), (_DUE_MAIL, due), (_TAKE_DUE, (*take, *due))]


def claim_due_result(results: list[list[Row]], lease: Lease, now: datetime) -> list[ClaimedRun]:
    rows, logs, mails = results[0], _by_run(results[1]), _by_run(results[2])
    found = [run_record(row) for row in rows]
    return [
        _claimed(run, log_records(logs.get(run.run_id, ())), mail_of(mails.get(run.run_id, ())), lease, now)
        for run in found
    ]


def _by_run(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """Rows that begin with a run id, by that id and without it."""
    grouped: dict[str, list[Row]] = {}
    for run_id, *row in rows:
        grouped.setdefault(cast(str, run_id), []).append(row)
    return grouped


_RENEW = f"""
UPDATE workflow_runs SET due_at = ?
WHERE status = 'running' AND (run_id, fence) IN (
  SELECT {decode_id("json_extract(value, '$[0]')")}, json_extract(value, '$[1]') FROM json_each(?))
RETURNING run_id, fence, mail_count
"""


def renew_statement(held: Collection[HeldLease], until: datetime) -> Statement:
    """One statement for all: each lease is found by its run's id, and prolonged if the fence is still the same."""
    return _RENEW, (micros(until), held_list((lease.run_id, lease.fence) for lease in held))


def renew_result(rows: list[Row]) -> list[Renewal]:
    return [Renewal(*row) for row in rows]


def _first_due_of(status: RunStatus) -> str:
    return (
        "SELECT * FROM (SELECT due_at FROM workflow_runs INDEXED BY workflow_runs_due "
        f"WHERE status = '{status}' AND due_at IS NOT NULL "
        f"AND workflow_id IN (SELECT {decode_id('value')} FROM json_each(?)) ORDER BY due_at LIMIT 1)"
    )


_FIRST_DUE = " UNION ALL ".join(_first_due_of(status) for status in _KINDS)
_NEXT_DUE = f"SELECT {instant_column('next', 'min(due_at)')} FROM ({_FIRST_DUE})"


def next_due_statement(workflow_ids: Collection[str]) -> Statement:
    """The first entry of each status in the index of due runs, and the earliest of these three."""
    return _NEXT_DUE, (id_list(workflow_ids),) * len(_KINDS)


def next_due_result(rows: list[Row]) -> datetime | None:
    earliest = rows[0][0]
    return None if earliest is None else from_micros(earliest)
