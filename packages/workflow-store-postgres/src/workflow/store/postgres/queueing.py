"""Claiming from a queue with limits: look, choose, claim, in one transaction under the queue's lock.

The lock is an advisory one, of this database, schema and queue, and all take it that claim from the queue; it is gone
with the transaction, whatever happens. The first statement after it has a snapshot that shows all that was claimed
before. Whoever only frees slots (commits, ends) does not ask for it. Where the lock can't be had within two seconds,
nothing is claimed; the next poll asks again.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from workflow.core.records import Lease
from workflow.runtime.contract import ClaimLimits
from workflow.runtime.queues import Queue, RateLimit

from .connector import Connector
from .drivers import BusyError, Driver
from .rows import REST, Row
from .statements import Statements

__all__ = ["QueueClaim", "claim_from_queue"]

_ROUNDS = 4
_STATUS = {"new": "queued", "queued": "queued", "paused": "paused", "running": "running"}


@dataclass(frozen=True, slots=True)
class QueueClaim:
    """What `claim_queue` was asked for."""

    queue: Queue
    workflow_ids: list[str]
    lease: Lease
    limits: ClaimLimits
    now: datetime
    by_age: bool
    run_id: str | None

    @property
    def left(self) -> dict[str, int]:
        """How many may be claimed of each status."""
        limits = self.limits
        return {"running": limits.recovered, "queued": limits.ready, "paused": limits.timers}

    def less(self, claimed: Sequence[Row]) -> QueueClaim:
        """What is still wanted."""
        of = Counter(row[REST] for row in claimed)
        limits = self.limits
        left = ClaimLimits(limits.recovered - of["running"], limits.ready - of["queued"], limits.timers - of["paused"])
        return replace(self, limits=left)


async def claim_from_queue(connector: Connector, sql: Statements, schema: str, claim: QueueClaim) -> list[Row]:
    """The rows of what was claimed, in the order of the queue."""

    async def work(driver: Driver) -> list[Row]:
        await driver.fetch(sql.queue_lock, (_lock_key(schema, claim.queue.name),))
        return await _claim(driver, sql, claim)

    try:
        return await connector.transaction(work)
    except BusyError:
        return []


async def _claim(driver: Driver, sql: Statements, claim: QueueClaim) -> list[Row]:
    claimed: list[Row] = []
    passed: list[str] = []
    for _ in range(_ROUNDS):
        chosen = await _choose(driver, sql, claim, passed)
        if not chosen:
            break
        lease = claim.lease
        found = await driver.fetch(sql.claim_chosen, (lease.owner, lease.until, claim.now, chosen))
        rows = {row[0]: row for row in found}
        claimed += [rows[run_id] for run_id in chosen if run_id in rows]
        if len(rows) == len(chosen):
            break
        # Others hold some of them at this moment: take those behind them.
        passed += [run_id for run_id in chosen if run_id not in rows]
        claim = claim.less(found)
    return claimed


async def _choose(driver: Driver, sql: Statements, claim: QueueClaim, passed: list[str]) -> list[str]:
    page = _page(claim)
    args = (*_args(claim, page), passed, *_limits(claim))
    if claim.run_id is not None:
        return _Choice(claim).of(await driver.fetch(sql.queue_by_run, (*args, claim.run_id)))
    found = await driver.fetch(sql.queue_by_order, args)
    choice = _Choice(claim)
    chosen = choice.of(found)
    if not choice.hidden or max(Counter(row[2] for row in found).values()) < page:
        return chosen
    again = sql.queue_by_keys_and_age if claim.by_age else sql.queue_by_keys
    return _Choice(claim).of(await driver.fetch(again, args))


def _page(claim: QueueClaim) -> int:
    """How many runs of a stage to look at: more than wanted, for others may hold some, and keys may have no room."""
    return 4 * max(*claim.left.values(), 1) + 64


def _args(claim: QueueClaim, page: int) -> tuple[Any, ...]:
    return (claim.now, claim.workflow_ids, claim.queue.name, page, claim.by_age)


def _limits(claim: QueueClaim) -> tuple[Any, ...]:
    queue = claim.queue
    rates = (_rate(queue.rate_limit, claim.now), _rate(queue.rate_limit_per_key, claim.now))
    return (queue.holds == "started", queue.concurrency, queue.concurrency_per_key, *rates[0], *rates[1])


def _rate(rate: RateLimit | None, now: datetime) -> tuple[int | None, datetime | None]:
    return (None, None) if rate is None else (rate.limit, now - rate.period)


class _Choice:
    """Goes through what is due, in order, and takes what there is room for."""

    def __init__(self, claim: QueueClaim) -> None:
        queue = claim.queue
        self._left = claim.left
        self._keeps = queue.holds == "started"
        self._per_key = queue.concurrency_per_key
        self._rate = None if queue.rate_limit_per_key is None else queue.rate_limit_per_key.limit
        self._slots: int | None = None
        self._starts: int | None = None
        self._taken: Counter[str] = Counter()
        self._started: Counter[str] = Counter()
        self.hidden = False
        """Whether the limit of a key kept a run back: others may be behind those that were looked at."""

    def of(self, rows: Sequence[Row]) -> list[str]:
        for _, key, _, taken, started, slots, starts in rows:
            self._slots, self._starts = slots, starts
            if key is not None:
                self._taken[key], self._started[key] = taken or 0, started or 0
        return [row[0] for row in rows if self._take(row[1], row[2])]

    def _take(self, key: str | None, stage: str) -> bool:
        status = _STATUS[stage]
        if self._left[status] <= 0:
            return False
        if stage != "running" and not self._has_room(key, stage):
            return False
        self._left[status] -= 1
        return True

    def _has_room(self, key: str | None, stage: str) -> bool:
        needs_slot, needs_start = stage == "new" or not self._keeps, stage == "new"
        if (needs_slot and self._slots == 0) or (needs_start and self._starts == 0):
            return False
        if key is not None and self._is_full(key, needs_slot, needs_start):
            self.hidden = True
            return False
        self._use(key, needs_slot, needs_start)
        return True

    def _is_full(self, key: str, needs_slot: bool, needs_start: bool) -> bool:
        if needs_slot and self._per_key is not None and self._taken[key] >= self._per_key:
            return True
        return needs_start and self._rate is not None and self._started[key] >= self._rate

    def _use(self, key: str | None, needs_slot: bool, needs_start: bool) -> None:
        if self._slots is not None:
            self._slots -= needs_slot
        if self._starts is not None:
            self._starts -= needs_start
        if key is not None:
            self._taken[key] += needs_slot
            self._started[key] += needs_start


def _lock_key(schema: str, queue: str) -> int:
    digest = hashlib.sha256(f"workflow.store.postgres:queue:{schema}:{queue}".encode()).digest()
    return int.from_bytes(digest[:8], signed=True)
