"""What is due: runs of whatever queue, the longest due first, and the time of the next.

Runs that are in no queue by name are found by their status and due time in one index: runs of workflows that this
process doesn't have are passed over there, and no row is touched that is not taken. Runs of queues are found by classes
(see classes.py), so that the queues which are left to `claim_queue` are not even looked at, however full they are.

The order is total, so all statements of a batch pick the same runs. `INDEXED BY` makes these plans a promise, whatever
ANALYZE may have said: no poll ever reads through a million ended runs.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from datetime import datetime

from workflow.core.records import ClaimedRun, Lease, RunStatus
from workflow.runtime.contract import ClaimLimits

from .claims import TAKE, claimed_runs
from .classes import ALL_QUEUES, CLASSES, FRESH, GOING, first_fresh, first_going
from .executor import Row, Statement
from .named import Template
from .rows import MAIL_COLUMNS, RUN_COLUMNS, decode_id, from_micros, id_list, instant_column, micros

__all__ = ["claim_due_result", "claim_due_statements", "next_due_result", "next_due_statement"]

_KINDS: dict[RunStatus, str] = {"running": "recovered", "queued": "ready", "paused": "timers"}
"""The kinds of due runs, and the names of their limits."""

_OWN = f"workflow_id IN (SELECT {decode_id('value')} FROM json_each(:own))"
_NOW = "due_at <= :now"
_ANY = (
    f"EXISTS (SELECT 1 FROM workflow_runs INDEXED BY workflow_runs_fresh WHERE {FRESH}) "
    f"OR EXISTS (SELECT 1 FROM workflow_runs INDEXED BY workflow_runs_going WHERE {GOING})"
)
"""Whether there are runs in queues at all. To look for their classes costs a millisecond, even where there are none."""


def _in_queues(status: RunStatus, columns: str, due: str, limit: str) -> str:
    """Runs of one status in queues: the first of each class."""
    going = f"SELECT {columns} {first_going(status, due, limit)}"
    return f"{going} UNION ALL SELECT {columns} {first_fresh(due, limit)}" if status == "queued" else going


def _without_queue(status: RunStatus, limit: str) -> str:
    return (
        "SELECT * FROM (SELECT rowid AS id, due_at FROM workflow_runs INDEXED BY workflow_runs_due "
        f"WHERE queue IS NULL AND status = '{status}' AND {_NOW} AND {_OWN} "
        f"ORDER BY due_at, workflow_id, rowid LIMIT :{limit})"
    )


def _due_of(status: RunStatus, limit: str) -> str:
    """The due runs of one status, in queues or not."""
    found = (
        f"{_without_queue(status, limit)} UNION ALL {_in_queues(status, 'run.rowid, run.due_at', _NOW, f':{limit}')}"
    )
    return f"SELECT * FROM (SELECT id FROM ({found}) ORDER BY due_at, id LIMIT :{limit})"


def _union(parts: Callable[[RunStatus, str], str]) -> str:
    return " UNION ALL ".join(parts(*kind) for kind in _KINDS.items())


# A list, for one reason: SQLite makes it only in the branch that it takes.
_TAKEN = f"""
rowid IN (SELECT value FROM json_each(CASE WHEN {_ANY}
  THEN (WITH RECURSIVE {ALL_QUEUES}, {CLASSES} SELECT json_group_array(id) FROM ({_union(_due_of)}))
  ELSE (SELECT json_group_array(id) FROM ({_union(_without_queue)})) END))
"""
_THEIRS = f"run_id IN (SELECT run_id FROM workflow_runs WHERE {_TAKEN})"

_ROWS = Template(
    f"SELECT {RUN_COLUMNS} FROM workflow_runs WHERE {_TAKEN} ORDER BY workflow_runs.due_at, workflow_runs.rowid"
)
_LOGS = Template(f"SELECT run_id, idx, event, payload FROM workflow_log WHERE {_THEIRS} ORDER BY run_id, idx")
_MAIL = Template(
    f"SELECT run_id, {MAIL_COLUMNS} FROM workflow_mail INDEXED BY workflow_mail_unread "
    f"WHERE payload IS NOT NULL AND {_THEIRS} ORDER BY run_id, seq"
)
_TAKE = Template(f"{TAKE} WHERE {_TAKEN}")


def claim_due_statements(
    workflow_ids: Collection[str], lease: Lease, limits: ClaimLimits, now: datetime, without: Collection[str]
) -> list[Statement]:
    values = {
        **_scope(workflow_ids, without),
        "now": micros(now),
        "recovered": limits.recovered,
        "ready": limits.ready,
        "timers": limits.timers,
        "owner": lease.owner,
        "until": micros(lease.until),
    }
    return [template.bind(values) for template in (_ROWS, _LOGS, _MAIL, _TAKE)]


def claim_due_result(results: list[list[Row]], lease: Lease, now: datetime) -> list[ClaimedRun]:
    rows, logs, mail, _ = results
    return claimed_runs(rows, logs, mail, lease, now)


def _scope(workflow_ids: Collection[str], without: Collection[str]) -> dict[str, str]:
    """Whose runs are wanted; `own`: of which workflows those that are in no queue by name."""
    left_out = frozenset(without)
    own = [workflow_id for workflow_id in workflow_ids if workflow_id not in left_out]
    return {"workflows": id_list(workflow_ids), "own": id_list(own), "without": id_list(without)}


def _first_of(status: RunStatus) -> str:
    return (
        "SELECT * FROM (SELECT due_at FROM workflow_runs INDEXED BY workflow_runs_due "
        f"WHERE status = '{status}' AND queue IS NULL AND {_AT_ALL} AND {_OWN} ORDER BY due_at LIMIT 1)"
    )


_AT_ALL = "due_at IS NOT NULL"
_FIRST_OF_QUEUES = f"""
SELECT CASE WHEN {_ANY} THEN (
  WITH RECURSIVE {ALL_QUEUES}, {CLASSES}
  SELECT min(due_at) FROM ({" UNION ALL ".join(_in_queues(status, "run.due_at", _AT_ALL, "1") for status in _KINDS)})
) END"""
_NEXT = Template(
    f"SELECT {instant_column('next', 'min(due_at)')} "
    f"FROM ({' UNION ALL '.join(_first_of(status) for status in _KINDS)} UNION ALL {_FIRST_OF_QUEUES})"
)


def next_due_statement(workflow_ids: Collection[str], without: Collection[str]) -> Statement:
    """The first of each status and class in the indexes, and the earliest of these."""
    return _NEXT.bind(_scope(workflow_ids, without))


def next_due_result(rows: list[Row]) -> datetime | None:
    earliest = rows[0][0]
    return None if earliest is None else from_micros(earliest)
