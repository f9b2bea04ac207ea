"""Schedules: rows that move by compare-and-set, the runs that move with them, and their history.

A commit is one batch whose every statement but the last is conditional on the schedule having the expected revision
(0 where it has no row), and so is the last, which makes it the next revision. So either all of them find it or none.

    1. create the runs to start
    2. put the cancel mail into inboxes, count it, and make the runs ready that it wakes
    3. append the termination to the logs of runs to end, and end them
    4. add to the history, and delete what is too old of it
    5. move the row: answers if it has

Runs are named by one list, whatever their number.
"""

from __future__ import annotations

from collections.abc import Collection

from workflow.runtime.contract import TICKS_KEPT
from workflow.runtime.schedules.records import ScheduleCommit, ScheduleKey, ScheduleRecord, TickRecord

from .creation import creating
from .executor import Row, SqlValue, Statement
from .inbox import AWAITED
from .rows import (
    decode_id,
    from_micros,
    id_list,
    instant_column,
    mail_key,
    maybe_from_micros,
    maybe_micros,
    micros,
    pair_list,
)
from .values import values_statements

__all__ = [
    "commit_schedule_statements",
    "list_ticks_result",
    "list_ticks_statement",
    "read_schedules_result",
    "read_schedules_statements",
]

# -- Reading

_INSTANTS = ", ".join(instant_column(name) for name in ("due_at", "created_at", "updated_at"))
_ROW = f"SELECT workflow_id, schedule_id, revision, paused, data, {_INSTANTS} FROM workflow_schedules"
_ACTIVE = (
    "SELECT workflow_id, schedule_id, run_id FROM workflow_runs INDEXED BY workflow_runs_scheduled "
    "WHERE schedule_id IS NOT NULL AND completed_at IS NULL"
)
_WORKFLOW, _SCHEDULE = (decode_id(f"json_extract(value, '$[{place}]')") for place in (0, 1))
_THESE = f"(workflow_id, schedule_id) IN (SELECT {_WORKFLOW}, {_SCHEDULE} FROM json_each(?))"


def read_schedules_statements(keys: Collection[ScheduleKey] | None) -> list[Statement]:
    in_order, by_age = "ORDER BY workflow_id, schedule_id", "ORDER BY workflow_id, schedule_id, created_at, run_id"
    if keys is None:
        return [(f"{_ROW} {in_order}", ()), (f"{_ACTIVE} {by_age}", ())]
    these = (pair_list((key.workflow_id, key.schedule_id) for key in keys),)
    return [(f"{_ROW} WHERE {_THESE} {in_order}", these), (f"{_ACTIVE} AND {_THESE} {by_age}", these)]


def read_schedules_result(results: list[list[Row]]) -> list[ScheduleRecord]:
    rows, runs = results
    active: dict[tuple[str, str], list[str]] = {}
    for workflow_id, schedule_id, run_id in runs:
        active.setdefault((workflow_id, schedule_id), []).append(run_id)
    return [_schedule(row, active.get((row[0], row[1]), [])) for row in rows]


def _schedule(row: Row, active: list[str]) -> ScheduleRecord:
    workflow_id, schedule_id, revision, paused, data, due_at, created_at, updated_at = row
    return ScheduleRecord(
        ScheduleKey(workflow_id, schedule_id),
        revision,
        maybe_from_micros(due_at),
        bool(paused),
        data,
        from_micros(created_at),
        from_micros(updated_at),
        tuple(active),
    )


_TICK = "tick_at, outcome, at, run_id, until, detail"
_TICK_COLUMNS = (
    f"{instant_column('tick_at')}, outcome, {instant_column('at')}, run_id, {instant_column('until')}, detail"
)


def list_ticks_statement(key: ScheduleKey, limit: int, before: tuple[int, int] | None) -> Statement:
    place = "" if before is None else "AND (revision, number) < (?, ?)"
    sql = (
        f"SELECT revision, number, {_TICK_COLUMNS} FROM workflow_ticks "
        f"WHERE workflow_id = ? AND schedule_id = ? {place} ORDER BY revision DESC, number DESC LIMIT ?"
    )
    return sql, (key.workflow_id, key.schedule_id, *(before or ()), limit)


def list_ticks_result(rows: list[Row]) -> list[tuple[tuple[int, int], TickRecord]]:
    return [((revision, number), _tick(*columns)) for revision, number, *columns in rows]


def _tick(tick_at: str, outcome: str, at: str, run_id: str | None, until: str | None, detail: str | None) -> TickRecord:
    return TickRecord(
        from_micros(tick_at),
        outcome,  # pyright: ignore[reportArgumentType] - nothing else was written
        from_micros(at),
        run_id,
        maybe_from_micros(until),
        detail,
    )


# -- Moving

_GUARD = """(
  SELECT coalesce(max(revision), 0) FROM workflow_schedules WHERE workflow_id = ? AND schedule_id = ?) = ?"""

