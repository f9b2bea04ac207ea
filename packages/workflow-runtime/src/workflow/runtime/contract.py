"""`ExecutionStore`: what the runtime needs of a store, on top of what the engine needs (`RunStore`).

Read `workflow.core.store` first: its invariants and its rules (atomic, effective before it returns, time from the
caller) hold for every operation here as well. `workflow.runtime.testing` holds the suite that every store passes.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from workflow.core.errors import InvalidArgumentError, StoreError
from workflow.core.records import (
    ClaimedRun,
    Committed,
    CreatedRun,
    Delivered,
    Lease,
    LogRecord,
    NewMail,
    NewRun,
    RunRecord,
    RunStatus,
)
from workflow.core.store import RunStore
from workflow.core.transactions import Transaction

from .queues import Queue
from .schedules.records import ScheduleCommit, ScheduleKey, ScheduleRecord, TickRecord

__all__ = ["TICKS_KEPT", "Capabilities", "ClaimLimits", "ExecutionStore", "HeldLease", "Renewal", "RunFilter"]

TICKS_KEPT = 1000
"""How many of its last revisions a schedule's history goes back."""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a store can do beyond the contract. The suite skips, with the reason, what a store does not claim."""

    durable: bool = True
    """Survives the process. A store that is not durable is for tests and demos."""
    shared: bool = True
    """Several processes may use it at once."""
    renews_from_any_loop: bool = False
    """`renew` may be awaited on another event loop, in another thread, than everything else: so that a step which
    blocks the main loop can't starve the leases."""
    queues: bool = False
    """Does `claim_queue`."""
    schedules: bool = False
    """Does `commit_schedule`, `read_schedules` and `list_ticks`."""
    transactions: bool = False
    """Does `transact`: handlers may use `ctx.transaction`."""
    joins_transactions: bool = False
    """Does `create_run_within` and `deliver_within`: verbs take the `connection` of a transaction of the app."""
    max_payload: int = 16 * 1024 * 1024
    """The largest payload in bytes of UTF-8. Engine and runtime refuse larger ones before anything is written."""


@dataclass(frozen=True, slots=True)
class ClaimLimits:
    """How many runs one `claim_due` may take, by what they were: see `ClaimedRun.claimed_from`."""

    recovered: int
    """`running` runs whose lease has run out."""
    ready: int
    """`queued` runs that are due."""
    timers: int
    """`paused` runs whose due time has come."""

    @classmethod
    def all(cls, limit: int) -> ClaimLimits:
        return cls(limit, limit, limit)


@dataclass(frozen=True, slots=True)
class HeldLease:
    """A lease that a process believes to hold."""

    run_id: str
    fence: int


@dataclass(frozen=True, slots=True)
class Renewal:
    """A lease that is still held. `mail_count` tells whether mail has arrived since the drive last looked."""

    run_id: str
    fence: int
    mail_count: int


@dataclass(frozen=True, slots=True)
class RunFilter:
    """Which runs to list, newest first. `before` continues after that row: (`created_at`, `run_id`)."""

    workflow_id: str | None = None
    status: frozenset[RunStatus] | None = None
    created_from: datetime | None = None
    """Inclusive."""
    created_until: datetime | None = None
    """Exclusive."""
    before: tuple[datetime, str] | None = None
    limit: int = 50


def _cannot_join(store: ExecutionStore) -> InvalidArgumentError:
    return InvalidArgumentError(
        f"{type(store).__name__} can't write into a transaction of the app (connection=), as PostgresStore and "
        "SQLiteStore can. Call without it after your own commit, with a run_id or signal_id that makes it idempotent."
    )


