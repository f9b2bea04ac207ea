"""The runs of queues, found by classes.

In the indexes `workflow_runs_fresh` (never claimed) and `workflow_runs_going` (claimed before) the runs of one queue,
status, key and priority stand together, by due time: a *class*. Within a class nobody overtakes. So whatever the limits
are, what a claim takes of a class is its first due runs, and a claim never looks at more of them than it may take.

The classes are found by steps in the index from one to the next, not by reading through it: a hundred thousand runs of
one key are one step, as one run is. A query that uses this text has two relations, `fresh_queues` and `going_queues`,
each with one column `queue`: whose classes are wanted.
"""

from __future__ import annotations

from workflow.core.records import RunStatus

from .rows import decode_id

__all__ = ["ALL_QUEUES", "CLASSES", "FRESH", "GOING", "IN_WORKFLOWS", "first_fresh", "first_going"]

FRESH = "queue IS NOT NULL AND fence = 0 AND completed_at IS NULL"
"""What the index of runs that were never claimed holds."""
GOING = "queue IS NOT NULL AND fence > 0 AND completed_at IS NULL"
"""What the index of runs that were claimed before holds."""

IN_WORKFLOWS = f"workflow_id IN (SELECT {decode_id('value')} FROM json_each(:workflows))"


_BEYOND = 2**63 - 1
"""Later than any due time."""


def _all_queues(name: str, index: str, kind: str) -> str:
    """The names of all queues in an index but `:without`: one step for each."""
    return f"""
  every_{name} (queue) AS (
    SELECT min(queue) FROM workflow_runs INDEXED BY {index} WHERE {kind}
    UNION ALL
    SELECT (SELECT min(queue) FROM workflow_runs INDEXED BY {index} WHERE {kind} AND queue > last.queue)
    FROM every_{name} AS last WHERE last.queue IS NOT NULL),
  {name} (queue) AS MATERIALIZED (
    SELECT queue FROM every_{name} WHERE queue IS NOT NULL
      AND queue NOT IN (SELECT {decode_id("value")} FROM json_each(:without)))"""


ALL_QUEUES = ",".join(
    [
        _all_queues("fresh_queues", "workflow_runs_fresh", FRESH),
        _all_queues("going_queues", "workflow_runs_going", GOING),
    ]
)


def _classes(name: str, index: str, kind: str, columns: str) -> str:
    next_of = ", ".join(f"next.{column}" for column in columns.split(", "))
    # SQLite looks for the first run that is not less, and goes on from there. With a due time beyond all, that is the
    # first of the next class, and not all of the last one. The plus makes an expression of a column: of two columns
    # SQLite would compare but the first by the index.
    last_of = ", ".join(f"+last.{column}" for column in columns.split(", "))
    return f"""
  {name}_classes (queue, {columns}) AS (
    SELECT next.queue, {next_of} FROM {name}_queues AS last CROSS JOIN workflow_runs AS next ON next.rowid = (
      SELECT rowid FROM workflow_runs INDEXED BY {index} WHERE {kind} AND queue = last.queue
      ORDER BY {columns} LIMIT 1)
    UNION ALL
    SELECT next.queue, {next_of} FROM {name}_classes AS last CROSS JOIN workflow_runs AS next ON next.rowid = (
      SELECT rowid FROM workflow_runs INDEXED BY {index} WHERE {kind} AND queue = last.queue
        AND ({columns}, due_at) > ({last_of}, {_BEYOND})
      ORDER BY {columns} LIMIT 1))"""


CLASSES = ",".join(
    [
        _classes("fresh", "workflow_runs_fresh", FRESH, "queue_key, priority"),
        _classes("going", "workflow_runs_going", GOING, "status, queue_key, priority"),
    ]
)


_KEYED = {None: "1", True: "class.queue_key <> ''", False: "class.queue_key = ''"}


def first_fresh(due: str, limit: str, *, keyed: bool | None = None) -> str:
    """FROM and WHERE: of each class of runs that were never claimed the first `limit`, as `run`.

    `keyed`: only of the classes that have a key, or have none.
    """
    return f"""
    FROM fresh_classes AS class CROSS JOIN workflow_runs AS run WHERE {_KEYED[keyed]} AND run.rowid IN (
      SELECT rowid FROM workflow_runs INDEXED BY workflow_runs_fresh
      WHERE {FRESH} AND queue = class.queue AND queue_key = class.queue_key AND priority = class.priority
        AND {due} AND {IN_WORKFLOWS}
      ORDER BY due_at, run_id LIMIT {limit})"""


def first_going(status: RunStatus, due: str, limit: str, *, keyed: bool | None = None) -> str:
    """The same of each class of runs that were claimed before and have this status."""
    return f"""
    FROM going_classes AS class CROSS JOIN workflow_runs AS run
    WHERE class.status = '{status}' AND {_KEYED[keyed]} AND run.rowid IN (
      SELECT rowid FROM workflow_runs INDEXED BY workflow_runs_going
      WHERE {GOING} AND queue = class.queue AND status = '{status}' AND queue_key = class.queue_key
        AND priority = class.priority AND {due} AND {IN_WORKFLOWS}
      ORDER BY due_at, run_id LIMIT {limit})"""
