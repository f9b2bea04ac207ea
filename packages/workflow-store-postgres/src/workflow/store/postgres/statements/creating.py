"""Runs come into being, and are purged."""

from __future__ import annotations

from workflow.store.postgres.rows import RUN_COLUMNS

from .parts import STATUS, TELL, Columns, asked, columns_of, scalars, told

__all__ = ["NEW", "PATIENCE", "PURGE", "create", "create_whole"]

# -- Creating: owner and until are null where the run is not claimed at once.

NEW: Columns = (
    ("run_id", "text"),
    ("workflow_id", "text"),
    ("workflow_version", "text"),
    ("input", "text"),
    ("now", "timestamptz"),
    ("due_at", "timestamptz"),
    ("owner", "text"),
    ("until", "timestamptz"),
    ("queue", "text"),
    ("key", "text"),
    ("priority", "integer"),
    ("expires_at", "timestamptz"),
    ("schedule_id", "text"),
)

_COLUMNS = """run_id, workflow_id, workflow_version, input, created_at, updated_at,
        queue, key, priority, expires_at, schedule_id, status, owner, fence, started_at, due_at, wake_at"""

_VALUES = """a.run_id, a.workflow_id, a.workflow_version, a.input, a.now, a.now,
        a.queue, a.key, a.priority, a.expires_at, a.schedule_id,
        CASE WHEN a.owner IS NULL THEN 'queued' ELSE 'running' END, a.owner,
        CASE WHEN a.owner IS NULL THEN 0 ELSE 1 END, CASE WHEN a.owner IS NOT NULL THEN a.now END,
        coalesce(a.until, a.due_at), coalesce(a.until, a.due_at)"""

_THERE = """LEFT JOIN LATERAL (
    SELECT * FROM :"schema".workflow_runs r WHERE r.run_id = a.run_id AND c.run_id IS NULL LIMIT 1
) r ON true"""


# For how long an insert waits for a rival one of the same id, in milliseconds. Most are done long before.
PATIENCE = "patience AS MATERIALIZED (SELECT set_config('lock_timeout', '50', true) AS lock_timeout), "


def create(*, many: bool, patient: bool = False) -> str:
    """Runs without a log. For each: whether it was created, and the row that was there before.

    `patient` waits for as long as a rival insert takes; otherwise the statement fails then (SQLSTATE 55P03).
    """
    once, order = ("MATERIALIZED", "ORDER BY a.run_id") if many else ("NOT MATERIALIZED", "")
    return f"""
WITH {"" if patient else PATIENCE}asked AS {once} ({asked(NEW, many=many)}),
created AS (
    INSERT INTO :"schema".workflow_runs AS r ({_COLUMNS})
    SELECT {_VALUES} FROM {"" if patient else "patience, "}asked a {order}
    ON CONFLICT (run_id) DO NOTHING
    RETURNING r.run_id, r.workflow_id, r.status
), {told("created")}
SELECT a.n, c.run_id IS NOT NULL, {columns_of("r")}, {TELL}
FROM asked a LEFT JOIN created c ON c.run_id = a.run_id {_THERE}"""


_WHOLE: Columns = (("state", "text"), ("replaces", "boolean"))
_EVENTS = len(NEW) + len(_WHOLE) + 1


def _changed() -> str:
    return ", ".join(f"CASE WHEN u.run_id IS NULL THEN r.{c} ELSE u.{c} END" for c in RUN_COLUMNS)


def create_whole(*, patient: bool = False) -> str:
    """A run with a log and a state, or one that takes the place of a run that nobody has begun: rare, so alone.

    Answers in the same way, and says whether the row was changed. `patient`: see `create`.
    """
    return f"""
WITH {"" if patient else PATIENCE}asked AS ({asked(NEW, many=False)}, {scalars(_WHOLE, len(NEW) + 1)}),
replaced AS (
    UPDATE :"schema".workflow_runs r SET
        input = h.input, due_at = h.due_at, wake_at = h.due_at, expires_at = h.expires_at, updated_at = h.now,
        queue = h.queue, key = h.key, priority = h.priority, revision = r.revision + 1
    FROM (
        SELECT a.* FROM asked a CROSS JOIN LATERAL (
            SELECT FROM :"schema".workflow_runs r
            WHERE a.replaces AND r.run_id = a.run_id AND r.workflow_id = a.workflow_id
                AND {STATUS} = 'queued' AND r.fence = 0
            FOR UPDATE SKIP LOCKED
        ) r
    ) h
    WHERE r.run_id = h.run_id
    RETURNING {columns_of("r")}
),
created AS (
    INSERT INTO :"schema".workflow_runs AS r ({_COLUMNS}, state, log_length)
    SELECT {_VALUES}, a.state, cardinality(${_EVENTS}::text[]) FROM {"" if patient else "patience, "}asked a
    ON CONFLICT (run_id) DO NOTHING
    RETURNING r.run_id, r.workflow_id, r.status
),
appended AS (
    INSERT INTO :"schema".workflow_log (run_id, idx, event, payload)
    SELECT c.run_id, x.n - 1, x.event, x.payload
    FROM created c, unnest(${_EVENTS}, ${_EVENTS + 1}::text[]) WITH ORDINALITY AS x(event, payload, n)
),
moved AS (SELECT c.workflow_id, c.status FROM created c UNION ALL SELECT u.workflow_id, u.status FROM replaced u),
{told("moved")}
SELECT a.n, c.run_id IS NOT NULL, {_changed()}, u.run_id IS NOT NULL, {TELL}
FROM asked a LEFT JOIN created c ON c.run_id = a.run_id LEFT JOIN replaced u ON u.run_id = a.run_id {_THERE}"""


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
