"""Mail."""

from __future__ import annotations

from workflow.store.postgres.rows import RUN_COLUMNS

from .parts import LIVE, MAIL_ARRAYS, PROBED, TELL, Columns, asked, columns_of, log_of, mail_of, told

__all__ = ["deliver"]

# -- Delivering: owner and until are null where the run is not to be claimed.

_SENT: Columns = (
    ("run_id", "text"),
    ("kind", "text"),
    ("id", "text"),
    ("name", "text"),
    ("payload", "text"),
    ("key", "text"),
    ("now", "timestamptz"),
    ("owner", "text"),
    ("until", "timestamptz"),
)


def _coalesced(first: str, second: str) -> str:
    return ", ".join(f"CASE WHEN {first}.n IS NULL THEN {second}.{c} ELSE {first}.{c} END" for c in RUN_COLUMNS)


def deliver(*, many: bool) -> str:
    """Mail for different runs. For each: whether the row was found and locked, and what became of the mail.

    Whether it is a duplicate is decided by the primary key, under the lock on the run: a conflict is seen even where
    the snapshot does not show the other mail yet.
    """
    return f"""
WITH asked AS MATERIALIZED ({asked(_SENT, many=many)}),
held AS MATERIALIZED (
    SELECT a.n, a.kind, a.id, a.name, a.payload, a.now, a.owner AS new_owner, a.until,
        r.*, r.status IN {LIVE} AS live, a.kind = 'cancel' OR a.key = ANY (r.wait_keys) AS awaited
    FROM asked a CROSS JOIN LATERAL (
        SELECT * FROM :"schema".workflow_runs r WHERE r.run_id = a.run_id FOR UPDATE SKIP LOCKED
    ) r
),
written AS (
    INSERT INTO :"schema".workflow_mail AS l (run_id, kind, id, seq, name, payload, sent_at)
    SELECT h.run_id, h.kind, h.id, h.mail_count + 1, h.name, h.payload, h.now FROM held h WHERE h.live
    ON CONFLICT (run_id, kind, id) DO NOTHING
    RETURNING l.run_id, l.seq
),
moved AS (
    UPDATE :"schema".workflow_runs r SET
        mail_count = k.seq,
        updated_at = k.now,
        revision = r.revision + 1,
        status = CASE WHEN k.claims THEN 'running' WHEN k.wakes THEN 'queued' ELSE r.status END,
        due_at = CASE WHEN k.claims THEN k.until WHEN k.wakes THEN k.now ELSE r.due_at END,
        wake_at = CASE WHEN k.claims THEN k.until WHEN k.wakes THEN k.now ELSE r.wake_at END,
        owner = CASE WHEN k.claims THEN k.new_owner ELSE r.owner END,
        fence = CASE WHEN k.claims THEN r.fence + 1 ELSE r.fence END,
        started_at = CASE WHEN k.claims THEN coalesce(r.started_at, k.now) ELSE r.started_at END
    FROM (
        SELECT h.n, h.run_id, h.now, h.until, h.new_owner, w.seq,
            h.awaited AND (h.status = 'paused' OR (h.status = 'queued' AND h.due_at > h.now)) AS wakes,
            h.new_owner IS NOT NULL AND (
                (h.status = 'paused' AND h.awaited)
                OR (h.status = 'queued' AND (h.awaited OR h.due_at <= h.now))
            ) AS claims
        FROM written w JOIN held h ON h.run_id = w.run_id
    ) k
    WHERE r.run_id = k.run_id AND {PROBED}
    RETURNING k.n, k.claims, k.wakes, {columns_of("r")}
),
woken AS (SELECT m.workflow_id, m.status FROM moved m WHERE m.wakes),
{told("woken")}
SELECT {_coalesced("m", "h")}, {MAIL_ARRAYS}, log.events, log.payloads,
    a.n, m.n IS NOT NULL AS accepted, h.awaited, m.claims, h.n IS NOT NULL AS locked, s.revision IS NOT NULL AS known,
    h.revision = s.revision AS fresh,
    m.n IS NULL AND EXISTS (
        SELECT FROM :"schema".workflow_mail l WHERE l.run_id = a.run_id AND l.kind = a.kind AND l.id = a.id
    ) AS repeated, {TELL}
FROM asked a
LEFT JOIN held h ON h.n = a.n
LEFT JOIN moved m ON m.n = a.n
LEFT JOIN LATERAL (SELECT s.revision FROM :"schema".workflow_runs s WHERE s.run_id = a.run_id LIMIT 1) s ON true
CROSS JOIN {log_of("m", "m.claims")} log
CROSS JOIN {mail_of("m", "m.claims")} news"""
