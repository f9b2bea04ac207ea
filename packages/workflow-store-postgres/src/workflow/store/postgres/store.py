"""`PostgresStore`: the contract, in terms of statements."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Generator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from sqlalchemy.engine import URL
from sqlalchemy.ext.asyncio import AsyncEngine

from workflow.core.errors import StoreError
from workflow.core.records import (
    ENDED,
    ClaimedRun,
    Commit,
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
from workflow.core.transactions import Transaction
from workflow.runtime.contract import Capabilities, ClaimLimits, ExecutionStore, HeldLease, Renewal, RunFilter
from workflow.runtime.queues import Queue
from workflow.runtime.schedules.records import ScheduleCommit, ScheduleKey, ScheduleRecord, TickRecord

from .applying import apply
from .commits import check_commit
from .connector import Limits
from .creations import check_new
from .drivers import LostConnectionError, SchemaError, StoreUnavailableError
from .engines import POOLER_OPTION, engine_for, name_of
from .joining import Joined, Places, join
from .loops import Loops
from .migrations import Migration, SchemaState, check_schema_name, read_state
from .notices import Notices
from .queueing import QueueClaim, claim_from_queue
from .rows import (
    LOG,
    MAIL,
    REST,
    Row,
    as_json,
    identifier,
    log_from_arrays,
    log_record,
    mail_from_arrays,
    maybe_utc,
    run_record,
)
from .scheduling import commit_schedule, is_reopenable, keys_args, reopen_args, schedule_record, tick_record
from .statements import Statements, channel_of, quoted
from .transacting import Transacting
from .within import create_within, deliver_within
from .writing import Delivery, Writing

__all__ = ["PostgresStore"]

_STATUSES: tuple[RunStatus, ...] = ("queued", "running", "paused", "completed", "errored", "cancelled")
_PAUSES = (0.002, 0.005, 0.01, 0.02, 0.05)


class PostgresStore(ExecutionStore):
    """Keeps runs in PostgreSQL, for any number of processes and machines. It may be used from any event loop.

    Give it the app's `AsyncEngine` (asyncpg, or psycopg 3), which stays the app's to dispose of, or a URL. `schema` is
    where its tables are; `migrate()` or `python -m workflow.store.postgres migrate` makes them, nothing else ever does.

    - `connections`: how many of the engine's connections it uses at most, on each event loop.
    - `idle`: after how many seconds without work it gives them back to the engine's pool.
    - `writers`: how many group commits may be under way at once.
    - `transactions`: how many database steps (`ctx.transaction`) may be under way at once, on each event loop. Each
      has a connection of the engine's pool to itself, beside the `connections`.
    - `retry_for`: how many seconds it goes on trying when the server is gone, before it raises `StoreUnavailableError`.

    - `listen`: whether `wait_for_work` listens, on one more connection; by default it does, except through a pooler.

    Every statement that the store repeats after a lost connection may be repeated by the contract.
    """

    capabilities = Capabilities(
        durable=True,
        shared=True,
        renews_from_any_loop=True,
        queues=True,
        schedules=True,
        transactions=True,
        joins_transactions=True,
    )

    def __init__(
        self,
        engine: AsyncEngine | URL | str,
        schema: str = "public",
        *,
        connections: int = 4,
        writers: int = 2,
        transactions: int = 4,
        idle: float = 5.0,
        retry_for: float = 5.0,
        listen: bool | None = None,
        migration_timeout: float = 60.0,
    ) -> None:
        self.schema = check_schema_name(schema)
        self.engine = engine if isinstance(engine, AsyncEngine) else engine_for(engine)
        pooler = bool(self.engine.get_execution_options().get(POOLER_OPTION))
        limits = Limits(
            connections=max(connections, 1), idle=idle, retry_for=retry_for, pooler=pooler, name=name_of(self.engine)
        )
        self._pooler = pooler
        self._sql = Statements(schema)
        self._listens = not pooler if listen is None else listen
        self._migration_timeout = migration_timeout
        self._places = Places(self.engine, f"{quoted(schema)}.workflow_runs", self._fetch)
        self._loops = Loops(
            self.engine,
            limits,
            lambda connector: Writing(self._sql, connector, writers=max(writers, 1)),
            lambda connector: Notices(connector, channel_of(schema)),
            lambda connector, pool: Transacting(
                self.engine, pool, connector, self._sql, limit=max(transactions, 1), retry_for=retry_for
            ),
            owned=not isinstance(engine, AsyncEngine),
        )

    # -- One run

    async def create_run(self, new: NewRun, *, lease: Lease | None, now: datetime) -> CreatedRun:
        check_new(new)
        here = self._loops.here()
        return await self._explained(here.writing.creates.submit(new.run_id, (new, lease, now)))

    async def claim_run(self, run_id: str, lease: Lease, *, now: datetime, force: bool = False) -> ClaimedRun | None:
        identifier(run_id, "run id")
        pauses = iter(_PAUSES)
        while True:
            rows = await self._fetch(self._sql.claim_run, lease.owner, lease.until, now, run_id, force)
            if rows:
                return _claimed_run(rows[0])
            run = await self.get_run(run_id)
            if run is None or run.status in ENDED or not (force or (run.due_at is not None and run.due_at <= now)):
                return None
            # It could be claimed: another transaction holds it at this moment, or has moved it at this moment.
            await asyncio.sleep(next(pauses, _PAUSES[-1]))

    async def commit(self, commit: Commit) -> Committed:
        check_commit(commit)
        try:
            return await self._loops.here().writing.commits.submit(commit.run_id, commit)
        except SchemaError as error:
            raise await self._explain(error) from error

    async def deliver(self, run_id: str, mail: NewMail, *, lease: Lease | None, now: datetime) -> Delivered:
        _check_mail(run_id, mail)
        here = self._loops.here()
        delivery = Delivery(run_id, mail, lease, now)
        return await self._explained(here.writing.deliveries.submit(run_id, delivery))

    async def transact(self, transaction: Transaction) -> Committed:
        """See `Transactor.transact`. The function gets an SQLAlchemy `AsyncConnection`; a `def` the `Connection` in it.

        `isolation=None` is the engine's level. What others have undone is tried up to ten times.
        """
        return await self._explained(self._loops.here().transacting.transact(transaction))

    async def create_run_within(self, connection: Any, new: NewRun, *, now: datetime) -> CreatedRun:
        """See `ExecutionStore`. `connection` is an SQLAlchemy `AsyncConnection` or `AsyncSession`, or a driver's own.

        Under REPEATABLE READ or SERIALIZABLE, a rival that has created the run since the caller's transaction began
        makes it fail with a serialization error (40001).
        """
        check_new(new)
        joined = await self._joined(connection)
        return await self._explained(create_within(joined, self._sql, (new, None, now)))

    async def deliver_within(self, connection: Any, run_id: str, mail: NewMail, *, now: datetime) -> Delivered:
        """See `ExecutionStore` and `create_run_within`; here the rival is whatever has moved the run since then."""
        _check_mail(run_id, mail)
        joined = await self._joined(connection)
        return await self._explained(deliver_within(joined, self._sql, Delivery(run_id, mail, None, now)))

    async def _joined(self, connection: Any) -> Joined:
        joined = await join(connection)
        await self._places.check(joined)
        return joined

    async def get_run(self, run_id: str) -> RunRecord | None:
        rows = await self._fetch(self._sql.get, identifier(run_id, "run id"))
        return run_record(rows[0]) if rows else None

    async def read_log(self, run_id: str, *, after: int = -1, limit: int | None = None) -> Sequence[LogRecord]:
        rows = await self._fetch(self._sql.read_log, identifier(run_id, "run id"), max(after, -1), limit)
        return tuple([log_record(row[0], row[1], row[2]) for row in rows])

    # -- Many runs

    async def claim_due(
        self,
        workflow_ids: Collection[str],
        lease: Lease,
        *,
        limits: ClaimLimits,
        now: datetime,
        without: Collection[str] = (),
    ) -> Sequence[ClaimedRun]:
        wanted = tuple(max(limit, 0) for limit in (limits.recovered, limits.ready, limits.timers))
        ids = _distinct(workflow_ids)
        if not ids or not any(wanted):
            return ()
        args = (lease.owner, lease.until, now, ids, *wanted, _distinct(without, "queue name"))
        return [_claimed_run(row) for row in await self._fetch(self._sql.claim_due, *args)]

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
        identifier(queue.name, "queue name")
        identifier(run_id or "", "run id")
        claim = QueueClaim(queue, _distinct(workflow_ids), lease, limits, now, by_age, run_id)
        connector = self._loops.here().connector
        rows = await self._explained(claim_from_queue(connector, self._sql, self.schema, claim))
        return [_claimed_run(row) for row in rows]

    async def renew(self, held: Collection[HeldLease], *, until: datetime, now: datetime) -> Sequence[Renewal]:
        asked = {lease.run_id: lease.fence for lease in held}
        still: dict[str, Renewal] = {}
        for pause in (*_PAUSES[:3], 0.0):
            missing = [(run_id, fence) for run_id, fence in asked.items() if run_id not in still]
            rows = await self._fetch(self._sql.renew, *as_json(missing), until) if missing else ()
            still.update((row[0], Renewal(row[0], row[1], row[2])) for row in rows)
            if len(rows) == len(missing):
                break
            # Lost, or locked by another transaction at this moment. A lock must not hold up the other leases.
            locked = await self._held([lease for lease in missing if lease[0] not in still])
            if not locked or not pause:
                still.update((renewal.run_id, renewal) for renewal in locked)
                break
            await asyncio.sleep(pause)
        return [still[run_id] for run_id in asked if run_id in still]

    async def _held(self, leases: Sequence[tuple[str, int]]) -> list[Renewal]:
        rows = await self._fetch(self._sql.held, *as_json(leases))
        return [Renewal(row[0], row[1], row[2]) for row in rows]

    async def next_due(self, workflow_ids: Collection[str], *, without: Collection[str] = ()) -> datetime | None:
        rows = await self._fetch(self._sql.next_due, _distinct(workflow_ids), _distinct(without, "queue name"))
        return maybe_utc(rows[0][0])

    async def list_runs(self, query: RunFilter) -> Sequence[RunRecord]:
        statuses = [status for status in _STATUSES if query.status is None or status in query.status]
        before = query.before or (None, None)
        args = (statuses, max(query.limit, 0), query.created_from, query.created_until, *before, query.workflow_id)
        sql = self._sql.list if query.workflow_id is None else self._sql.list_workflow
        return [run_record(row) for row in await self._fetch(sql, *args)]

    async def purge(self, older_than: datetime, *, workflow_id: str | None = None, limit: int = 1000) -> int:
        rows = await self._fetch(self._sql.purge, older_than, workflow_id, max(limit, 0))
        return int(rows[0][0])

    # -- Schedules

    async def read_schedules(self, keys: Collection[ScheduleKey] | None = None) -> Sequence[ScheduleRecord]:
        if keys is None:
            rows = await self._fetch(self._sql.schedules)
        else:
            rows = await self._fetch(self._sql.these_schedules, *keys_args(keys)) if keys else ()
        return [schedule_record(row) for row in rows]

    async def commit_schedule(self, commit: ScheduleCommit) -> bool:
        return await self._explained(commit_schedule(self._loops.here().connector, self._sql, commit))

    async def list_ticks(
        self, key: ScheduleKey, *, limit: int = 50, before: tuple[int, int] | None = None
    ) -> Sequence[tuple[tuple[int, int], TickRecord]]:
        (workflow_ids, schedule_ids) = keys_args([key])
        place = before or (None, None)
        rows = await self._fetch(self._sql.list_ticks, workflow_ids[0], schedule_ids[0], *place, max(limit, 0))
        return [tick_record(row) for row in rows]

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
        args = reopen_args(run_id, expected_index, record, mail, expires_at, now)
        pauses = iter(_PAUSES)
        while not (rows := await self._fetch(self._sql.reopen, *args)):
            if not is_reopenable(await self.get_run(run_id), expected_index):
                return None
            await asyncio.sleep(next(pauses, _PAUSES[-1]))
        return run_record(rows[0])

    async def wait_for_work(self, workflow_ids: Collection[str]) -> None:
        if not self._listens:
            await super().wait_for_work(workflow_ids)
        await self._loops.here().notices.wait(workflow_ids)

    # -- The store itself

    async def migrate(self) -> None:
        await self.apply_migrations()

    async def apply_migrations(self) -> Sequence[Migration]:
        """`migrate`, which says what it did: nothing where the schema is up to date."""
        with _unavailable(self.engine):
            async with self._loops.here().connector.link() as driver:
                return await apply(driver, self.schema, timeout=self._migration_timeout, concurrently=not self._pooler)

    async def check(self) -> None:
        if (problem := (await self.schema_state()).problem(self.schema)) is not None:
            raise StoreError(problem)

    async def schema_state(self) -> SchemaState:
        """What tables there are, whether this package can work on them or not."""
        with _unavailable(self.engine):
            async with self._loops.here().connector.link() as driver:
                return await read_state(driver, self.schema)

    async def close(self) -> None:
        await self._loops.close()

    async def close_loop(self) -> None:
        await self._loops.close_here()

    # -- Inside

    async def _fetch(self, sql: str, *args: Any) -> Sequence[Row]:
        return await self._explained(self._loops.here().connector.fetch(sql, *args))

    async def _explained(self, work: Any) -> Any:
        """Await it; where a table is missing, say which command makes it. Nothing is checked as long as all is well."""
        try:
            return await work
        except SchemaError as error:
            raise await self._explain(error) from error

    async def _explain(self, error: SchemaError) -> StoreError:
        await self.check()
        return StoreError(f"The tables in schema {self.schema!r} are not ours, or damaged: {error}")


@contextmanager
def _unavailable(engine: AsyncEngine) -> Generator[None]:
    """For what is done once, by a person or a deployment: it isn't tried again, but says what is wrong."""
    try:
        yield
    except LostConnectionError as error:
        raise StoreUnavailableError(f"The {name_of(engine)} can't be reached: {error}") from error


def _claimed_run(row: Row) -> ClaimedRun:
    return ClaimedRun(run_record(row), log_from_arrays(*row[LOG]), mail_from_arrays(row[MAIL]), row[REST])


def _check_mail(run_id: str, mail: NewMail) -> None:
    identifier(run_id, "run id")
    identifier(mail.id, f"{mail.kind} id")


def _distinct(ids: Collection[str], what: str = "workflow id") -> list[str]:
    return [identifier(id_, what) for id_ in dict.fromkeys(ids)]
