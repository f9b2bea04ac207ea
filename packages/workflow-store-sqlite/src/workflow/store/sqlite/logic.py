"""`SqlExecutionStore`: the whole store contract in batches of SQLite's SQL, whoever runs them.

Each operation is made of two pure functions in the module of its kind: one makes the statements, one reads the answers.
Nothing here knows about files, threads or networks, so this also runs where there are none (Pyodide, Cloudflare D1).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime

from workflow.core.errors import StoreError
from workflow.core.records import (
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
)
from workflow.runtime.contract import ClaimLimits, ExecutionStore, HeldLease, Renewal, RunFilter
from workflow.runtime.queues import Queue
from workflow.runtime.schedules.records import ScheduleCommit, ScheduleKey, ScheduleRecord, TickRecord

from .claims import claim_run_statements, claimed_run, renew_result, renew_statement
from .commits import commit_result, commit_statements
from .creation import SELECT_RUN, create_result, create_statements
from .due import claim_due_result, claim_due_statements, next_due_result, next_due_statement
from .executor import Batch, Executor, Row
from .inbox import deliver_result, deliver_statements
from .queries import list_statement, purge_statements, read_log_statement
from .queueing import claim_queue_result, claim_queue_statements
from .reopening import reopen_result, reopen_statements
from .rows import log_records, run_record
from .schedules import (
    commit_schedule_statements,
    list_ticks_result,
    list_ticks_statement,
    read_schedules_result,
    read_schedules_statements,
)
from .schema import HAS_SCHEMA, READ_VERSION, Migration, current_version, migrations, require_version

__all__ = ["SqlExecutionStore"]


class SqlExecutionStore(ExecutionStore):
    """An `ExecutionStore` over an `Executor`, which runs batches of SQLite's SQL atomically.

    The first use looks at the schema: with `migrate=True` it creates or upgrades it, otherwise it only checks it.
    `where` names the database in errors.
    """

    def __init__(self, executor: Executor, *, migrate: bool, where: str) -> None:
        self._executor = executor
        self._where = where
        self._migrate_first = migrate
        self._ready = False

    async def create_run(self, new: NewRun, *, lease: Lease | None, now: datetime) -> CreatedRun:
        results = await self._batch(create_statements(new, lease, now))
        return create_result(results, new, lease)

    async def claim_run(self, run_id: str, lease: Lease, *, now: datetime, force: bool = False) -> ClaimedRun | None:
        results = await self._batch(claim_run_statements(run_id, lease, now, force))
        return claimed_run(results, lease, now)

    async def commit(self, commit: Commit) -> Committed:
        results = await self._batch(commit_statements(commit))
        return commit_result(commit, results[-1])

    async def deliver(self, run_id: str, mail: NewMail, *, lease: Lease | None, now: datetime) -> Delivered:
        results = await self._batch(deliver_statements(run_id, mail, lease, now))
        return deliver_result(results, mail, lease, now)

    async def get_run(self, run_id: str) -> RunRecord | None:
        (rows,) = await self._batch([(SELECT_RUN, (run_id,))], readonly=True)
        return run_record(rows[0]) if rows else None

    async def read_log(self, run_id: str, *, after: int = -1, limit: int | None = None) -> Sequence[LogRecord]:
        (rows,) = await self._batch([read_log_statement(run_id, after, limit)], readonly=True)
        return log_records(rows)

    async def claim_due(
        self,
        workflow_ids: Collection[str],
        lease: Lease,
        *,
        limits: ClaimLimits,
        now: datetime,
        without: Collection[str] = (),
    ) -> Sequence[ClaimedRun]:
        results = await self._batch(claim_due_statements(workflow_ids, lease, limits, now, without))
        return claim_due_result(results, lease, now)

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
        results = await self._batch(claim_queue_statements(queue, workflow_ids, lease, limits, now, by_age, run_id))
        return claim_queue_result(results, lease, now)

    async def renew(self, held: Collection[HeldLease], *, until: datetime, now: datetime) -> Sequence[Renewal]:
        (rows,) = await self._batch([renew_statement(held, until)])
        return renew_result(rows)

    async def next_due(self, workflow_ids: Collection[str], *, without: Collection[str] = ()) -> datetime | None:
        (rows,) = await self._batch([next_due_statement(workflow_ids, without)], readonly=True)
        return next_due_result(rows)

    async def list_runs(self, query: RunFilter) -> Sequence[RunRecord]:
        if query.status is not None and not query.status:
            return []  # SQLite finds no plan for what can't be true with the index that the statement names
        (rows,) = await self._batch([list_statement(query)], readonly=True)
        return [run_record(row) for row in rows]

    async def purge(self, older_than: datetime, *, workflow_id: str | None = None, limit: int = 1000) -> int:
        results = await self._batch(purge_statements(older_than, workflow_id, limit))
        return results[0][0][0]

    async def read_schedules(self, keys: Collection[ScheduleKey] | None = None) -> Sequence[ScheduleRecord]:
        return read_schedules_result(await self._batch(read_schedules_statements(keys), readonly=True))

    async def commit_schedule(self, commit: ScheduleCommit) -> bool:
        results = await self._batch(commit_schedule_statements(commit))
        return bool(results[-1])

    async def list_ticks(
        self, key: ScheduleKey, *, limit: int = 50, before: tuple[int, int] | None = None
    ) -> Sequence[tuple[tuple[int, int], TickRecord]]:
        (rows,) = await self._batch([list_ticks_statement(key, limit, before)], readonly=True)
        return list_ticks_result(rows)

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
        return reopen_result(
            await self._batch(reopen_statements(run_id, expected_index, record, mail, expires_at, now))
        )

    async def migrate(self) -> None:
        """Bring the schema to this package's version, one atomic migration after the other.

        Safe to repeat, and safe when several processes do it at once. Raises `StoreError`, and changes nothing, where
        the schema is newer than this package.
        """
        version = await self._version()
        if version > current_version():
            require_version(version, self._where)
        for migration in migrations()[version:]:
            await self._apply(migration)
        self._ready = True

    async def check(self) -> None:
        """Raise `StoreError`, with the command that helps, unless the schema is there and of this package's version."""
        require_version(await self._version(), self._where)

    async def close(self) -> None:
        """A store that owns its executor closes it."""

    async def _batch(self, statements: Batch, *, readonly: bool = False) -> list[list[Row]]:
        if not self._ready:
            await self._prepare()
        return await self._executor.batch(statements, readonly=readonly)

    async def _prepare(self) -> None:
        if self._migrate_first:
            await self.migrate()
        else:
            await self.check()
        self._ready = True

    async def _version(self) -> int:
        """The version of the schema in the database; 0 where there is none."""
        (tables,) = await self._executor.batch([HAS_SCHEMA], readonly=True)
        if not tables[0][0]:
            return 0
        (versions,) = await self._executor.batch([READ_VERSION], readonly=True)
        return versions[0][0] or 0

    async def _apply(self, migration: Migration) -> None:
        try:
            await self._executor.batch(migration.statements())
        except StoreError:
            if await self._version() < migration.version:
                raise
            # Another process has applied it at the same time.
