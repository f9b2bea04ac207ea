"""How runs are claimed from a queue with limits.

The rule, said once: go through the due runs of the queue in their order, and take each for which there is room. A
recursive query does just that: `walk` carries the room that is left from run to run. Writing batches come one after
another, so nobody else takes a slot between the count and the claim.

    room     the free slots, and how many may start now    (counts in indexes)
    found    the due runs that could be taken              (the first of each class, see classes.py)
    ranked   the same in the order of the claim, each with the room of its key
    walk     each of them, taken or not, and what is left after it; it ends where nothing more could be taken
    lapsed   runs whose owner died: they have their slots already

The batch reads the rows that it will take, takes them, and then reads logs and mail of what this owner holds until this
very moment: usually just these, and never fewer.

Runs that are in no queue by name belong to the queue named like their workflow. They are few there (the runtime names
the queue where a workflow has limits), so they are counted only as far as they are running, their starts are not
counted, and at most `_OWN_AT_ONCE` of those that are due are looked at.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from functools import lru_cache

from workflow.core.records import ClaimedRun, Lease, RunStatus
from workflow.runtime.contract import ClaimLimits
from workflow.runtime.queues import Queue, RateLimit

from .claims import TAKE, claimed_runs
from .classes import CLASSES, FRESH, GOING, IN_WORKFLOWS, first_fresh, first_going
from .executor import Row, SqlValue, Statement
from .named import Template
from .rows import MAIL_COLUMNS, RUN_COLUMNS, id_list, maybe_micros, micros

__all__ = ["claim_queue_result", "claim_queue_statements"]

_NO_LIMIT = 1_000_000_000
_OWN_AT_ONCE = 500
_NOW = "due_at <= :now"
_OWN_RUNNING = (
    "workflow_runs INDEXED BY workflow_runs_due "
    "WHERE status = 'running' AND due_at IS NOT NULL AND queue IS NULL AND workflow_id = :queue"
)
_STARTS = "workflow_runs INDEXED BY workflow_runs_starts WHERE queue = :queue AND started_at"
_COLUMNS = "run.rowid, run.status, run.fence = 0, run.queue_key, run.priority, run.due_at, run.run_id"


def _room(holding: str) -> str:
    """What the queue as a whole still allows, and what is taken of each key."""
    return f"""
  room (slots, starts) AS MATERIALIZED (SELECT
    CASE WHEN :concurrency IS NULL THEN {_NO_LIMIT} ELSE :concurrency
      - (SELECT count(*) FROM {holding}) - (SELECT count(*) FROM {_OWN_RUNNING}) END,
    CASE WHEN :rate IS NULL THEN {_NO_LIMIT} ELSE :rate - (SELECT count(*) FROM {_STARTS} > :since) END),
  key_slots (queue_key, used) AS MATERIALIZED (
    SELECT queue_key, count(*) FROM (
      SELECT queue_key FROM {holding} UNION ALL SELECT queue_key FROM {_OWN_RUNNING})
    WHERE :key_concurrency IS NOT NULL GROUP BY queue_key),
  key_starts (queue_key, used) AS MATERIALIZED (
    SELECT queue_key, count(*) FROM {_STARTS} > :key_since AND :key_rate IS NOT NULL GROUP BY queue_key)"""


def _found(started_need_slots: bool) -> str:
    """All that could be taken of the whole queue, where there is room at all."""
    room = "(SELECT slots > 0 FROM room)"
    branches = [
        f"SELECT {_COLUMNS} {source} AND {gate}"
        for keyed, most in ((False, ""), (True, "key_"))
        for source, gate in (
            (first_fresh(_NOW, f":{most}fresh", keyed=keyed), "(SELECT slots > 0 AND starts > 0 FROM room)"),
            (first_going("queued", _NOW, f":{most}ready", keyed=keyed), room if started_need_slots else "1"),
            (first_going("paused", _NOW, f":{most}timers", keyed=keyed), room if started_need_slots else "1"),
        )
    ]
    return _union([*branches, _own("queued"), _own("paused")])


def _union(selects: list[str]) -> str:
    """All of them together. D1 takes at most five terms at once, and any number within each other."""
    while len(selects) > 1:
        groups = [selects[start : start + 4] for start in range(0, len(selects), 4)]
        selects = [f"SELECT * FROM ({' UNION ALL '.join(group)})" for group in groups]
    return selects[0]


def _own(status: RunStatus) -> str:
    return f"""SELECT {_COLUMNS} FROM workflow_runs AS run WHERE :own IS NOT NULL AND run.rowid IN (
      SELECT rowid FROM workflow_runs INDEXED BY workflow_runs_due
      WHERE queue IS NULL AND status = '{status}' AND {_NOW} AND workflow_id = :own
      ORDER BY due_at, workflow_id, rowid LIMIT {_OWN_AT_ONCE})"""


_LAPSED = f"SELECT {_COLUMNS} {first_going('running', _NOW, ':recovered')} UNION ALL {_own('running')}"

_ONE = f"""
SELECT {_COLUMNS} FROM workflow_runs AS run
WHERE run.run_id = :run_id AND run.completed_at IS NULL AND {_NOW}
  AND coalesce(run.queue, run.workflow_id) = :queue AND {IN_WORKFLOWS}"""


def _ranked(order: str, needs: str, found: str, lapsed: str) -> str:
    return f"""
  found (id, status, fresh, queue_key, priority, due_at, run_id) AS MATERIALIZED ({found}),
  lapsed (id, status, fresh, queue_key, priority, due_at, run_id) AS ({lapsed}),
  ranked (place, id, status, fresh, needs, key, key_slots, key_starts) AS MATERIALIZED (
    SELECT row_number() OVER (ORDER BY {order}), id, status, fresh, {needs},
      dense_rank() OVER (ORDER BY found.queue_key),
      CASE WHEN found.queue_key <> '' THEN :key_concurrency - coalesce(key_slots.used, 0) END,
      CASE WHEN found.queue_key <> '' THEN :key_rate - coalesce(key_starts.used, 0) END
    FROM found LEFT JOIN key_slots ON key_slots.queue_key = found.queue_key
      LEFT JOIN key_starts ON key_starts.queue_key = found.queue_key)"""


def _has_room(needed: str, left: str, taken: str) -> str:
    """Whether a run's key has room: it needs none, or has no limit, or some is left after those taken before it."""
    return (
        f"(run.{needed} = 0 OR run.{left} IS NULL "
        f"OR run.{left} > (SELECT count(*) FROM json_each(last.{taken}) WHERE value = run.key))"
    )


