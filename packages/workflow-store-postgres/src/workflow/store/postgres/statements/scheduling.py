"""Schedules, and runs that are ended or reopened by hand.

Whoever moves a schedule holds the lock on its row; `revision` says whether it is still the one that was seen. A commit
that only starts runs is one statement. One that also cancels or ends runs is a transaction: the same statement first,
then these runs are locked (and passed over, never waited for: if one is held by another, all is undone, and tried again
a moment later), then they are delivered to and ended.
"""

from __future__ import annotations

from .creating import NEW, PATIENCE
from .parts import LIVE, STATUS, TELL, Columns, arrays, columns_of, names, told

__all__ = [
    "ALL_SCHEDULES",
    "LIST_TICKS",
    "LOCK_RUNS",
    "READ_SCHEDULES",
    "REOPEN",
    "TERMINATE",
    "THESE_SCHEDULES",
    "move_schedule",
]

READ_SCHEDULES = """
SELECT s.workflow_id, s.schedule_id, s.revision, s.due_at, s.paused, s.data, s.created_at, s.updated_at, active.run_ids
FROM %s
CROSS JOIN LATERAL (
    SELECT array_agg(r.run_id ORDER BY r.created_at, r.run_id) AS run_ids FROM :"schema".workflow_runs r
    WHERE r.workflow_id = s.workflow_id AND r.schedule_id = s.schedule_id AND r.completed_at IS NULL
) active
ORDER BY s.workflow_id, s.schedule_id"""

ALL_SCHEDULES = ':"schema".workflow_schedules s'
THESE_SCHEDULES = """(SELECT DISTINCT * FROM unnest($1::text[], $2::text[]) AS a(workflow_id, schedule_id)) a
CROSS JOIN LATERAL (
    SELECT * FROM :"schema".workflow_schedules s
    WHERE s.workflow_id = a.workflow_id AND s.schedule_id = a.schedule_id LIMIT 1
) s"""

LIST_TICKS = """
SELECT t.revision, t.n, t.tick_at, t.outcome, t.at, t.run_id, t.until, t.detail FROM :"schema".workflow_ticks t
WHERE t.workflow_id = $1::text AND t.schedule_id = $2::text
    AND ($3::bigint IS NULL OR (t.revision, t.n) < ($3, $4::integer))
ORDER BY t.revision DESC, t.n DESC LIMIT $5::bigint"""

# $1 workflow_id, $2 schedule_id, $3 expected revision, $4 now, $5 due_at, $6 paused, $7 data, $8 kept revisions; then
# the ticks, the runs to start, and the records of their logs, as arrays.
_TICK: Columns = (
    ("tick_at", "timestamptz"),
    ("outcome", "text"),
    ("at", "timestamptz"),
    ("tick_run_id", "text"),
    ("until", "timestamptz"),
    ("detail", "text"),
)
_START: Columns = (
    *(column for column in NEW if column[0] not in ("now", "owner", "until")),
    ("state", "text"),
    ("log_length", "integer"),
)
_RECORD: Columns = (("run_id", "text"), ("idx", "integer"), ("event", "text"), ("payload", "text"))


def move_schedule() -> str:
    ticks, starts, records = 9, 9 + len(_TICK), 9 + len(_TICK) + len(_START)
    return f"""
WITH {PATIENCE}moved AS (
    UPDATE :"schema".workflow_schedules s SET
        revision = s.revision + 1, due_at = $5::timestamptz, paused = $6::boolean, data = $7::text,
        updated_at = $4::timestamptz
    WHERE s.workflow_id = $1::text AND s.schedule_id = $2::text AND s.revision = $3::bigint
    RETURNING s.revision
),
made AS (
    INSERT INTO :"schema".workflow_schedules AS s
        (workflow_id, schedule_id, revision, due_at, paused, data, created_at, updated_at)
    SELECT $1, $2, 1, $5, $6, $7, $4, $4 WHERE $3 = 0
    ON CONFLICT (workflow_id, schedule_id) DO NOTHING
    RETURNING s.revision
),
done AS (SELECT m.revision FROM moved m UNION ALL SELECT m.revision FROM made m),
ticked AS (
    INSERT INTO :"schema".workflow_ticks
        (workflow_id, schedule_id, revision, n, tick_at, outcome, at, run_id, until, detail)
    SELECT $1, $2, d.revision, t.n - 1, t.tick_at, t.outcome, t.at, t.tick_run_id, t.until, t.detail
    FROM done d, unnest({arrays(_TICK, ticks)}) WITH ORDINALITY AS t({names(_TICK)}, n)
),
forgotten AS (
    DELETE FROM :"schema".workflow_ticks t USING done d
    WHERE t.workflow_id = $1 AND t.schedule_id = $2 AND t.revision <= d.revision - $8::bigint
),
created AS (
    INSERT INTO :"schema".workflow_runs AS r ({names(_START)}, created_at, updated_at, wake_at, status)
    SELECT {", ".join(f"a.{name}" for name, _ in _START)}, $4, $4, a.due_at, 'queued'
    FROM patience, done d, unnest({arrays(_START, starts)}) AS a({names(_START)}) ORDER BY a.run_id
    ON CONFLICT (run_id) DO NOTHING
    RETURNING r.run_id, r.workflow_id, r.status
),
appended AS (
    INSERT INTO :"schema".workflow_log (run_id, idx, event, payload)
    SELECT c.run_id, x.idx, x.event, x.payload
    FROM created c JOIN unnest({arrays(_RECORD, records)}) AS x({names(_RECORD)}) ON x.run_id = c.run_id
), {told("created")}
SELECT d.revision, {TELL} FROM done d"""


