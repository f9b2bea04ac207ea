"""Queues with limits: what may be claimed of one, and the claim.

Two statements of one transaction, which holds the queue's advisory lock. The first looks: what the queue's limits have
left, and the runs that are due, in order, each with what its key has used. The second claims what the store has chosen
of these. Nobody else takes slots meanwhile, for all who know the limits ask for the lock; others can only free some.

Every count stops at its limit, and every list is a page, so neither grows with the queue. A page may be full of runs
whose keys have no room; then the store asks a second time, `by_keys`: the keys are found by leaping from one to the
next in an index, and of each come as many runs as it has room for. So a flood of one key hides nobody.

Runs that are in the queue only because it is named like their workflow were created before it had limits. They are
found by the index of due runs, by age; those that are running (or, of what holds a slot until its end, have a due time)
are counted, and their starts are not.
"""

from __future__ import annotations

from .claiming import CLAIM
from .parts import LIVE, STATUS

__all__ = ["CLAIM_CHOSEN", "LOCK_QUEUE", "by_keys", "by_order", "by_run"]

LOCK_QUEUE = "SELECT pg_advisory_xact_lock($1::bigint)"

# What all have: $1 now, $2 workflow_ids, $3 queue, $4 page, $5 by_age, $6 passed over, $7 whether slots are held until
# the end, $8 concurrency, $9 that of a key, $10 rate, $11 since when it counts, $12 that of a key, $13 since when.

STAGE = "(CASE WHEN r.started_at IS NULL THEN 'new' ELSE r.status END)"
"""As in the indexes of queues; see the migration."""

_HOLDING = "(CASE WHEN $7::boolean THEN ARRAY['running', 'queued', 'paused'] ELSE ARRAY['running'] END)"
_STAGES = "unnest(ARRAY['running', 'new', 'queued', 'paused']) AS s(stage)"
_NAMED = "r.queue = $3::text AND r.completed_at IS NULL"
_UNNAMED = "r.workflow_id = $3::text AND r.queue IS NULL AND r.wake_at IS NOT NULL"
_DUE = """r.wake_at <= $1::timestamptz AND r.due_at <= $1
            AND r.workflow_id = ANY ($2::text[]) AND r.run_id <> ALL ($6::text[])"""
_FIELDS = f"r.run_id, r.key, r.priority, r.due_at, {STAGE} AS stage"


def _taken(limit: str, key: str = "") -> str:
    """How many slots are taken, as far as that matters."""
    return f"""(SELECT count(*) FROM (
        SELECT FROM :"schema".workflow_runs r WHERE {_NAMED} AND {STAGE} = ANY {_HOLDING}{key}
        UNION ALL
        SELECT FROM unnest({_HOLDING}) AS s(status) CROSS JOIN LATERAL (
            SELECT FROM :"schema".workflow_runs r
            WHERE {_UNNAMED} AND r.status = s.status AND r.started_at IS NOT NULL{key}
            ORDER BY r.queue, r.wake_at LIMIT {limit}
        ) unnamed
        LIMIT coalesce({limit}::integer, 0)
    ) taken)"""


def _started(limit: str, since: str, key: str = "") -> str:
    return f"""(SELECT count(*) FROM (
        SELECT FROM :"schema".workflow_runs r WHERE r.queue = $3 AND r.started_at > {since}::timestamptz{key}
        LIMIT coalesce({limit}::integer, 0)
    ) started)"""


_ROOM = f"""
used AS MATERIALIZED (SELECT {_taken("$8")} AS taken, {_started("$10", "$11")} AS started),
room AS MATERIALIZED (
    SELECT $8 - u.taken AS slots, $10 - u.started AS starts,
        u.taken < coalesce($8, 1) OR $7 AS goes_on, u.taken < coalesce($8, 1) AND u.started < coalesce($10, 1) AS begins
    FROM used u
)"""


def _page(stage: str) -> str:
    """How many of a stage to look at: none where there is no room for any."""
    return f"""(SELECT CASE {stage} WHEN 'running' THEN $4::bigint
        WHEN 'new' THEN CASE WHEN begins THEN $4 ELSE 0 END ELSE CASE WHEN goes_on THEN $4 ELSE 0 END END FROM room)"""


def _unnamed(limit: str) -> str:
    return f"""
    SELECT c.* FROM unnest(ARRAY[{LIVE[1:-1]}]) AS s(status) CROSS JOIN LATERAL (
        SELECT {_FIELDS} FROM :"schema".workflow_runs r
        WHERE {_UNNAMED} AND r.status = s.status AND {_DUE} AND (r.started_at IS NOT NULL OR (SELECT begins FROM room))
        ORDER BY r.queue, r.wake_at LIMIT {limit}
    ) c WHERE $3 = ANY ($2)"""