_MOVE = f"""
INSERT INTO workflow_schedules (workflow_id, schedule_id, revision, due_at, paused, data, created_at, updated_at)
SELECT ?, ?, ?, ?, ?, ?, ?, ? WHERE {_GUARD}
ON CONFLICT (workflow_id, schedule_id) DO UPDATE SET revision = excluded.revision, due_at = excluded.due_at,
  paused = excluded.paused, data = excluded.data, updated_at = excluded.updated_at
RETURNING revision
"""

_OPEN_ONES = (
    f"run_id IN (SELECT {decode_id('value')} FROM json_each(?)) AND workflow_runs.completed_at IS NULL AND {_GUARD}"
)

_MAIL = f"""
INSERT INTO workflow_mail (run_id, kind, id, seq, name, payload, sent_at)
SELECT run_id, ?, ?, mail_count + 1, ?, ?, ? FROM workflow_runs WHERE {_OPEN_ONES}
ON CONFLICT (run_id, kind, id) DO NOTHING
"""

# A mail beyond the last one that the row knows of was inserted just now (see inbox.py).
_WOKEN = f"((status = 'paused' OR (status = 'queued' AND due_at > ?)) AND {AWAITED})"
_COUNT = f"""
UPDATE workflow_runs SET mail_count = mail_count + 1, updated_at = ?,
  due_at = CASE WHEN {_WOKEN} THEN ? ELSE due_at END,
  status = CASE WHEN {_WOKEN} THEN 'queued' ELSE status END
WHERE {_OPEN_ONES} AND EXISTS (
  SELECT 1 FROM workflow_mail AS mail WHERE mail.run_id = workflow_runs.run_id AND mail.kind = ? AND mail.id = ?
    AND mail.seq = workflow_runs.mail_count + 1)
"""

_LAST_RECORD = f"""
INSERT INTO workflow_log (run_id, idx, event, payload)
SELECT run_id, log_length, ?, NULL FROM workflow_runs WHERE {_OPEN_ONES}
"""
_END = f"""
UPDATE workflow_runs SET status = 'cancelled', completed_at = ?, updated_at = ?, owner = NULL, due_at = NULL,
  waits = '[]', awaits = '', log_length = log_length + 1, fence = fence + (fence > 0)
WHERE {_OPEN_ONES}
"""

_FORGET = f"DELETE FROM workflow_ticks WHERE workflow_id = ? AND schedule_id = ? AND revision <= ? AND {_GUARD}"


def commit_schedule_statements(commit: ScheduleCommit) -> list[Statement]:
    """The last one answers a row if it has happened."""
    key = (commit.key.workflow_id, commit.key.schedule_id)
    guarding = (*key, commit.expected_revision)
    at, revision = micros(commit.now), commit.expected_revision + 1
    row = (*key, revision, maybe_micros(commit.due_at), int(commit.paused), commit.data, at, at)
    starts = [creating(new, None, commit.now, _GUARD, guarding) for new in commit.starts]
    return [
        *(statement for statements in starts for statement in statements),
        *_cancel(commit, guarding),
        *_terminate(commit, guarding),
        *_add_ticks(commit, guarding),
        (_FORGET, (*key, revision - TICKS_KEPT, *guarding)),
        (_MOVE, (*row, *guarding)),
    ]


def _cancel(commit: ScheduleCommit, guarding: tuple[SqlValue, ...]) -> list[Statement]:
    mail = commit.cancel_mail
    if mail is None or not commit.cancel:
        return []
    ones = (id_list(commit.cancel), *guarding)
    at = micros(commit.now)
    woken = (at, mail.kind, mail_key(mail.key))
    return [
        (_MAIL, (mail.kind, mail.id, mail.name, mail.payload, at, *ones)),
        (_COUNT, (at, *woken, at, *woken, *ones, mail.kind, mail.id)),
    ]


def _terminate(commit: ScheduleCommit, guarding: tuple[SqlValue, ...]) -> list[Statement]:
    if not commit.terminate:
        return []
    ones = (id_list(commit.terminate), *guarding)
    at = micros(commit.now)
    return [(_LAST_RECORD, (commit.termination, *ones)), (_END, (at, at, *ones))]


def _add_ticks(commit: ScheduleCommit, guarding: tuple[SqlValue, ...]) -> list[Statement]:
    place = (commit.key.workflow_id, commit.key.schedule_id, commit.expected_revision + 1)
    return values_statements(
        f"INSERT INTO workflow_ticks (workflow_id, schedule_id, revision, number, {_TICK}) SELECT ?, ?, ?, new.*",
        [(number, *_tick_values(tick)) for number, tick in enumerate(commit.ticks)],
        _GUARD,
        before=place,
        after=guarding,
    )


def _tick_values(tick: TickRecord) -> tuple[SqlValue, ...]:
    return micros(tick.tick_at), tick.outcome, micros(tick.at), tick.run_id, maybe_micros(tick.until), tick.detail