# The rows of $1 that are locked now, and those that there are.
LOCK_RUNS = """
WITH asked AS MATERIALIZED (SELECT DISTINCT a.run_id FROM unnest($1::text[]) AS a(run_id)),
held AS MATERIALIZED (
    SELECT r.run_id FROM asked a CROSS JOIN LATERAL (
        SELECT r.run_id FROM :"schema".workflow_runs r WHERE r.run_id = a.run_id FOR UPDATE SKIP LOCKED
    ) r
)
SELECT (SELECT count(*) FROM held), count(r.run_id)
FROM asked a CROSS JOIN LATERAL (
    SELECT r.run_id FROM :"schema".workflow_runs r WHERE r.run_id = a.run_id LIMIT 1
) r"""

# What a fence grows by, so that no former owner finds its commit applied. A run that was never claimed has none.
_ANOTHER = "CASE WHEN r.fence > 0 THEN 1 ELSE 0 END"

# $1 run_ids, $2 now, $3 the last event of each. The rows are locked.
TERMINATE = f"""
WITH ended AS (
    UPDATE :"schema".workflow_runs r SET
        status = 'cancelled', completed_at = $2::timestamptz, updated_at = $2, due_at = NULL, wake_at = NULL,
        owner = NULL, waits = NULL, wait_keys = '{{}}', log_length = r.log_length + 1, revision = r.revision + 1,
        fence = r.fence + {_ANOTHER}
    FROM (SELECT DISTINCT a.run_id FROM unnest($1::text[]) AS a(run_id)) a
    WHERE r.run_id = a.run_id AND {STATUS} IN {LIVE}
    RETURNING r.run_id, r.log_length
)
INSERT INTO :"schema".workflow_log (run_id, idx, event)
SELECT e.run_id, e.log_length - 1, $3::text FROM ended e"""

# $1 run_id, $2 expected index, $3 now, $4 expires_at, $5 event, $6 payload, $7-$10 kind, id, name and payload of mail.
# Mail that is forgotten, or comes again, leaves its mark under a name that no other has: `seq` has no gaps.
REOPEN = f"""
WITH held AS MATERIALIZED (
    SELECT r.run_id, r.mail_count FROM :"schema".workflow_runs r
    WHERE r.run_id = $1::text AND r.log_length = $2::integer AND {STATUS} IN ('errored', 'cancelled')
    FOR UPDATE SKIP LOCKED
),
forgotten AS (
    UPDATE :"schema".workflow_mail l SET kind = 'forgotten', id = l.seq::text, name = NULL, payload = NULL
    FROM held h
    WHERE l.run_id = h.run_id AND (
        l.kind = 'cancel' OR (l.kind, l.id) IN (SELECT * FROM unnest($7::text[], $8::text[]))
    )
    RETURNING l.seq
),
written AS (
    INSERT INTO :"schema".workflow_mail (run_id, kind, id, seq, name, payload, sent_at)
    SELECT h.run_id, x.kind, x.id, h.mail_count + x.n, x.name, x.payload, $3::timestamptz
    FROM (SELECT count(*) FROM forgotten) first, held h,
        unnest($7, $8, $9::text[], $10::text[]) WITH ORDINALITY AS x(kind, id, name, payload, n)
),
moved AS (
    UPDATE :"schema".workflow_runs r SET
        status = 'queued', due_at = $3, wake_at = $3, updated_at = $3, completed_at = NULL, error = NULL,
        waits = NULL, wait_keys = '{{}}', recoveries = 0, expires_at = $4::timestamptz, fence = r.fence + {_ANOTHER},
        log_length = r.log_length + 1, mail_count = r.mail_count + cardinality($7), revision = r.revision + 1
    FROM held h WHERE r.run_id = h.run_id
    RETURNING {columns_of("r")}
),
appended AS (
    INSERT INTO :"schema".workflow_log (run_id, idx, event, payload)
    SELECT m.run_id, $2, $5::text, $6::text FROM moved m
), {told("moved")}
SELECT {columns_of("m")}, {TELL} FROM moved m"""
