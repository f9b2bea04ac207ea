"""Commits: for one run in short, for one, for many."""

from __future__ import annotations

from .parts import LIVE, MAIL_ARRAYS, STATUS, TELL, Columns, arrays, asked, mail_of, names, scalars, told

__all__ = ["APPEND", "FINISH", "commit"]

_GUARD = f"r.run_id = a.run_id AND r.fence = a.fence AND r.log_length = a.expected AND {STATUS} = 'running'"

# A commit of records that consumes nothing, in the middle of a run or at its end: nearly all of them, when runs come one
# by one. So these two have texts of their own, little more than an UPDATE and an INSERT. They answer with a row for each
# record. The row is looked up and locked by a scalar subselect, which costs a third less to set up than a join does.


def _short(changes: str) -> str:
    """$1 run_id, $2 fence, $3 expected, $4 now, $5 state, $6 events, $7 payloads, and what the changes need."""
    return f"""
WITH moved AS (
    UPDATE :"schema".workflow_runs r SET
        log_length = r.log_length + cardinality($6::text[]), state = coalesce($5::text, r.state),
        updated_at = $4::timestamptz, revision = r.revision + 1, {changes}
    WHERE r.run_id = (
        SELECT r.run_id FROM :"schema".workflow_runs r
        WHERE r.run_id = $1::text AND r.fence = $2::bigint AND r.log_length = $3::integer AND {STATUS} = 'running'
        FOR UPDATE SKIP LOCKED
    )
    RETURNING r.run_id, r.mail_count
)
INSERT INTO :"schema".workflow_log (run_id, idx, event, payload)
SELECT m.run_id, $3 + x.n - 1, x.event, x.payload
FROM moved m, unnest($6, $7::text[]) WITH ORDINALITY AS x(event, payload, n)
RETURNING (SELECT m.mail_count FROM moved m)"""


APPEND = _short("due_at = $8::timestamptz, wake_at = least(r.wake_at, $8)")
FINISH = _short("""status = $8::text, completed_at = $4, due_at = NULL, wake_at = NULL, owner = NULL,
        waits = CASE WHEN $10::text IS NULL THEN r.waits ELSE $9::text END,
        wait_keys = CASE WHEN $10 IS NULL THEN r.wait_keys ELSE $10::text[] END,
        output = $11::text, error = $12::text, recoveries = coalesce($13::integer, r.recoveries)""")

_COMMIT: Columns = (
    ("run_id", "text"),
    ("fence", "bigint"),
    ("expected", "integer"),
    ("added", "integer"),
    ("now", "timestamptz"),
    ("until", "timestamptz"),
    ("seen", "integer"),
    ("consumed", "text"),
)
_STATE: Columns = (("n", "bigint"), ("state", "text"))
_TRANSITION: Columns = (
    ("n", "bigint"),
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
_RECORD: Columns = (("n", "bigint"), ("idx", "integer"), ("event", "text"), ("payload", "text"))


def commit(*, many: bool) -> str:
    """Commits of different runs, each for itself: what does not satisfy its guard is left out, the others go on.

    `unread` is how much mail there is after what the drive has seen, less what is consumed, by the row's own count.
    """
    state, transition, record = 9, 11, 19
    if many:
        extras = f"""
        LEFT JOIN unnest({arrays(_STATE, state)}) AS s({names(_STATE)}) ON s.n = h.n
        LEFT JOIN unnest({arrays(_TRANSITION, transition)}) AS t({names(_TRANSITION)}) ON t.n = h.n"""
    else:
        extras = f"""
        CROSS JOIN (SELECT {scalars(_STATE, state)}) AS s
        CROSS JOIN (SELECT {scalars(_TRANSITION, transition)}) AS t"""
    return f"""
WITH asked AS ({asked(_COMMIT, many=many)}),
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
        state = coalesce(s.state, r.state),
        status = CASE WHEN k.stays THEN r.status ELSE t.status END,
        due_at = CASE WHEN k.stays THEN h.until ELSE t.due_at END,
        wake_at = CASE WHEN k.stays THEN least(r.wake_at, h.until) ELSE t.due_at END,
        owner = CASE WHEN k.stays THEN r.owner END,
        waits = CASE WHEN k.stays OR t.wait_keys IS NULL THEN r.waits ELSE t.waits END,
        wait_keys = CASE WHEN k.stays OR t.wait_keys IS NULL THEN r.wait_keys ELSE t.wait_keys::text[] END,
        output = CASE WHEN k.stays THEN r.output ELSE t.output END,
        error = CASE WHEN k.stays THEN r.error ELSE t.error END,
        recoveries = CASE WHEN k.stays THEN r.recoveries ELSE coalesce(t.recoveries, r.recoveries) END,
        completed_at = CASE WHEN t.status IN {LIVE} THEN NULL WHEN NOT k.stays THEN h.now END
    FROM held h {extras}
        CROSS JOIN LATERAL (SELECT t.status IS NULL OR (t.status = 'paused' AND h.unread > 0) AS stays) AS k
    WHERE r.run_id = h.run_id
    RETURNING h.n, r.run_id, r.workflow_id, r.status, r.completed_at, h.unread, h.seen, h.consumed
),
appended AS (
    INSERT INTO :"schema".workflow_log (run_id, idx, event, payload)
    SELECT m.run_id, x.idx, x.event, x.payload
    FROM unnest({arrays(_RECORD, record)}) AS x({names(_RECORD)}) JOIN moved m ON m.n = x.n
),
consumed AS (
    UPDATE :"schema".workflow_mail l SET payload = NULL, name = NULL
    FROM moved m
    WHERE m.consumed IS NOT NULL AND l.run_id = m.run_id AND l.seq = ANY (m.consumed::integer[])
        AND l.payload IS NOT NULL
), {told("moved")}
SELECT m.n, m.status <> 'running', CASE WHEN m.completed_at IS NULL THEN m.unread ELSE 0 END, {MAIL_ARRAYS}, {TELL}
FROM moved m CROSS JOIN {mail_of("m", _NEWS)} news"""