def _keys(of: str) -> str:
    """What each key has used, where that is limited."""
    key = " AND r.key = d.key"
    return f"""
keys AS MATERIALIZED (
    SELECT d.key, {_taken("$9", key)} AS taken, {_started("$12", "$13", key)} AS started
    FROM (SELECT DISTINCT k.key FROM {of} k WHERE k.key IS NOT NULL) d WHERE $9 IS NOT NULL OR $12 IS NOT NULL
)"""


_RANK = "CASE WHEN $5::boolean THEN 0 ELSE c.priority END DESC, c.due_at, c.run_id"
_ANSWER = f"""
SELECT c.run_id, c.key, c.stage, k.taken, k.started, room.slots, room.starts
FROM (SELECT c.*, row_number() OVER (PARTITION BY c.stage ORDER BY {_RANK}) AS place FROM candidates c) c
CROSS JOIN room LEFT JOIN keys k ON k.key = c.key
WHERE c.place <= $4
ORDER BY {_RANK}"""


def by_order() -> str:
    """The first page of what is due. The levels of priority are found by leaping, for some runs of each may sleep."""
    level = f'SELECT r.priority FROM :"schema".workflow_runs r WHERE {_NAMED}'
    last = "ORDER BY r.priority DESC LIMIT 1"
    return f"""
WITH RECURSIVE {_ROOM.strip()},
levels (stage, priority) AS (
    SELECT s.stage, p.priority FROM {_STAGES} CROSS JOIN LATERAL ({level} AND {STAGE} = s.stage {last}) p
    UNION ALL
    SELECT s.stage, p.priority FROM levels s
    CROSS JOIN LATERAL ({level} AND {STAGE} = s.stage AND r.priority < s.priority {last}) p
),
candidates AS MATERIALIZED (
    SELECT c.* FROM levels s CROSS JOIN LATERAL (
        SELECT {_FIELDS} FROM :"schema".workflow_runs r
        WHERE {_NAMED} AND {STAGE} = s.stage AND r.priority = s.priority AND {_DUE}
        ORDER BY r.wake_at, r.run_id LIMIT {_page("s.stage")}
    ) c
    UNION ALL{_unnamed("$4")}
),{_keys("candidates")}{_ANSWER}"""


def by_keys(*, by_age: bool) -> str:
    """Of each key what it has room for, and of the runs without a key a page."""
    order = "r.wake_at, r.run_id" if by_age else "r.priority DESC, r.wake_at, r.run_id"
    key = f'SELECT r.key FROM :"schema".workflow_runs r WHERE {_NAMED}'
    first = "ORDER BY r.key LIMIT 1"
    due = f"""SELECT {_FIELDS} FROM :"schema".workflow_runs r
        WHERE {_NAMED} AND {STAGE} = s.stage AND {_DUE}"""
    slots, starts = "coalesce($9 - k.taken, $4)", "coalesce($12 - k.started, $4)"
    room = f"""CASE s.stage WHEN 'running' THEN $4 WHEN 'new' THEN least({slots}, {starts})
            ELSE CASE WHEN $7 THEN $4 ELSE {slots} END END"""
    return f"""
WITH RECURSIVE {_ROOM.strip()},
found (key) AS (
    (SELECT f.key FROM ({key} AND r.key IS NOT NULL {first}) f)
    UNION ALL
    SELECT n.key FROM found f CROSS JOIN LATERAL ({key} AND r.key > f.key {first}) n
),{_keys("found")},
candidates AS MATERIALIZED (
    SELECT c.* FROM keys k CROSS JOIN {_STAGES} CROSS JOIN LATERAL (
        {due} AND r.key = k.key ORDER BY {order} LIMIT least({room}, {_page("s.stage")})
    ) c
    UNION ALL
    SELECT c.* FROM {_STAGES} CROSS JOIN LATERAL (
        {due} AND r.key IS NULL ORDER BY {"" if by_age else "r.key, "}{order} LIMIT {_page("s.stage")}
    ) c
    UNION ALL{_unnamed("NULL")}
){_ANSWER}"""


def by_run() -> str:
    """One run, $14, if it is due and in the queue."""
    return f"""
WITH {_ROOM.strip()},
candidates AS MATERIALIZED (
    SELECT {_FIELDS} FROM :"schema".workflow_runs r
    WHERE r.run_id = $14::text AND coalesce(r.queue, r.workflow_id) = $3 AND {_DUE}
    LIMIT $4::bigint
),{_keys("candidates")}{_ANSWER}"""


# $1 owner, $2 until, $3 now, $4 run_ids. What another transaction holds, or has moved meanwhile, is passed over.
CLAIM_CHOSEN = f"""
WITH picked AS MATERIALIZED (
    SELECT r.run_id, r.status, r.due_at, r.revision FROM unnest($4::text[]) AS a(run_id) CROSS JOIN LATERAL (
        SELECT * FROM :"schema".workflow_runs r
        WHERE r.run_id = a.run_id AND {STATUS} IN {LIVE} AND r.due_at <= $3::timestamptz
        FOR UPDATE SKIP LOCKED
    ) r
){CLAIM}"""
