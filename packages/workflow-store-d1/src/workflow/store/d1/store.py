"""`D1Store`: the store of an app on Cloudflare."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from workflow.core.errors import InvalidArgumentError, StoreError
from workflow.core.records import (
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
from workflow.runtime.contract import Capabilities, HeldLease, Renewal
from workflow.runtime.schedules.records import ScheduleCommit
from workflow.store.sqlite import Batch, Executor, Row, SqlExecutionStore
from workflow.store.sqlite.claims import renew_result, renew_statement
from workflow.store.sqlite.commits import commit_result, commit_statements

from .binding import BindingExecutor
from .errors import D1UnavailableError
from .limits import MAX_PAYLOAD, check_commit, check_mail, check_new_run, check_records, check_schedule, check_text
from .patience import PatientExecutor
from .rest import BASE_URL, RestExecutor
from .schema import explained, version_guard
from .usage import Usage

if TYPE_CHECKING:
    import httpx

__all__ = ["D1Store"]


class D1Store(SqlExecutionStore):
    """An `ExecutionStore` in one Cloudflare D1 database.

    `D1Store(env.DB)` uses a Worker's binding, as Cloudflare's SDK wraps it or as it is. Elsewhere there is
    `D1Store.from_http(...)`. Every operation is one call: a single atomic batch. `usage` counts them.

    It never creates the schema by itself: `await store.migrate()`, `python -m workflow.store.d1 migrate` or
    `wrangler d1 migrations apply` does. That the schema is there, and of this version, is checked by a statement
    in the first batch, not by a call of its own.

    `retry_for` is how many seconds in all it pauses to ask again where D1 is busy or breaks off. What may have
    happened is asked again only where the answer means the same: reads, commits and renewals. Otherwise it raises
    `D1UnavailableError`.
    """

    capabilities = Capabilities(
        durable=True, shared=True, renews_from_any_loop=False, queues=True, schedules=True, max_payload=MAX_PAYLOAD
    )

    def __init__(self, binding: Any, *, retry_for: float = 5.0) -> None:
        self.usage = Usage()
        where = "The D1 database"
        self._set_up(BindingExecutor(binding, self.usage, where), where, retry_for)

    @classmethod
    def from_http(
        cls,
        account_id: str,
        database_id: str,
        api_token: str,
        *,
        timeout: float = 30.0,
        retry_for: float = 20.0,
        base_url: str = BASE_URL,
        client: httpx.AsyncClient | None = None,
    ) -> D1Store:
        """The store by Cloudflare's REST API, for deploy scripts, administration, and apps with little traffic.

        `api_token` needs the permission D1:Edit. `timeout` (seconds) bounds each request. `client`, if given, is used
        from one event loop and closed by whoever gave it.
        """
        for name, value in (("account_id", account_id), ("database_id", database_id), ("api_token", api_token)):
            if not value:
                raise InvalidArgumentError(f"{name} is empty.")
        store = cls.__new__(cls)
        store.usage = Usage()
        where = f"The D1 database {database_id}"
        url = f"{base_url}/accounts/{account_id}/d1/database/{database_id}/raw"
        rest = RestExecutor(url, api_token, store.usage, where, timeout=timeout, client=client)
        store._set_up(rest, where, retry_for)
        store._rest = rest
        return store

    def _set_up(self, door: Executor, where: str, retry_for: float) -> None:
        self._rest: RestExecutor | None = None
        self._closed = False
        self._patient = PatientExecutor(door, retry_for)
        super().__init__(self._patient, migrate=False, where=where)

    async def create_run(self, new: NewRun, *, lease: Lease | None, now: datetime) -> CreatedRun:
        check_new_run(new)
        return await super().create_run(new, lease=lease, now=now)

    async def deliver(self, run_id: str, mail: NewMail, *, lease: Lease | None, now: datetime) -> Delivered:
        check_mail(run_id, mail)
        return await super().deliver(run_id, mail, lease=lease, now=now)

    async def commit(self, commit: Commit) -> Committed:
        check_commit(commit)
        results = await self._batch(commit_statements(commit), repeatable=True)
        return commit_result(commit, results[-1])

    async def renew(self, held: Collection[HeldLease], *, until: datetime, now: datetime) -> Sequence[Renewal]:
        (rows,) = await self._batch([renew_statement(held, until)], repeatable=True)
        return renew_result(rows)

    async def commit_schedule(self, commit: ScheduleCommit) -> bool:
        check_schedule(commit)
        return await super().commit_schedule(commit)

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
        check_records(f"of run {run_id!r}", [record])
        for one in mail:
            check_mail(run_id, one)
        return await super().reopen(
            run_id, expected_index=expected_index, record=record, mail=mail, expires_at=expires_at, now=now
        )

    async def close(self) -> None:
        """Close the connections. Safe to repeat; any other use then raises. A binding has nothing to close."""
        self._closed = True
        if self._rest is not None:
            await self._rest.close()

    async def close_loop(self) -> None:
        """Close the connections of this event loop."""
        if self._rest is not None:
            await self._rest.close()

    async def _batch(self, statements: Batch, *, readonly: bool = False, repeatable: bool = False) -> list[list[Row]]:
        if self._closed:
            raise StoreError("The store is closed.")
        check_text(statements)
        if self._ready:
            return await self._patient.batch(statements, readonly=readonly, repeatable=repeatable)
        return await self._first_batch(statements, readonly, repeatable)

    async def _first_batch(self, statements: Batch, readonly: bool, repeatable: bool) -> list[list[Row]]:
        """With a statement before it that fails unless the schema is of this version: so nothing is written then."""
        guarded = [version_guard(), *statements]
        try:
            results = await self._patient.batch(guarded, readonly=readonly, repeatable=repeatable)
        except D1UnavailableError:
            raise
        except StoreError as error:
            await explained(error, self.check)
            raise
        self._ready = True
        return results[1:]
