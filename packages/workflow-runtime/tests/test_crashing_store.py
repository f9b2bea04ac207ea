"""`CrashingStore` dies where it is told to, stays dead, and leaves the store inside as the crash left it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from inspect import iscoroutinefunction
from typing import Any

import pytest

from workflow.core import InvalidArgumentError
from workflow.core.records import Commit, Lease, LogRecord, NewMail, NewRun
from workflow.runtime.contract import ClaimLimits, ExecutionStore, HeldLease, RunFilter
from workflow.runtime.memory import MemoryStore
from workflow.runtime.queues import Queue
from workflow.runtime.schedules.records import ScheduleCommit, ScheduleKey
from workflow.runtime.testing import (
    WRITES,
    CrashingStore,
    CrashPoint,
    LostConnection,
    SimulatedCrash,
    crash_points,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LEASE = Lease("ann", NOW + timedelta(seconds=30))


JOINED = {"transact", "create_run_within", "deliver_within"}
"""What the store in memory refuses, so that nothing comes after it."""


def new_run(run_id: str = "r") -> NewRun:
    return NewRun(run_id, "orders", None, "{}", NOW)


async def every_operation(store: ExecutionStore) -> None:
    await store.migrate()
    await store.check()
    await store.create_run(new_run(), lease=None, now=NOW)
    await store.claim_run("r", LEASE, now=NOW)
    await store.commit(Commit("r", 1, 0, NOW, LEASE, (LogRecord(0, "{}"),)))
    await store.deliver("r", NewMail("signal", "s", "paid", "{}"), lease=None, now=NOW)
    await store.renew([HeldLease("r", 1)], until=LEASE.until, now=NOW)
    await store.claim_due(["orders"], LEASE, limits=ClaimLimits.all(9), now=NOW)
    await store.claim_queue(Queue("q"), ["orders"], LEASE, limits=ClaimLimits.all(9), now=NOW)
    await store.commit_schedule(ScheduleCommit(ScheduleKey("orders", "daily"), 0, NOW, None, False, "{}"))
    await store.read_schedules()
    await store.list_ticks(ScheduleKey("orders", "daily"))
    await store.reopen("r", expected_index=1, record=LogRecord(1, "{}"), mail=(), expires_at=None, now=NOW)
    app: Any = None
    for joined in (
        store.transact(app),
        store.create_run_within(app, new_run(), now=NOW),
        store.deliver_within(app, "r", NewMail("signal", "s", "paid", "{}"), now=NOW),
    ):
        with suppress(InvalidArgumentError):  # a store in memory has no transactions to join
            await joined
    await store.get_run("r")
    await store.read_log("r")
    await store.next_due(["orders"])
    await store.list_runs(RunFilter())
    await store.purge(NOW)


def crashed(scenario: Coroutine[Any, Any, object]) -> None:
    with pytest.raises(SimulatedCrash):
        asyncio.run(scenario)


def test_without_a_plan_nothing_happens() -> None:
    """Each operation is passed on, and the trace names all of them in order."""
    store = CrashingStore(MemoryStore())
    asyncio.run(every_operation(store))
    assert store.trace[:5] == ["migrate", "check", "create_run", "claim_run", "commit"]
    reads = {"get_run", "read_log", "next_due", "list_runs", "read_schedules", "list_ticks"}
    assert set(store.trace) >= WRITES | reads
    assert not store.dead


def test_it_wraps_every_operation_of_the_contract() -> None:
    """No operation of the contract reaches the store inside without a chance to die before it."""
    never_fail = {"close", "close_loop", "wait_for_work"}
    recorded = CrashingStore(MemoryStore())
    asyncio.run(every_operation(recorded))
    operations = {name for name in dir(ExecutionStore) if iscoroutinefunction(getattr(ExecutionStore, name))}
    assert set(recorded.trace) | never_fail >= operations


def test_it_has_the_capabilities_of_the_store_inside() -> None:
    """A test that asks what the store can do gets the truth."""
    assert CrashingStore(MemoryStore()).capabilities == MemoryStore.capabilities


@pytest.mark.parametrize("operation", sorted(WRITES - JOINED))
def test_death_before_an_operation_prevents_it(operation: str) -> None:
    """Dying before an operation leaves the store as the operation before left it."""
    store = CrashingStore(MemoryStore(), CrashPoint(operation, when="before"))
    crashed(every_operation(store))
    assert store.trace[-1] == operation
    log = asyncio.run(store.inner.read_log("r"))
    assert len(log) == (1 if "commit" in store.trace[:-1] else 0)


@pytest.mark.parametrize("operation", sorted(WRITES - JOINED))
def test_death_after_an_operation_loses_only_the_answer(operation: str) -> None:
    """Dying after an operation leaves its effect in the store."""
    store = CrashingStore(MemoryStore(), CrashPoint(operation, when="after"))
    crashed(every_operation(store))
    assert store.trace[-1] == operation
    log = asyncio.run(store.inner.read_log("r"))
    assert len(log) == (1 if "commit" in store.trace else 0)


def test_the_kth_call_is_counted_for_each_operation() -> None:
    """The number of a crash point counts the calls of that operation, whatever is called in between."""

    async def scenario(store: ExecutionStore) -> None:
        for number in range(4):
            await store.create_run(new_run(f"r{number}"), lease=None, now=NOW)
            await store.get_run("r0")

    store = CrashingStore(MemoryStore(), CrashPoint("create_run", 3))
    crashed(scenario(store))
    assert asyncio.run(store.inner.get_run("r2")) is not None
    assert asyncio.run(store.inner.get_run("r3")) is None


def test_the_dead_do_nothing_any_more() -> None:
    """What a dying process tries in its `finally`, or in another task, has no effect; closing does no harm."""
    inner = MemoryStore()
    store = CrashingStore(inner, CrashPoint("claim_run", when="before"))

    async def scenario() -> None:
        await store.create_run(new_run(), lease=None, now=NOW)
        try:
            await store.claim_run("r", LEASE, now=NOW)
        finally:
            with pytest.raises(SimulatedCrash):
                await store.claim_run("r", LEASE, now=NOW)
            await store.close()
            await store.close_loop()

    crashed(scenario())
    run = asyncio.run(inner.get_run("r"))
    assert run is not None
    assert run.status == "queued"
    assert store.dead


def test_an_operation_under_way_at_the_death_of_its_process_gets_no_answer() -> None:
    """Where one task dies, the others of its process die with it, though their operation may have happened."""

    class Slow(MemoryStore):
        async def claim_run(self, run_id: str, *args: Any, **options: Any) -> Any:
            await died.wait()
            return await super().claim_run(run_id, *args, **options)

    died = asyncio.Event()

    async def scenario() -> list[object]:
        store = CrashingStore(Slow(), CrashPoint("get_run"))
        await store.create_run(new_run(), lease=None, now=NOW)

        async def die() -> None:
            try:
                await store.get_run("r")
            finally:
                died.set()

        answers = await asyncio.gather(store.claim_run("r", LEASE, now=NOW), die(), return_exceptions=True)
        run = await store.inner.get_run("r")
        assert run is not None
        assert run.status == "running"
        return list(answers)

    assert [type(answer) for answer in asyncio.run(scenario())] == [SimulatedCrash, SimulatedCrash]


def test_broad_excepts_do_not_survive_a_crash() -> None:
    """A crash is no `Exception`: code that forgives everything does not forgive its own death."""

    async def scenario() -> None:
        store = CrashingStore(MemoryStore(), CrashPoint("get_run"))
        try:
            await store.get_run("r")
        except Exception:
            pytest.fail("the dead went on")

    crashed(scenario())


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_lost_connection_is_survived(when: Any) -> None:
    """With `fatal=False` one call fails, having happened or not, and the next one works."""

    async def scenario() -> bool:
        store = CrashingStore(MemoryStore(), CrashPoint("create_run", 1, when, fatal=False))
        with pytest.raises(LostConnection):
            await store.create_run(new_run(), lease=None, now=NOW)
        assert not store.dead
        return (await store.create_run(new_run(), lease=None, now=NOW)).created

    assert asyncio.run(scenario()) is (when == "before")


def test_a_plan_of_several_points() -> None:
    """A connection may fail several times, and the process die of something else in the end."""

    async def scenario(store: ExecutionStore) -> None:
        for _ in range(2):
            with pytest.raises(LostConnection):
                await store.get_run("r")
        await store.get_run("r")
        await store.next_due([])

    plan = (CrashPoint("get_run", 1, fatal=False), CrashPoint("get_run", 2, fatal=False), CrashPoint("next_due"))
    store = CrashingStore(MemoryStore(), plan)
    crashed(scenario(store))
    assert store.trace == ["get_run", "get_run", "get_run", "next_due"]


def test_crash_points_are_the_boundaries_of_all_writes() -> None:
    """A trace gives two points for each call that writes, in order; other operations only on request."""
    trace = ["create_run", "get_run", "commit", "read_log", "commit"]
    assert [str(point) for point in crash_points(trace)] == [
        "before-create_run-1",
        "after-create_run-1",
        "before-commit-1",
        "after-commit-1",
        "before-commit-2",
        "after-commit-2",
    ]
    reads = crash_points(trace, operations={"read_log"}, fatal=False)
    assert list(reads) == [
        CrashPoint("read_log", 1, "before", fatal=False),
        CrashPoint("read_log", 1, "after", fatal=False),
    ]
