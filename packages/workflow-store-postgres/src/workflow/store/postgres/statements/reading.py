"""Looking at runs, which locks nothing."""

from __future__ import annotations

from .parts import MAIL_ARRAYS, asked, columns_of, hidden, lanes, log_of, mail_of

__all__ = ["GET", "LIST", "LOOK", "NEXT_DUE", "READ_LOG", "VERSION"]

GET = f'SELECT {columns_of("r")} FROM :"schema".workflow_runs r WHERE r.run_id = $1::text'

READ_LOG = """
SELECT l.idx, l.event, l.payload FROM :"schema".workflow_log l
WHERE l.run_id = $1::text AND l.idx > $2::integer ORDER BY l.idx LIMIT $3::bigint"""

# Runs with the mail after what each asker has seen, and with their logs where wanted: all of one snapshot.
LOOK = f"""
WITH asked AS MATERIALIZED ({asked((("run_id", "text"), ("seen", "integer")), many=True)})
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


def _next(status: str, which: str, order: str) -> str:
    rows = f"""FROM :"schema".workflow_runs r
     WHERE r.workflow_id = w.workflow_id AND r.status = {status} AND {which} AND r.wake_at IS NOT NULL"""
    return f"(SELECT min(r.due_at) {rows})" if not order else f"(SELECT r.due_at {rows} ORDER BY {order} LIMIT 1)"


_NAMED = "r.queue = w.queue"

NEXT_DUE = f"""
WITH RECURSIVE {lanes("$1", "$2")}
SELECT min(due.at) FROM (
    SELECT due.at FROM own w CROSS JOIN LATERAL (
        {_next("'queued'", "r.queue IS NULL", "r.queue, r.wake_at")}
        UNION ALL {_next("'paused'", "r.queue IS NULL", "r.queue, r.wake_at")}
        UNION ALL {_next("'running'", "r.queue IS NULL", "")}
    ) AS due(at)
    UNION ALL
    SELECT due.at FROM lanes w CROSS JOIN LATERAL {_next("w.status", _NAMED, "r.wake_at")} AS due(at)
    WHERE w.status <> 'running' AND w.queue <> ALL ({hidden("$2", "text[]")})
    UNION ALL
    SELECT due.at FROM lanes w CROSS JOIN LATERAL {_next("w.status", _NAMED, "")} AS due(at)
    WHERE w.status = 'running' AND w.queue <> ALL ({hidden("$2", "text[]")})
) AS due"""

VERSION = 'SELECT max(v.version), max(v.works_from) FROM :"schema".workflow_schema v'
