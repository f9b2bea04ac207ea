"""Taking runs, and keeping them."""

from __future__ import annotations

from .parts import LIVE, MAIL_ARRAYS, PROBED, STATUS, asked, columns_of, hidden, lanes, log_of, mail_of

__all__ = ["CLAIM", "CLAIM_DUE", "CLAIM_RUN", "HELD", "RENEW"]

# -- Claiming: $1 owner, $2 until, $3 now; `picked` is a CTE that locks what is claimed. What has moved since the
# -- snapshot is left, locked and untouched: its log and its mail would be read as they were before. The revision tells:
# -- `r` is the row as the snapshot has it, `p` as it is now.

_WHOLE_LOG = "l.idx >= 0 AND l.idx < c.log_length"
"""All of it. By the two bounds the planner expects few records, and reads them in the order of the index: no sort."""

CLAIM = f"""
, claimed AS (
    UPDATE :"schema".workflow_runs r SET
        status = 'running', owner = $1::text, due_at = $2::timestamptz, wake_at = $2, fence = r.fence + 1,
        started_at = coalesce(r.started_at, $3::timestamptz), updated_at = $3,
        recoveries = r.recoveries + CASE WHEN r.status = 'running' THEN 1 ELSE 0 END, revision = r.revision + 1
    FROM picked p
    WHERE r.run_id = p.run_id AND r.revision = p.revision AND {PROBED}
    RETURNING {columns_of("r")}, p.status AS claimed_from, p.due_at AS was_due
)
SELECT {columns_of("c")}, {MAIL_ARRAYS}, log.events, log.payloads, c.claimed_from
FROM claimed c CROSS JOIN {log_of("c", _WHOLE_LOG)} log CROSS JOIN {mail_of("c")} news
ORDER BY c.was_due, c.run_id"""

CLAIM_RUN = f"""
WITH picked AS (
    SELECT r.run_id, r.status, r.due_at, r.revision FROM :"schema".workflow_runs r
    WHERE r.run_id = $4::text AND {STATUS} IN {LIVE} AND ($5::boolean OR r.due_at <= $3::timestamptz)
    FOR UPDATE SKIP LOCKED
){CLAIM}"""


def _due(status: str, limit: str, candidates: str) -> str:
    """The longest due of a status, locked. More candidates than wanted are looked at: rivals hold some of them."""
    due = f"""SELECT r.run_id, r.due_at FROM :"schema".workflow_runs r
            WHERE r.workflow_id = w.workflow_id AND r.status = '{status}' AND r.wake_at <= {hidden("$3", "timestamptz")}
                AND r.due_at <= $3"""
    return f"""(
    SELECT r.run_id, r.status, r.due_at, r.revision
    FROM (
        SELECT c.run_id, c.due_at FROM own w CROSS JOIN LATERAL (
            {due} AND r.queue IS NULL ORDER BY r.queue, r.wake_at LIMIT {candidates}
        ) c
        UNION ALL
        SELECT c.run_id, c.due_at FROM lanes w CROSS JOIN LATERAL (
            {due} AND r.queue = w.queue ORDER BY r.wake_at LIMIT {candidates}
        ) c WHERE w.status = '{status}' AND w.queue <> ALL ({hidden("$8", "text[]")})
        ORDER BY due_at, run_id LIMIT {candidates}
    ) c CROSS JOIN LATERAL (
        SELECT * FROM :"schema".workflow_runs r
        WHERE r.run_id = c.run_id AND {STATUS} = '{status}' AND r.due_at <= $3
        FOR UPDATE SKIP LOCKED
    ) r LIMIT {limit}
)"""


CLAIM_DUE = f"""
WITH RECURSIVE {lanes("$4", "$8")},
recovered AS MATERIALIZED {_due("running", "$5::bigint", "CASE WHEN $5 = 0 THEN 0 ELSE $5 * 4 + 64 END")},
ready AS MATERIALIZED {_due("queued", "$6::bigint", "$6 * 4")},
timers AS MATERIALIZED {_due("paused", "$7::bigint", "$7 * 4")},
picked AS (SELECT * FROM recovered UNION ALL SELECT * FROM ready UNION ALL SELECT * FROM timers){CLAIM}"""

# -- Renewing: $1 and $2 leases, $3 until.

_HELD = asked((("run_id", "text"), ("fence", "bigint")), many=True)
_STILL_HELD = f"r.run_id = a.run_id AND r.fence = a.fence AND {STATUS} = 'running'"

RENEW = f"""
WITH held AS MATERIALIZED (
    SELECT r.run_id FROM ({_HELD}) a CROSS JOIN LATERAL (
        SELECT r.run_id FROM :"schema".workflow_runs r WHERE {_STILL_HELD} FOR UPDATE SKIP LOCKED
    ) r
)
UPDATE :"schema".workflow_runs r SET due_at = $3::timestamptz, wake_at = $3
FROM held h WHERE r.run_id = h.run_id AND {PROBED}
RETURNING r.run_id, r.fence, r.mail_count"""

HELD = f"""
SELECT r.run_id, r.fence, r.mail_count
FROM ({_HELD}) a CROSS JOIN LATERAL (
    SELECT * FROM :"schema".workflow_runs r WHERE {_STILL_HELD} LIMIT 1
) r"""
