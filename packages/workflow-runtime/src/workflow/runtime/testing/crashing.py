"""`CrashingStore`: a store whose process dies at a chosen boundary of a chosen operation.

Enumerate every boundary of a scenario: run it once on a recording store, then once for each crash point, and let a
second runtime on the same data sweep to the end:

    recording = CrashingStore(store)
    ... the scenario on `recording` ...
    for point in crash_points(recording.trace):
        dying = CrashingStore(fresh_store, point)
        with pytest.raises(SimulatedCrash):
            ... the scenario on `dying` ...
        ... a new runtime on `fresh_store`: sweep, then assert what must hold ...
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, TypeVar

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
from workflow.core.transactions import Transaction
from workflow.runtime.contract import ClaimLimits, ExecutionStore, HeldLease, Renewal, RunFilter
from workflow.runtime.queues import Queue
from workflow.runtime.schedules.records import ScheduleCommit, ScheduleKey, ScheduleRecord, TickRecord

__all__ = ["WRITES", "CrashPoint", "CrashingStore", "LostConnection", "SimulatedCrash", "crash_points"]

WRITES = frozenset(
    {
        "create_run",
        "claim_run",
        "commit",
        "transact",
        "deliver",
        "claim_due",
        "claim_queue",
        "renew",
        "purge",
        "commit_schedule",
        "reopen",
    }
)
"""The operations that change something. To die at another one is to die between two of these."""

T = TypeVar("T")


class SimulatedCrash(BaseException):
    """The process that used this store is dead. No `except Exception` survives that."""


class LostConnection(ConnectionError):  # noqa: N818 - reads as what happened
    """The connection failed, and whoever called can't know whether the operation has happened."""


@dataclass(frozen=True, slots=True)
class CrashPoint:
    """Die at the `call`-th call (from 1) of an operation: `before` it does anything, or `after` it took effect.

    With `fatal=False` the process lives: the call raises `LostConnection`, and what comes next works again.
    """

    operation: str
    call: int = 1
    when: Literal["before", "after"] = "after"
    fatal: bool = True

    def __str__(self) -> str:
        return f"{self.when}-{self.operation}-{self.call}"


def crash_points(
    trace: Iterable[str], *, operations: Collection[str] = WRITES, fatal: bool = True
) -> Iterator[CrashPoint]:
    """Every boundary of the operations in a trace, in order: before and after each call."""
    calls: Counter[str] = Counter()
    for operation in trace:
        if operation in operations:
            calls[operation] += 1
            yield CrashPoint(operation, calls[operation], "before", fatal)
            yield CrashPoint(operation, calls[operation], "after", fatal)


