"""How runs are claimed: read what is about to be claimed, then claim it.

A batch is atomic and writing batches come one after another, so a condition on the rows finds the same runs in each
of its statements until one of them changes those rows. Hence a claim first reads the rows that it will take, then
their logs and their unread mail, and takes them last; what the rows say afterwards needs no second look.

    1. the rows that will be taken     (as they are: also what they were before the claim)
    2. their logs
    3. their unread mail
    4. the claim

Here are claims of one run, which is found by its id, and the renewal of leases. See due.py for claims of what is due,
and queueing.py for claims from a queue with limits.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import replace
from datetime import datetime
from typing import cast

from workflow.core.records import ClaimedRun, Lease, LogRecord, Mail, RunRecord
from workflow.runtime.contract import HeldLease, Renewal

from .executor import Row, SqlValue, Statement
from .rows import (
    MAIL_COLUMNS,
    RUN_COLUMNS,
    decode_id,
    held_list,
    log_records,
    mail_of,
    micros,
    run_record,
)

__all__ = [
    "TAKE",
    "claim_one",
    "claim_run_statements",
    "claimed_run",
    "claimed_runs",
    "renew_result",
    "renew_statement",
]

TAKE = """
UPDATE workflow_runs SET recoveries = recoveries + (status = 'running'), status = 'running', fence = fence + 1,
  owner = :owner, due_at = :until, started_at = coalesce(started_at, :now), updated_at = :now
"""
_TAKE = re.sub(r":\w+", "?", TAKE)  # where the rest of the statement has no names

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


def claimed_runs(
    rows: Iterable[Row], logs: Iterable[Row], mail: Iterable[Row], lease: Lease, now: datetime
) -> list[ClaimedRun]:
    """Runs by their rows before the claim, with those of the logs and mails that are theirs."""
    log_of, mail_to = _by_run(logs), _by_run(mail)
    found = [run_record(row) for row in rows]
    return [
        _claimed(run, log_records(log_of.get(run.run_id, ())), mail_of(mail_to.get(run.run_id, ())), lease, now)
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
