"""How a run comes to be.

What its log begins with is written while there is no run of its id; then the row is inserted as it shall be, queued or
already leased, unless its id is taken. The row of that id, read at last, is the new one if the insertion answered, and
else the one that was there, which nothing has touched (but `replace_unstarted`).
"""

from __future__ import annotations

from datetime import datetime

from workflow.core.records import ClaimedRun, CreatedRun, Lease, NewRun

from .executor import Row, SqlValue, Statement
from .rows import RUN_COLUMNS, maybe_micros, micros, queue_key, run_record
from .values import values_statements

__all__ = ["SELECT_RUN", "create_result", "create_statements", "creating"]

SELECT_RUN = f"SELECT {RUN_COLUMNS} FROM workflow_runs WHERE run_id = ?"

_COLUMNS = (
    "run_id, workflow_id, workflow_version, input, created_at, updated_at, state, log_length, queue, queue_key, "
    "priority, expires_at, schedule_id, status, due_at, started_at, fence, owner"
)
_PLACES = ", ".join("?" for _ in _COLUMNS.split(", "))

_REPLACE = """
UPDATE workflow_runs SET input = ?, due_at = ?, expires_at = ?, updated_at = ?, queue = ?, queue_key = ?, priority = ?
WHERE run_id = ? AND workflow_id = ? AND status = 'queued' AND fence = 0
"""


def create_statements(new: NewRun, lease: Lease | None, now: datetime) -> list[Statement]:
    return [*creating(new, lease, now), (SELECT_RUN, (new.run_id,))]


def creating(
    new: NewRun, lease: Lease | None, now: datetime, guard: str = "1", guarding: tuple[SqlValue, ...] = ()
) -> list[Statement]:
    """Create the run where `guard` holds. The last of the statements answers a row if it has."""
    at = micros(now)
    leased = ("queued", micros(new.due_at), None, 0, None)
    if lease is not None:
        leased = ("running", micros(lease.until), at, 1, lease.owner)
    run = (new.run_id, new.workflow_id, new.workflow_version, new.input, at, at, new.state, len(new.log))
    queued = (new.queue, queue_key(new.key), new.priority, maybe_micros(new.expires_at), new.schedule_id)
    insert = (
        f"INSERT INTO workflow_runs ({_COLUMNS}) SELECT {_PLACES} WHERE {guard} "
        "ON CONFLICT (run_id) DO NOTHING RETURNING fence"
    )
    statements = [*_log(new, guard, guarding)]
    if new.replace_unstarted:
        placed = (new.queue, queue_key(new.key), new.priority)
        times = (micros(new.due_at), maybe_micros(new.expires_at), at)
        replaced = (new.input, *times, *placed, new.run_id, new.workflow_id)
        statements.append((f"{_REPLACE} AND {guard}", (*replaced, *guarding)))
    return [*statements, (insert, (*run, *queued, *leased, *guarding))]


def _log(new: NewRun, guard: str, guarding: tuple[SqlValue, ...]) -> list[Statement]:
    return values_statements(
        "INSERT INTO workflow_log (run_id, idx, event, payload) SELECT ?, new.*",
        [(record.index, record.event, record.payload) for record in new.log],
        f"NOT EXISTS (SELECT 1 FROM workflow_runs WHERE run_id = ?) AND {guard}",
        before=(new.run_id,),
        after=(new.run_id, *guarding),
    )


def create_result(results: list[list[Row]], new: NewRun, lease: Lease | None) -> CreatedRun:
    inserted, rows = results[-2:]
    run = run_record(rows[0])
    if not inserted:
        return CreatedRun(run, created=False)
    claimed = None if lease is None else ClaimedRun(run, new.log, (), "queued")
    return CreatedRun(run, created=True, claimed=claimed)
