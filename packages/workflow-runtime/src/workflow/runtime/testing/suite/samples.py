"""Small runs, leases, mails and commits for the tests of the suite, and ways to look at a store as a whole."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from workflow.core.records import (
    ClaimedRun,
    Commit,
    Committed,
    Lease,
    LogRecord,
    Mail,
    NewMail,
    NewRun,
    RunRecord,
    Transition,
    Wait,
)
from workflow.runtime.contract import ClaimLimits, ExecutionStore
from workflow.runtime.testing.invariants import all_runs

__all__ = [
    "ANYTHING",
    "T0",
    "Snapshot",
    "approval",
    "approval_wait",
    "at",
    "cancel",
    "claim",
    "claim_due",
    "commit",
    "create",
    "deliver",
    "end",
    "inbox",
    "lease",
    "new_run",
    "nothing_written",
    "pause",
    "queue",
    "record",
    "records",
    "refused",
    "row",
    "signal",
    "signal_wait",
    "snapshot",
    "start",
    "timer_wait",
]

T0 = datetime(2026, 1, 1, 12, tzinfo=UTC)
WORKFLOW = "orders"
ANYTHING = ClaimLimits.all(1000)


def at(seconds: float) -> datetime:
    """`T0` and so many seconds: the tests count time from there."""
    return T0 + timedelta(seconds=seconds)


def lease(owner: str = "ann", until: float = 30) -> Lease:
    return Lease(owner, at(until))


def new_run(
    run_id: str = "r", workflow_id: str = WORKFLOW, *, due: float = 0, input: str = "{}", **more: Any
) -> NewRun:
    return NewRun(run_id, workflow_id, None, input, at(due), **more)


def record(index: int, payload: str | None = None) -> LogRecord:
    return LogRecord(index, f'{{"type":"E{index}"}}', payload)


def records(start: int, count: int) -> tuple[LogRecord, ...]:
    return tuple(record(index) for index in range(start, start + count))


def signal(id: str = "s1", name: str = "paid", payload: str = '"ok"') -> NewMail:
    return NewMail("signal", id, name, payload)


def approval(id: str = "a1", name: str = "Ship it?", payload: str = "true") -> NewMail:
    return NewMail("approval", id, name, payload)


def cancel(id: str = "c1", payload: str = "null") -> NewMail:
    return NewMail("cancel", id, "cancel", payload)


def signal_wait(name: str = "paid", until: float | None = None) -> Wait:
    return Wait("signal", f"wait-{name}", name, None if until is None else at(until))


def approval_wait(id: str = "a1") -> Wait:
    return Wait("approval", id, "Ship it?")


def timer_wait(until: float) -> Wait:
    return Wait("timer", "sleep", until=at(until))


def pause(*waits: Wait) -> Transition:
    """A pause as a drive asks for it: due at the earliest time of its waits, if one has a time."""
    return Transition("paused", min((wait.until for wait in waits if wait.until), default=None), waits)


def queue(due: float = 0) -> Transition:
    return Transition("queued", at(due))


def end(output: str | None = '"done"') -> Transition:
    return Transition("completed", output=output)


async def create(store: ExecutionStore, run_id: str = "r", *, now: float = 0, **new: Any) -> RunRecord:
    """A run that is queued."""
    new.setdefault("due", now)
    return (await store.create_run(new_run(run_id, **new), lease=None, now=at(now))).run


async def start(
    store: ExecutionStore, run_id: str = "r", *, now: float = 0, until: float = 30, owner: str = "ann", **new: Any
) -> ClaimedRun:
    """A run that is created under a lease."""
    new.setdefault("due", now)
    created = await store.create_run(new_run(run_id, **new), lease=lease(owner, until), now=at(now))
    assert created.claimed is not None
    return created.claimed


async def claim(
    store: ExecutionStore,
    run_id: str = "r",
    *,
    now: float,
    until: float = 1000,
    owner: str = "bob",
    force: bool = False,
) -> ClaimedRun:
    claimed = await store.claim_run(run_id, lease(owner, until), now=at(now), force=force)
    assert claimed is not None, f"{run_id!r} could not be claimed"
    return claimed


async def claim_due(
    store: ExecutionStore,
    *workflow_ids: str,
    now: float,
    limits: ClaimLimits = ANYTHING,
    owner: str = "bob",
    until: float = 1000,
) -> Sequence[ClaimedRun]:
    return await store.claim_due(workflow_ids or (WORKFLOW,), lease(owner, until), limits=limits, now=at(now))


async def deliver(store: ExecutionStore, mail: NewMail, run_id: str = "r", *, now: float = 0) -> int:
    """Deliver mail that is new, without a claim, and answer its `seq`."""
    delivered = await store.deliver(run_id, mail, lease=None, now=at(now))
    assert delivered.outcome == "accepted"
    assert delivered.run is not None
    return delivered.run.mail_count


def commit(
    run: RunRecord | ClaimedRun,
    appended: int | tuple[LogRecord, ...] = 0,
    transition: Transition | None = None,
    *,
    now: float = 1,
    until: float = 60,
    seen: int | None = None,
    fence: int | None = None,
    index: int | None = None,
    consumed: tuple[int, ...] = (),
    state: str | None = None,
    owner: str = "ann",
) -> Commit:
    """A commit by the owner of the run as it was when `run` was read; it has seen the mail there was then."""
    run = run.run if isinstance(run, ClaimedRun) else run
    index = run.log_length if index is None else index
    return Commit(
        run_id=run.run_id,
        fence=run.fence if fence is None else fence,
        expected_index=index,
        now=at(now),
        lease=lease(owner, until),
        records=records(index, appended) if isinstance(appended, int) else appended,
        consumed=consumed,
        seen_mail=run.mail_count if seen is None else seen,
        state=state,
        transition=transition,
    )


async def row(store: ExecutionStore, run_id: str = "r") -> RunRecord:
    run = await store.get_run(run_id)
    assert run is not None, f"{run_id!r} is gone"
    return run


async def inbox(store: ExecutionStore, run_id: str = "r") -> tuple[Mail, ...]:
    """The unconsumed mail of a run that has not ended. Takes the run for that: only for the end of a test."""
    return (await claim(store, run_id, now=10_000, until=10_030, owner="inspector", force=True)).mail


@dataclass(frozen=True)
class Snapshot:
    """Everything of a store that can be seen without changing it."""

    rows: dict[str, RunRecord]
    logs: dict[str, tuple[LogRecord, ...]]
    mail: dict[str, tuple[Mail, ...]]
    """Of running runs: only a claim shows the inbox of the others, and `mail_count` shows what came into it."""


async def snapshot(store: ExecutionStore) -> Snapshot:
    rows = {run.run_id: run async for run in all_runs(store)}
    logs = {run_id: tuple(await store.read_log(run_id)) for run_id in rows}
    mail = {run.run_id: (await _look(store, run)).mail for run in rows.values() if run.status == "running"}
    return Snapshot(rows, logs, mail)


async def _look(store: ExecutionStore, run: RunRecord) -> Committed:
    """An empty commit, by the owner, that leaves each field as it is and brings the whole inbox."""
    assert run.owner is not None
    assert run.due_at is not None
    same = Lease(run.owner, run.due_at)
    return await store.commit(Commit(run.run_id, run.fence, run.log_length, run.updated_at, same))


@asynccontextmanager
async def nothing_written(store: ExecutionStore) -> AsyncGenerator[None]:
    """`async with nothing_written(store):` the store is afterwards as it was."""
    before = await snapshot(store)
    yield
    assert await snapshot(store) == before, "something was written"


@asynccontextmanager
async def refused(store: ExecutionStore, error: type[Exception]) -> AsyncGenerator[None]:
    """`async with refused(store, SomeError):` the body raises it, and the store is afterwards as it was."""
    async with nothing_written(store):
        with pytest.raises(error):
            yield
