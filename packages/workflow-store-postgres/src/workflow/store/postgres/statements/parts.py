"""What several statements have in common: names, parameters as relations, logs and mail as arrays."""

from __future__ import annotations

import hashlib
import re

from workflow.store.postgres.rows import RUN_COLUMNS

__all__ = [
    "LIVE",
    "MAIL_ARRAYS",
    "PROBED",
    "STATUS",
    "TELL",
    "Columns",
    "arrays",
    "asked",
    "channel_of",
    "columns_of",
    "hidden",
    "lanes",
    "log_of",
    "mail_of",
    "names",
    "quoted",
    "scalars",
    "told",
    "waiting",
    "with_schema",
]

Columns = tuple[tuple[str, str], ...]
"""Names and types."""

LIVE = "('queued', 'running', 'paused')"

STATUS = "(r.status || '')"
"""The status of a run that is looked up by its id. No index holds this expression.

By the bare column a planner that knows of few rows may well choose an index of statuses, and each look-up goes through
all runs that are running, until the next ANALYZE.
"""

PROBED = '(r.fence >= 0 OR (SELECT s.fence FROM :"schema".workflow_runs s WHERE s.run_id = r.run_id) >= 0)'
"""Always true, and found to be at once. To a planner it says that a row costs a look-up of its own.

So an UPDATE of rows that are locked already goes by the primary key, row by row, also by a plan that was made before
there were runs and is kept: otherwise it is cheaper to read the whole table, until that has grown.
"""


def quoted(name: str) -> str:
    """A name as a quoted identifier."""
    return '"' + name.replace('"', '""') + '"'


def with_schema(sql: str, schema: str) -> str:
    """Put the schema in for psql's notation `:"schema"`."""
    return re.sub(r':"schema"', lambda _: quoted(schema), sql)


def channel_of(schema: str) -> str:
    """The name under which stores on this schema notify each other."""
    return f"workflow_{hashlib.sha256(schema.encode()).hexdigest()[:16]}"


def told(of: str) -> str:
    """A CTE that notifies, once for each workflow of the queued runs of another. Only who reads it makes it happen.

    Postgres takes no more than 8,000 bytes with a notice: a workflow whose id is that long is told of without its name.
    """
    return f"""told AS (
    SELECT pg_notify(:channel, d.workflow_id)::text AS done FROM (
        SELECT DISTINCT CASE WHEN octet_length(q.workflow_id) < 4000 THEN q.workflow_id ELSE '' END AS workflow_id
        FROM {of} q WHERE q.status = 'queued'
    ) d
)"""


TELL = "(SELECT count(told.done) FROM told)"


def waiting(sql: str) -> str:
    """The same statement for a transaction of the app's or of a step's: it waits for the lock of a row.

    It holds up nobody but its own transaction, and Postgres finds out if that is a deadlock.
    """
    return sql.replace("FOR UPDATE SKIP LOCKED", "FOR UPDATE")


def columns_of(alias: str) -> str:
    return ", ".join(f"{alias}.{name}" for name in RUN_COLUMNS)


def names(columns: Columns) -> str:
    return ", ".join(name for name, _ in columns)


def arrays(columns: Columns, first: int) -> str:
    return ", ".join(f"${number}::{type_}[]" for number, (_, type_) in enumerate(columns, first))


def scalars(columns: Columns, first: int) -> str:
    return ", ".join(f"${number}::{type_} AS {name}" for number, (name, type_) in enumerate(columns, first))


def asked(columns: Columns, *, many: bool) -> str:
    """The parameters from $1 on as a relation: for one its columns; for many $1, JSON with an array for each, and $2,
    how many these are.

    The limit is for the planner, which takes any JSON for a hundred rows, and would rather read a table for so many.
    """
    if not many:
        return f"SELECT {scalars(columns, 1)}, 1::bigint AS n"
    fields = ", ".join(
        f"e.v->{place} AS {name}" if type_ == "jsonb" else f"(e.v->>{place})::{type_} AS {name}"
        for place, (name, type_) in enumerate(columns)
    )
    return f"SELECT {fields}, e.n FROM jsonb_array_elements($1::jsonb) WITH ORDINALITY AS e(v, n) LIMIT $2::bigint"


def lanes(workflow_ids: str, without: str) -> str:
    """CTEs with the lanes of workflows: `own`, those of runs in no queue by name; `lanes`, the queues that there are.

    The index of due runs begins with workflow, status and queue. So the queues are found by leaping from one to the
    next, however many runs are in each, and a queue that is left out costs nothing.
    """
    ids, left_out = f"unnest({hidden(workflow_ids, 'text[]')})", hidden(without, "text[]")
    first = """SELECT r.queue FROM :"schema".workflow_runs r
        WHERE r.workflow_id = w.workflow_id AND r.status = w.status AND r.wake_at IS NOT NULL"""
    return f"""own AS (SELECT w.id AS workflow_id FROM {ids} AS w(id) WHERE w.id <> ALL ({left_out})),
lanes (workflow_id, status, queue) AS (
    SELECT w.workflow_id, w.status, q.queue FROM (
        SELECT i.id AS workflow_id, s.status FROM {ids} AS i(id), unnest(ARRAY[{LIVE[1:-1]}]) AS s(status)
    ) w CROSS JOIN LATERAL ({first} AND r.queue IS NOT NULL ORDER BY r.queue LIMIT 1) q
    UNION ALL
    SELECT w.workflow_id, w.status, q.queue FROM lanes w
    CROSS JOIN LATERAL ({first} AND r.queue > w.queue ORDER BY r.queue LIMIT 1) q
)"""


def hidden(parameter: str, type_: str) -> str:
    """A parameter in a subselect, where the planner doesn't see its value.

    What it sees it plans for, anew at each execution, if that looks the least bit cheaper; and to plan a long statement
    takes several times as long as to execute it.
    """
    return f"(SELECT {parameter}::{type_})::{type_}"


# -- Parts of several statements. Each belongs to a relation `of` with a run_id, gives exactly one row, and has its
# -- condition inside, where a false one costs nothing: beside the join it would be evaluated after all rows were read.


def log_of(of: str, condition: str = "true") -> str:
    """The whole log, as two arrays."""
    return f"""LATERAL (
    SELECT array_agg(l.event ORDER BY l.idx) AS events, array_agg(l.payload ORDER BY l.idx) AS payloads
    FROM :"schema".workflow_log l WHERE l.run_id = {of}.run_id AND {condition}
)"""


def mail_of(of: str, condition: str = "true") -> str:
    """The unconsumed mail, as six arrays."""
    arrays = ", ".join(f"array_agg(l.{c} ORDER BY l.seq) AS {c}s" for c in MAIL)
    return f"""LATERAL (
    SELECT {arrays}
    FROM :"schema".workflow_mail l WHERE l.run_id = {of}.run_id AND l.payload IS NOT NULL AND {condition}
)"""


MAIL = ("seq", "kind", "id", "name", "payload", "sent_at")
MAIL_ARRAYS = ", ".join(f"news.{column}s" for column in MAIL)
