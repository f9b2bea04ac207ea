"""How a run comes to be.

The row is inserted as it shall be, queued or already leased, unless its id is taken. Then the row of that id is read:
it is the new one if the insertion answered, and else the one that was there, which nothing has touched.
"""

from __future__ import annotations

from datetime import datetime

from workflow.core.records import ClaimedRun, CreatedRun, Lease, NewRun

from .executor import Row, Statement
from .rows import RUN_COLUMNS, micros, run_record

__all__ = ["SELECT_RUN", "create_result", "create_statements"]

SELECT_RUN = f"SELECT {RUN_COLUMNS} FROM workflow_runs WHERE run_id = ?"

_INSERT = """
INSERT INTO workflow_runs (run_id, workflow_id, workflow_version, input, created_at, updated_at, status, due_at,
  started_at, fence, owner)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (run_id) DO NOTHING
RETURNING fence
"""


def create_statements(new: NewRun, lease: Lease | None, now: datetime) -> list[Statement]:
    at = micros(now)
    leased = ("queued", micros(new.due_at), None, 0, None)
    if lease is not None:
        leased = ("running", micros(lease.until), at, 1, lease.owner)
    values = (new.run_id, new.workflow_id, new.workflow_version, new.input, at, at, *leased)
    return [(_INSERT, values), (SELECT_RUN, (new.run_id,))]


def create_result(results: list[list[Row]], lease: Lease | None) -> CreatedRun:
    inserted, rows = results
    run = run_record(rows[0])
    if not inserted:
        return CreatedRun(run, created=False)
    claimed = None if lease is None else ClaimedRun(run, (), (), "queued")
    return CreatedRun(run, created=True, claimed=claimed)
