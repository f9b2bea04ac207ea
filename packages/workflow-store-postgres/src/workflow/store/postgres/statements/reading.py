"""Looking at runs, which locks nothing."""

from __future__ import annotations

from .parts import MAIL_ARRAYS, columns_of, log_of, mail_of

__all__ = ["GET", "LIST", "LOOK", "NEXT_DUE", "READ_LOG", "VERSION"]

GET = f'SELECT {columns_of("r")} FROM :"schema".workflow_runs r WHERE r.run_id = $1::text'

READ_LOG = """
SELECT l.idx, l.event, l.payload FROM :"schema".workflow_log l
WHERE l.run_id = $1::text AND l.idx > $2::integer ORDER BY l.idx LIMIT $3::bigint"""

# Runs with the mail after what each asker has seen, and with their logs where wanted: all of one snapshot.
LOOK = f"""
WITH asked AS MATERIALIZED (SELECT * FROM unnest($1::text[], $2::integer[]) AS a(run_id, seen))
SELECT {columns_of("r")}, {MAIL_ARRAYS}, log.events, log.payloads
FROM asked a
CROSS JOIN LATERAL (SELECT * FROM :"schema".workflow_runs r WHERE r.run_id = a.run_id LIMIT 1) r
CROSS JOIN {mail_of("a", "l.seq > a.seen")} news
CROSS JOIN {log_of("a", "$3::boolean")} log"""

LIST = f"""
SELECT {columns_of("r")}
FROM unnest($1::text[]) AS s(status)
CROSS JOIN LATERAL (
    SELECT * FROM :"schema".workflow_runs r
    WHERE r.status = s.status AND %s
        AND ($3::timestamptz IS NULL OR r.created_at >= $3) AND ($4::timestamptz IS NULL OR r.created_at < $4)
        AND ($5::timestamptz IS NULL OR (r.created_at, r.run_id) < ($5, $6::text))
    ORDER BY r.created_at DESC, r.run_id DESC LIMIT $2::bigint
) r
ORDER BY r.created_at DESC, r.run_id DESC LIMIT $2"""

# A queued or paused run has the same wake_at and due_at: one probe each. A running one may be due later than wake_at
# says, so all of them are asked; they are as few as what is going on at the moment.
NEXT_DUE = """
SELECT min(due.at) FROM unnest($1::text[]) AS w(id) CROSS JOIN LATERAL (
    (SELECT r.due_at FROM :"schema".workflow_runs r
     WHERE r.workflow_id = w.id AND r.status = 'queued' AND r.wake_at IS NOT NULL ORDER BY r.wake_at LIMIT 1)
    UNION ALL
    (SELECT r.due_at FROM :"schema".workflow_runs r
     WHERE r.workflow_id = w.id AND r.status = 'paused' AND r.wake_at IS NOT NULL ORDER BY r.wake_at LIMIT 1)
    UNION ALL
    (SELECT min(r.due_at) FROM :"schema".workflow_runs r
     WHERE r.workflow_id = w.id AND r.status = 'running' AND r.wake_at IS NOT NULL)
) AS due(at)"""

VERSION = 'SELECT max(v.version), max(v.works_from) FROM :"schema".workflow_schema v'
