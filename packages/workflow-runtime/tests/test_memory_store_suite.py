"""`MemoryStore` passes the suite that every store passes."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

from workflow.core.records import Commit, Lease, NewRun, Transition, Wait
from workflow.runtime.contract import ClaimLimits, ExecutionStore, HeldLease
from workflow.runtime.memory import MemoryStore
from workflow.runtime.testing.suite import ExecutionStoreSuite


class TestMemoryStore(ExecutionStoreSuite):
    def make_store(self, tmp_path: Path) -> ExecutionStore:
        return MemoryStore()


def test_prolonged_leases_leave_no_litter() -> None:
    """However often a run moves its due time, few entries of it wait in the queues."""
    assert asyncio.run(_queued_after_many_moves()) <= 4


async def _queued_after_many_moves() -> int:
    store = MemoryStore()
    created = await store.create_run(NewRun("r", "orders", None, "{}", _at(0)), lease=Lease("ann", _at(30)), now=_at(0))
    fence = created.run.fence
    for seconds in range(1000):
        lease = Lease("ann", _at(seconds + 30))
        await store.commit(Commit("r", fence, 0, _at(seconds), lease))
        await store.renew([HeldLease("r", fence)], until=_at(seconds + 31), now=_at(seconds))
        if seconds % 10 == 0:
            assert await store.next_due(["orders"]) == _at(seconds + 31)
        if seconds % 100 == 0:
            paused = Transition("paused", _at(seconds + 5), (Wait("timer", "t"),))
            await store.commit(Commit("r", fence, 0, _at(seconds), lease, transition=paused))
            (claimed,) = await store.claim_due(["orders"], lease, limits=ClaimLimits.all(5), now=_at(seconds + 5))
            fence = claimed.run.fence
    return sum(len(queue) for queue in store._due.values())


def test_a_purged_run_is_forgotten() -> None:
    """Nothing of a purged run stays in memory but queue entries, which go when their time has come."""
    store = asyncio.run(_purged())
    assert (store._runs, store._by_creation, store._entered) == ({}, [], {})
    assert asyncio.run(store.next_due(["orders"])) is None
    assert sum(len(queue) for queue in store._due.values()) == 0


async def _purged() -> MemoryStore:
    store = MemoryStore()
    for number in range(5):
        run = NewRun(f"r{number}", "orders", None, "{}", _at(0))
        await store.create_run(run, lease=Lease("ann", _at(30)), now=_at(0))
        await store.commit(Commit(run.run_id, 1, 0, _at(1), Lease("ann", _at(30)), transition=Transition("completed")))
    assert await store.purge(_at(2)) == 5
    return store


def _at(seconds: float) -> datetime:
    return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