_WALK = f"""
  walk (place, id, taken, slots, starts, ready, timers, slot_keys, start_keys) AS (
    SELECT 0, NULL, 0, slots, starts, :ready, :timers, '[]', '[]' FROM room
    UNION ALL
    SELECT run.place, run.id, choice.taken,
      last.slots - choice.taken * run.needs,
      last.starts - choice.taken * run.fresh,
      last.ready - choice.taken * (run.status = 'queued'),
      last.timers - choice.taken * (run.status = 'paused'),
      CASE WHEN choice.taken * run.needs THEN json_insert(last.slot_keys, '$[#]', run.key) ELSE last.slot_keys END,
      CASE WHEN choice.taken * run.fresh THEN json_insert(last.start_keys, '$[#]', run.key) ELSE last.start_keys END
    FROM walk AS last CROSS JOIN ranked AS run ON run.place = last.place + 1
      CROSS JOIN (SELECT 0 AS taken UNION ALL SELECT 1) AS choice ON choice.taken = (
        (run.needs = 0 OR last.slots > 0) AND (run.fresh = 0 OR last.starts > 0)
        AND CASE run.status WHEN 'queued' THEN last.ready ELSE last.timers END > 0
        AND {_has_room("needs", "key_slots", "slot_keys")} AND {_has_room("fresh", "key_starts", "start_keys")})
    WHERE (last.slots > 0 OR last.place < (SELECT max(place) FROM ranked WHERE needs = 0))
      AND (last.ready > 0 OR last.timers > 0))"""


# Whether there is anything to look at: to go through nothing costs a millisecond as well.
_ANY = f"""(
  EXISTS (SELECT 1 FROM workflow_runs INDEXED BY workflow_runs_fresh WHERE {FRESH} AND queue = :queue)
  OR EXISTS (SELECT 1 FROM workflow_runs INDEXED BY workflow_runs_going WHERE {GOING} AND queue = :queue)
  OR (:own IS NOT NULL AND EXISTS (
    SELECT 1 FROM workflow_runs INDEXED BY workflow_runs_due
    WHERE queue IS NULL AND status IN ('queued', 'paused', 'running') AND {_NOW} AND workflow_id = :own)))"""

_HELD = f"""run_id IN (
  SELECT run_id FROM workflow_runs INDEXED BY workflow_runs_going
  WHERE {GOING} AND queue = :queue AND status = 'running' AND due_at = :until AND owner = :owner
  UNION ALL
  SELECT run_id FROM workflow_runs INDEXED BY workflow_runs_due
  WHERE status = 'running' AND due_at = :until AND queue IS NULL AND workflow_id = :queue AND owner = :owner)"""