class CrashingStore(ExecutionStore):
    """Any store, seen from a process that dies as planned. `trace` holds the names of the operations called.

    Once dead it stays dead: whatever the dying process still tries in its `finally` blocks, or other tasks have under
    way, raises `SimulatedCrash` as well. The store inside is untouched by that, and is for the next process to use.
    """

    def __init__(self, store: ExecutionStore, plan: CrashPoint | Iterable[CrashPoint] = ()) -> None:
        self.inner = store
        self.plan = frozenset({plan} if isinstance(plan, CrashPoint) else plan)
        self.trace: list[str] = []
        self.dead = False
        self._calls: Counter[str] = Counter()
        self.capabilities = store.capabilities

    async def create_run(self, new: NewRun, *, lease: Lease | None, now: datetime) -> CreatedRun:
        return await self._call("create_run", lambda: self.inner.create_run(new, lease=lease, now=now))

    async def claim_run(self, run_id: str, lease: Lease, *, now: datetime, force: bool = False) -> ClaimedRun | None:
        return await self._call("claim_run", lambda: self.inner.claim_run(run_id, lease, now=now, force=force))

    async def commit(self, commit: Commit) -> Committed:
        return await self._call("commit", lambda: self.inner.commit(commit))

    async def deliver(self, run_id: str, mail: NewMail, *, lease: Lease | None, now: datetime) -> Delivered:
        return await self._call("deliver", lambda: self.inner.deliver(run_id, mail, lease=lease, now=now))

    async def transact(self, transaction: Transaction) -> Committed:
        return await self._call("transact", lambda: self.inner.transact(transaction))

    async def create_run_within(self, connection: Any, new: NewRun, *, now: datetime) -> CreatedRun:
        return await self._call("create_run_within", lambda: self.inner.create_run_within(connection, new, now=now))

    async def deliver_within(self, connection: Any, run_id: str, mail: NewMail, *, now: datetime) -> Delivered:
        return await self._call("deliver_within", lambda: self.inner.deliver_within(connection, run_id, mail, now=now))

    async def get_run(self, run_id: str) -> RunRecord | None:
        return await self._call("get_run", lambda: self.inner.get_run(run_id))

    async def read_log(self, run_id: str, *, after: int = -1, limit: int | None = None) -> Sequence[LogRecord]:
        return await self._call("read_log", lambda: self.inner.read_log(run_id, after=after, limit=limit))

    async def claim_due(
        self,
        workflow_ids: Collection[str],
        lease: Lease,
        *,
        limits: ClaimLimits,
        now: datetime,
        without: Collection[str] = (),
    ) -> Sequence[ClaimedRun]:
        return await self._call(
            "claim_due",
            lambda: self.inner.claim_due(workflow_ids, lease, limits=limits, now=now, without=without),
        )

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
        return await self._call(
            "claim_queue",
            lambda: self.inner.claim_queue(
                queue, workflow_ids, lease, limits=limits, now=now, by_age=by_age, run_id=run_id
            ),
        )

    async def read_schedules(self, keys: Collection[ScheduleKey] | None = None) -> Sequence[ScheduleRecord]:
        return await self._call("read_schedules", lambda: self.inner.read_schedules(keys))

    async def commit_schedule(self, commit: ScheduleCommit) -> bool:
        return await self._call("commit_schedule", lambda: self.inner.commit_schedule(commit))

    async def list_ticks(
        self, key: ScheduleKey, *, limit: int = 50, before: tuple[int, int] | None = None
    ) -> Sequence[tuple[tuple[int, int], TickRecord]]:
        return await self._call("list_ticks", lambda: self.inner.list_ticks(key, limit=limit, before=before))

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
        return await self._call(
            "reopen",
            lambda: self.inner.reopen(
                run_id, expected_index=expected_index, record=record, mail=mail, expires_at=expires_at, now=now
            ),
        )

    async def renew(self, held: Collection[HeldLease], *, until: datetime, now: datetime) -> Sequence[Renewal]:
        return await self._call("renew", lambda: self.inner.renew(held, until=until, now=now))

    async def next_due(self, workflow_ids: Collection[str], *, without: Collection[str] = ()) -> datetime | None:
        return await self._call("next_due", lambda: self.inner.next_due(workflow_ids, without=without))

    async def wait_for_work(self, workflow_ids: Collection[str]) -> None:
        """No operation of its own to die at: nothing hangs on a notice."""
        await self.inner.wait_for_work(workflow_ids)

    async def list_runs(self, query: RunFilter) -> Sequence[RunRecord]:
        return await self._call("list_runs", lambda: self.inner.list_runs(query))

    async def purge(self, older_than: datetime, *, workflow_id: str | None = None, limit: int = 1000) -> int:
        return await self._call("purge", lambda: self.inner.purge(older_than, workflow_id=workflow_id, limit=limit))

    async def migrate(self) -> None:
        await self._call("migrate", self.inner.migrate)

    async def check(self) -> None:
        await self._call("check", self.inner.check)

    async def close(self) -> None:
        """Close the store inside, unless dead: a dead process closes nothing, and the next one needs the store."""
        if not self.dead:
            await self.inner.close()

    async def close_loop(self) -> None:
        if not self.dead:
            await self.inner.close_loop()

    async def _call(self, operation: str, act: Callable[[], Awaitable[T]]) -> T:
        self._live()
        self.trace.append(operation)
        self._calls[operation] += 1
        call = self._calls[operation]
        self._reach(operation, call, "before")
        answer = await act()
        self._live()  # another task may have killed the process meanwhile: the answer reaches nobody
        self._reach(operation, call, "after")
        return answer

    def _live(self) -> None:
        if self.dead:
            raise SimulatedCrash("The process has died before.")

    def _reach(self, operation: str, call: int, when: Literal["before", "after"]) -> None:
        if CrashPoint(operation, call, when, fatal=False) in self.plan:
            raise LostConnection(f"The connection failed {when} call {call} of {operation}.")
        if CrashPoint(operation, call, when) in self.plan:
            self.dead = True
            raise SimulatedCrash(f"The process died {when} call {call} of {operation}.")
