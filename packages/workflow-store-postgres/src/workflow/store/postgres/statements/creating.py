"""Runs come into being, and are purged."""

from __future__ import annotations

from .parts import TELL, Columns, asked, columns_of, told

__all__ = ["PURGE", "create"]

# -- Creating: owner and until are null where the run is not claimed at once.

_NEW: Columns = (
    ("run_id", "text"),
    ("workflow_id", "text"),
    ("workflow_version", "text"),
    ("input", "text"),
    ("now", "timestamptz"),
    ("due_at", "timestamptz"),
    ("owner", "text"),
    ("until", "timestamptz"),
)


# For how long an insert waits for a rival one of the same id, in milliseconds. Most are done long before.
_PATIENCE = "SELECT set_config('lock_timeout', '50', true) AS lock_timeout"


def create(*, many: bool, patient: bool = False) -> str:
    """`patient` waits for as long as a rival insert takes; otherwise the statement fails then (SQLSTATE 55P03)."""
    once, order = ("MATERIALIZED", "ORDER BY a.run_id") if many else ("NOT MATERIALIZED", "")
    patience = "" if patient else f"patience AS MATERIALIZED ({_PATIENCE}), "
    return f"""
WITH {patience}asked AS {once} ({asked(_NEW, many=many)}),
created AS (
    INSERT INTO :"schema".workflow_runs AS r (
        run_id, workflow_id, workflow_version, input, created_at, updated_at,
        status, owner, fence, started_at, due_at, wake_at
    )
    SELECT a.run_id, a.workflow_id, a.workflow_version, a.input, a.now, a.now,
        CASE WHEN a.owner IS NULL THEN 'queued' ELSE 'running' END, a.owner,
        CASE WHEN a.owner IS NULL THEN 0 ELSE 1 END, CASE WHEN a.owner IS NOT NULL THEN a.now END,
        coalesce(a.until, a.due_at), coalesce(a.until, a.due_at)
    FROM {"" if patient else "patience, "}asked a {order}
    ON CONFLICT (run_id) DO NOTHING
    RETURNING r.run_id, r.workflow_id, r.status
), {told("created")}
SELECT a.n, c.run_id IS NOT NULL, {columns_of("r")}, {TELL}
FROM asked a
LEFT JOIN created c ON c.run_id = a.run_id
LEFT JOIN LATERAL (
    SELECT * FROM :"schema".workflow_runs r WHERE r.run_id = a.run_id AND c.run_id IS NULL LIMIT 1
) r ON true"""


# -- Purging

PURGE = """
WITH doomed AS MATERIALIZED (
    SELECT r.run_id FROM :"schema".workflow_runs r
    WHERE r.completed_at < $1::timestamptz AND ($2::text IS NULL OR r.workflow_id = $2)
    ORDER BY r.completed_at LIMIT $3::bigint FOR UPDATE SKIP LOCKED
), logs AS (
    DELETE FROM :"schema".workflow_log l USING doomed d WHERE l.run_id = d.run_id
), mail AS (
    DELETE FROM :"schema".workflow_mail l USING doomed d WHERE l.run_id = d.run_id
), gone AS (
    DELETE FROM :"schema".workflow_runs r USING doomed d WHERE r.run_id = d.run_id RETURNING r.run_id
)
SELECT count(*) FROM gone"""
