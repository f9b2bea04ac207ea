"""Commits: for one run in short, for one, for many."""

from __future__ import annotations

from .parts import LIVE, MAIL_ARRAYS, PROBED, STATUS, TELL, Columns, asked, mail_of, told

__all__ = ["append", "commit", "finish"]

_GUARD = f"r.run_id = a.run_id AND r.fence = a.fence AND r.log_length = a.expected AND {STATUS} = 'running'"

# A commit of a record or two that consumes nothing, in the middle of a run or at its end: nearly all of them, when runs
# come one by one. So there are texts for just these, little more than an UPDATE and an INSERT; they answer with a row
# for each record. The row is locked in a scalar subselect, which costs a third less to set up than a join with it does.


def _short(changes: str, records: int, first: int) -> str:
    """$1 run_id, $2 fence, $3 expected, $4 now, $5 state, what the changes need, event and payload of each record."""
    rows = ", ".join(f"($3 + {n}, ${first + 2 * n}::text, ${first + 2 * n + 1}::text)" for n in range(records))
    return f"""
WITH moved AS (
    UPDATE :"schema".workflow_runs r SET
        log_length = r.log_length + {records}, state = coalesce($5::text, r.state),
        updated_at = $4::timestamptz, revision = r.revision + 1, {changes}
    WHERE r.run_id = (
        SELECT r.run_id FROM :"schema".workflow_runs r
        WHERE r.run_id = $1::text AND r.fence = $2::bigint AND r.log_length = $3::integer AND {STATUS} = 'running'
        FOR UPDATE SKIP LOCKED
    )
    RETURNING r.run_id, r.mail_count
)
INSERT INTO :"schema".workflow_log (run_id, idx, event, payload)
SELECT m.run_id, x.idx, x.event, x.payload FROM moved m, (VALUES {rows}) AS x(idx, event, payload)
RETURNING (SELECT m.mail_count FROM moved m)"""


def append(records: int) -> str:
    """The run goes on. $6 until."""
    return _short("due_at = $6::timestamptz, wake_at = least(r.wake_at, $6)", records, 7)


def finish(records: int) -> str:
    """The run ends. $6 status, $7 waits, $8 wait_keys, $9 output, $10 error, $11 recoveries."""
    changes = """status = $6::text, completed_at = $4, due_at = NULL, wake_at = NULL, owner = NULL,
        waits = CASE WHEN $8::text IS NULL THEN r.waits ELSE $7::text END,
        wait_keys = CASE WHEN $8 IS NULL THEN r.wait_keys ELSE $8::text[] END,
        output = $9::text, error = $10::text, recoveries = coalesce($11::integer, r.recoveries)"""
    return _short(changes, records, 12)


_COMMIT: Columns = (
    ("run_id", "text"),
    ("fence", "bigint"),
    ("expected", "integer"),
    ("added", "integer"),
    ("now", "timestamptz"),
    ("until", "timestamptz"),
    ("seen", "integer"),
    ("consumed", "text"),
    ("state", "text"),
)
_RECORDS: Columns = (("records", "jsonb"),)
# All null where a commit goes on.
_TRANSITION: Columns = (
    ("status", "text"),
    ("due_at", "timestamptz"),
    ("waits", "text"),
    ("wait_keys", "text"),
    ("output", "text"),
    ("error", "text"),
    ("recoveries", "integer"),
)
_NEWS = """m.unread > 0 AND m.completed_at IS NULL
    AND l.seq > m.seen AND l.seq <> ALL (coalesce(m.consumed, '{}')::integer[])"""


def commit(*, many: bool) -> str:
    """Commits of different runs, each for itself: what does not satisfy its guard is left out, the others go on.

    The records are two arrays for one commit, an array of pairs in each of many. `unread` is how much mail there is
    after what the drive has seen, less what is consumed, by the row's own count.
    """
    if many:
        columns, keeps = (*_COMMIT, *_RECORDS, *_TRANSITION), ", h.records"
        records = "x.v->>0, x.v->>1 FROM moved m, jsonb_array_elements(m.records) WITH ORDINALITY AS x(v, n)"
    else:
        columns, keeps = (*_COMMIT, *_TRANSITION), ""
        arrays = f"${len(columns) + 1}::text[], ${len(columns) + 2}::text[]"
        records = f"x.event, x.payload FROM moved m, unnest({arrays}) WITH ORDINALITY AS x(event, payload, n)"
    return f"""
WITH asked AS ({asked(columns, many=many)}),
held AS MATERIALIZED (
    SELECT a.*, r.unread FROM asked a CROSS JOIN LATERAL (
        SELECT CASE WHEN r.mail_count <= a.seen THEN 0 ELSE r.mail_count - a.seen - (
            SELECT count(*) FROM :"schema".workflow_mail l WHERE l.run_id = a.run_id AND l.seq > a.seen
                AND (l.payload IS NULL OR l.seq = ANY (a.consumed::integer[]))
        ) END AS unread
        FROM :"schema".workflow_runs r WHERE {_GUARD} FOR UPDATE SKIP LOCKED
    ) r
),
moved AS (
    UPDATE :"schema".workflow_runs r SET
        log_length = r.log_length + h.added,
        updated_at = h.now,
        revision = r.revision + 1,
        state = coalesce(h.state, r.state),
        status = CASE WHEN k.stays THEN r.status ELSE h.status END,
        due_at = CASE WHEN k.stays THEN h.until ELSE h.due_at END,
        wake_at = CASE WHEN k.stays THEN least(r.wake_at, h.until) ELSE h.due_at END,
        owner = CASE WHEN k.stays THEN r.owner END,
        waits = CASE WHEN k.stays OR h.wait_keys IS NULL THEN r.waits ELSE h.waits END,
        wait_keys = CASE WHEN k.stays OR h.wait_keys IS NULL THEN r.wait_keys ELSE h.wait_keys::text[] END,
        output = CASE WHEN k.stays THEN r.output ELSE h.output END,
        error = CASE WHEN k.stays THEN r.error ELSE h.error END,
        recoveries = CASE WHEN k.stays THEN r.recoveries ELSE coalesce(h.recoveries, r.recoveries) END,
        completed_at = CASE WHEN h.status IN {LIVE} THEN NULL WHEN NOT k.stays THEN h.now END
    FROM held h CROSS JOIN LATERAL (SELECT h.status IS NULL OR (h.status = 'paused' AND h.unread > 0) AS stays) AS k
    WHERE r.run_id = h.run_id AND {PROBED}
    RETURNING h.n, r.run_id, r.workflow_id, r.status, r.completed_at, h.unread, h.seen, h.consumed,
        h.expected{keeps}
),
appended AS (
    INSERT INTO :"schema".workflow_log (run_id, idx, event, payload)
    SELECT m.run_id, m.expected + x.n - 1, {records}
),
consumed AS (
    UPDATE :"schema".workflow_mail l SET payload = NULL, name = NULL
    FROM moved m
    WHERE m.consumed IS NOT NULL AND l.run_id = m.run_id AND l.seq = ANY (m.consumed::integer[])
        AND l.payload IS NOT NULL
), {told("moved")}
SELECT m.n, m.status <> 'running', CASE WHEN m.completed_at IS NULL THEN m.unread ELSE 0 END, {MAIL_ARRAYS}, {TELL}
FROM moved m CROSS JOIN {mail_of("m", _NEWS)} news"""