class ExecutionStore(RunStore):
    """The contract of a store for many runs, shared by the processes of an app."""

    capabilities: Capabilities = Capabilities()
    """May differ between instances: a file is durable, and a database in memory is not."""

    @abstractmethod
    async def claim_due(
        self,
        workflow_ids: Collection[str],
        lease: Lease,
        *,
        limits: ClaimLimits,
        now: datetime,
        without: Collection[str] = (),
    ) -> Sequence[ClaimedRun]:
        """Claim runs of these workflows with `due_at <= now`, as `claim_run` does, the longest due first.

        Of each kind at most its limit (0: none of it). Runs of the queues `without` are left to `claim_queue`: a run's
        queue is the one it was created in, or else the workflow's own, named like the workflow. Runs that another claim
        is taking at this moment are passed over, not waited for; no run is ever claimed twice for one due time. All
        claimed runs come back, with log and mail, in one round trip. A claim whose answer is lost is found again when
        its lease runs out.
        """

    @abstractmethod
    async def renew(self, held: Collection[HeldLease], *, until: datetime, now: datetime) -> Sequence[Renewal]:
        """Extend these leases to `until`, all in one statement. Answers for those still held; the others are lost.

        A lease is held while the run is `running` with that fence, even after its time, if nobody has taken it. Nothing
        but `due_at` changes.
        Repeating it is harmless.
        """

    @abstractmethod
    async def next_due(self, workflow_ids: Collection[str], *, without: Collection[str] = ()) -> datetime | None:
        """The earliest `due_at` among runs of these workflows that have not ended; None where none has one.

        Runs of the queues `without` are left out.
        """

    @abstractmethod
    async def list_runs(self, query: RunFilter) -> Sequence[RunRecord]:
        """The rows that match, by `created_at` and `run_id` descending, at most `limit`."""

    @abstractmethod
    async def purge(self, older_than: datetime, *, workflow_id: str | None = None, limit: int = 1000) -> int:
        """Delete at most `limit` ended runs with `completed_at < older_than`, with their logs and inboxes.

        Returns how many. Runs that have not ended are never touched. Atomic per call; repeat it until it returns less
        than `limit`.
        """

    # Queues (capabilities.queues)

    async def claim_queue(
        self,
        queue: Queue,
        workflow_ids: Collection[str],
        lease: Lease,
        *,
        limits: ClaimLimits,
        now: datetime,
        by_age: bool = False,
        run_id: str | None = None,
    ) -> Sequence[ClaimedRun]:
        """Claim runs of one queue, as `claim_due` does, within the limits of the queue. With `run_id`: only that run.

        The limits hold over all claims of all processes that claim the queue with this operation, however many do so
        at once: the count and the claim are atomic.

        - `running` runs whose lease has run out are claimed as they are: they hold their slots already.
        - A `queued` or `paused` run that is due needs a free slot of the queue (`concurrency`) and, if it has a key, of
          its key (`concurrency_per_key`). Taken are the slots of all runs of the queue that are `running`; with
          `holds="started"` those of all that were ever claimed and have not ended, and such a run needs no other slot.
        - A run that was never claimed also needs room in the rate limits: those of the queue's runs (of its key) with
          `started_at > now - period` are counted.

        Among those that are due the higher `priority` goes first, then the earlier `due_at`, then `run_id`; with
        `by_age` the priority doesn't count. A run whose key has no room is passed over: it holds nobody up.
        """
        raise StoreError(f"{type(self).__name__} can't do queues with limits (capabilities.queues).")

    # Schedules (capabilities.schedules)

    async def read_schedules(self, keys: Collection[ScheduleKey] | None = None) -> Sequence[ScheduleRecord]:
        """These schedules, as far as there are any; None: all. By workflow id and schedule id, in one round trip.

        Each with the runs that it has and that have not ended: row and runs are of one moment.
        """
        raise StoreError(f"{type(self).__name__} can't do schedules (capabilities.schedules).")

    async def commit_schedule(self, commit: ScheduleCommit) -> bool:
        """Move a schedule, and start and stop runs with it. All or nothing: False, and nothing, unless the revision is
        the expected one.

        - The row gets `due_at`, `paused`, `data` and the next revision.
        - `starts` are created as by `create_run` without a lease; each says the schedule by its `schedule_id`.
        - `cancel_mail` is delivered to each run of `cancel` as by `deliver` without a lease.
        - Each run of `terminate` that has not ended becomes `cancelled`, `completed_at = now`, without owner, due time
          and waits; its fence grows by one if it was ever claimed; its log gets `termination` as its last record, and
          its owner's commits are refused from then on.
        - `ticks` are added to the history. Records of revisions older than the last `TICKS_KEPT` are deleted.

        Of several concurrent commits of one revision exactly one succeeds; the runs that a schedule has can only become
        fewer between `read_schedules` and a commit that succeeds (except for runs that a person retries). After an
        unknown end, read the schedule: its revision tells.
        """
        raise StoreError(f"{type(self).__name__} can't do schedules (capabilities.schedules).")

    async def list_ticks(
        self, key: ScheduleKey, *, limit: int = 50, before: tuple[int, int] | None = None
    ) -> Sequence[tuple[tuple[int, int], TickRecord]]:
        """The history of a schedule, the latest first, at most `limit`, each with its place: (revision, number in the
        commit). `before` continues after that place.
        """
        raise StoreError(f"{type(self).__name__} can't do schedules (capabilities.schedules).")

    # Operating

    async def reopen(
        self,
        run_id: str,
        *,
        expected_index: int,
        record: LogRecord,
        mail: Sequence[NewMail],
        expires_at: datetime | None,
        now: datetime,
    ) -> RunRecord | None:
        """Let a run that ended `errored` or `cancelled` go on: it is `queued`, due `now`, with `record` as the next of
        its log and this `mail` in its inbox.

        Only if the run has ended so and its log has `expected_index` records, otherwise None and nothing is written.
        `completed_at`, `error` and `waits` go, `recoveries` is 0, `expires_at` is the given one. The fence of a run
        that was ever claimed grows by one, so that no former owner can take its commit for applied. Mail
        of a `(kind, id)` that the run has had is delivered again: unconsumed, with a new `seq`. Requests to cancel,
        consumed or not, are forgotten, so that the run can be cancelled anew. Repeating it after an unknown end
        answers None if it had happened.
        """
        raise StoreError(f"{type(self).__name__} can't reopen runs.")

    async def transact(self, transaction: Transaction) -> Committed:
        """Run a database step and its commit in one transaction: see `workflow.core.transactions.Transactor`."""
        raise InvalidArgumentError(f"{type(self).__name__} has no transactions that an app's tables could share.")

    async def create_run_within(self, connection: Any, new: NewRun, *, now: datetime) -> CreatedRun:
        """`create_run` without a lease, in a transaction that the caller has open on this database.

        The run is there for others when the caller commits, and never if the caller rolls back, be it to a savepoint;
        until then the caller alone sees it. Where another transaction has created a run of this id and not ended yet,
        this waits for that end. What stands between a statement and its transaction (a serialization failure, a lost
        connection) is raised as the connection raises it, and is the caller's to handle.

        `connection` is of a kind that the store names. Raises `InvalidArgumentError` for another one, for one without
        an open transaction, and for one of another database; then nothing was written.
        """
        raise _cannot_join(self)

    async def deliver_within(self, connection: Any, run_id: str, mail: NewMail, *, now: datetime) -> Delivered:
        """`deliver` without a lease, in a transaction that the caller has open: the same as `create_run_within`.

        From here on until the caller's end the run can't be moved by others, and they wait for it, each for this run
        only. Where another transaction moves the run at this moment, this waits for its end.
        """
        raise _cannot_join(self)

    @abstractmethod
    async def migrate(self) -> None:
        """Bring the schema to this package's version. Safe to repeat, and safe when two processes do it at once."""

    @abstractmethod
    async def check(self) -> None:
        """Raise `StoreError`, with the command that helps, unless the schema is there and of this package's version."""

    @abstractmethod
    async def close(self) -> None:
        """Finish what is under way and let go of connections, threads and files. Safe to repeat."""

    async def wait_for_work(self, workflow_ids: Collection[str]) -> None:
        """Return when a run of these workflows may have become due, or due earlier, whichever process made it so.

        A hint, for workers that would otherwise wait for their next poll: it may return for nothing and it may miss
        something, for its callers poll as well. It should return within milliseconds of a `create_run`, `deliver` or
        `commit` that left a run `queued`. What happens between two calls on one event loop is not missed: a store that
        listens goes on listening from the first call until `close_loop` or `close`, and the next call returns at once.
        Called by one task at a time for each set of ids. May be cancelled at any time. Raises what the connection
        raises; the caller tries again later. This default knows of no notices, and never returns.
        """
        await asyncio.get_running_loop().create_future()

    async def close_loop(self) -> None:
        """Let go of what the store holds for the running event loop only (see `renews_from_any_loop`)."""