_LOGS = Template(f"SELECT run_id, idx, event, payload FROM workflow_log WHERE {_HELD} ORDER BY run_id, idx")
_MAIL = Template(
    f"SELECT run_id, {MAIL_COLUMNS} FROM workflow_mail INDEXED BY workflow_mail_unread "
    f"WHERE payload IS NOT NULL AND {_HELD} ORDER BY run_id, seq"
)


@lru_cache(maxsize=8)
def _claim(until_end: bool, by_age: bool, one: bool) -> tuple[Template, Template]:
    """The rows that are taken, and their claim. `until_end`: a run holds its slot from its start to its end."""
    order = "due_at, run_id" if by_age else "priority DESC, due_at, run_id"
    of_rows = ", ".join(f"workflow_runs.{term}" for term in order.split(", "))
    running = "" if until_end else " AND status = 'running'"
    holding = f"workflow_runs INDEXED BY workflow_runs_going WHERE {GOING} AND queue = :queue{running}"
    needs = "fresh" if until_end else "status <> 'running'"
    classes = (
        "" if one else f"fresh_queues (queue) AS (SELECT :queue), going_queues AS (SELECT :queue AS queue), {CLASSES},"
    )
    found, lapsed = _found(not until_end), _LAPSED
    if one:
        found, lapsed = f"{_ONE} AND run.status <> 'running'", f"{_ONE} AND run.status = 'running'"
    walk = f"WITH RECURSIVE {classes} {_room(holding)}, {_ranked(order, needs, found, lapsed)}, {_WALK}"
    chosen = f"""{walk} SELECT json_group_array(id) FROM (
      SELECT id FROM walk WHERE taken
      UNION ALL SELECT * FROM (SELECT id FROM lapsed ORDER BY {order} LIMIT :recovered))"""
    taken = f"rowid IN (SELECT value FROM json_each(CASE WHEN {'1' if one else _ANY} THEN ({chosen}) END))"
    rows = f"SELECT {RUN_COLUMNS} FROM workflow_runs WHERE {taken} ORDER BY {of_rows}"
    return Template(rows), Template(f"{TAKE} WHERE {taken}")


def claim_queue_statements(
    queue: Queue,
    workflow_ids: Collection[str],
    lease: Lease,
    limits: ClaimLimits,
    now: datetime,
    by_age: bool,
    run_id: str | None,
) -> list[Statement]:
    rows, take = _claim(queue.holds == "started", by_age, run_id is not None)
    values: dict[str, SqlValue] = {
        "queue": queue.name,
        "own": queue.name if queue.name in workflow_ids else None,
        "workflows": id_list(workflow_ids),
        "run_id": run_id,
        "now": micros(now),
        "owner": lease.owner,
        "until": micros(lease.until),
        **_limits(queue, now),
        **_most(queue, limits),
    }
    return [template.bind(values) for template in (rows, take, _LOGS, _MAIL)]


def claim_queue_result(results: list[list[Row]], lease: Lease, now: datetime) -> list[ClaimedRun]:
    rows, _, logs, mail = results
    return claimed_runs(rows, logs, mail, lease, now)


def _limits(queue: Queue, now: datetime) -> dict[str, SqlValue]:
    rate, key_rate = queue.rate_limit, queue.rate_limit_per_key
    return {
        "concurrency": queue.concurrency,
        "key_concurrency": queue.concurrency_per_key,
        "rate": None if rate is None else rate.limit,
        "since": _since(rate, now),
        "key_rate": None if key_rate is None else key_rate.limit,
        "key_since": _since(key_rate, now),
    }


def _since(limit: RateLimit | None, now: datetime) -> int | str | None:
    return maybe_micros(None if limit is None else now - limit.period)


def _most(queue: Queue, limits: ClaimLimits) -> dict[str, SqlValue]:
    """How many of each kind are claimed, and how many of one class could be at most: that many are looked at."""
    rates = [limit.limit for limit in (queue.rate_limit,) if limit is not None]
    key_rates = [limit.limit for limit in (queue.rate_limit_per_key,) if limit is not None]
    slots = [limit for limit in (queue.concurrency,) if limit is not None]
    key_slots = [limit for limit in (queue.concurrency_per_key,) if limit is not None]
    going, key_going = (slots, key_slots) if queue.holds == "running" else ([], [])
    return {
        "recovered": limits.recovered,
        "ready": limits.ready,
        "timers": limits.timers,
        "fresh": min([limits.ready, *rates, *slots]),
        "key_fresh": min([limits.ready, *rates, *slots, *key_rates, *key_slots]),
        "key_ready": min([limits.ready, *going, *key_going]),
        "key_timers": min([limits.timers, *going, *key_going]),
    }
