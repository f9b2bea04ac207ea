"""`renew`: all leases of a process, in one go."""

from __future__ import annotations

from dataclasses import replace

from workflow.core.errors import LeaseLostError
from workflow.runtime.contract import ExecutionStore, HeldLease, Renewal

from .harness import StoreSuite, store_test
from .samples import (
    at,
    claim,
    claim_due,
    commit,
    create,
    deliver,
    end,
    nothing_written,
    pause,
    queue,
    refused,
    row,
    signal,
    start,
    timer_wait,
)

__all__ = ["RenewingSuite"]


class RenewingSuite(StoreSuite):
    @store_test
    async def test_renew_extends_leases(self, store: ExecutionStore) -> None:
        """All leases that are held move to the new time, and nothing else about their runs changes."""
        held: list[HeldLease] = []
        for number in range(3):
            claimed = await start(store, f"r{number}", until=30)
            await store.commit(commit(claimed, number, state="[1]"))
            held.append(HeldLease(f"r{number}", 1))
        await start(store, "other", until=30)
        before = [await row(store, lease.run_id) for lease in held]
        renewed = await store.renew(held, until=at(90), now=at(20))
        assert {lease.run_id: (lease.fence, lease.mail_count) for lease in renewed} == {
            "r0": (1, 0),
            "r1": (1, 0),
            "r2": (1, 0),
        }
        for number in range(3):
            assert await row(store, f"r{number}") == replace(before[number], due_at=at(90))
        assert [found.run.run_id for found in await claim_due(store, now=89)] == ["other"]

    @store_test
    async def test_renew_answers_for_held_leases_only(self, store: ExecutionStore) -> None:
        """A lease that was taken, released or never given is not answered for, and its run is not touched."""
        held = [HeldLease("nobody", 1), HeldLease("taken", 1), HeldLease("to come", 2), HeldLease("never", 0)]
        await start(store, "taken", until=1)
        await claim(store, "taken", now=1)
        await start(store, "to come")
        await create(store, "never")
        for run_id, transition in (("queued", queue()), ("paused", pause(timer_wait(9))), ("ended", end())):
            await store.commit(commit(await start(store, run_id), 1, transition))
            held.append(HeldLease(run_id, 1))
        async with nothing_written(store):
            assert list(await store.renew(held, until=at(9000), now=at(2))) == []
        await start(store, "mine")
        renewed = await store.renew([*held, HeldLease("mine", 1)], until=at(60), now=at(2))
        assert list(renewed) == [Renewal("mine", 1, 0)]

    @store_test
    async def test_renew_after_the_time_ran_out(self, store: ExecutionStore) -> None:
        """A lease whose time is over is still held if nobody has taken the run, and can be renewed."""
        claimed = await start(store, until=10)
        renewed = await store.renew([HeldLease("r", 1)], until=at(530), now=at(500))
        assert list(renewed) == [Renewal("r", 1, 0)]
        assert list(await claim_due(store, now=529)) == []
        await store.commit(commit(claimed, 1, end()))

    @store_test
    async def test_renew_tells_of_mail(self, store: ExecutionStore) -> None:
        """A renewal says how many mails were ever delivered, consumed ones included, so that news shows."""
        claimed = await start(store)
        assert await deliver(store, signal("s1")) == 1
        await deliver(store, signal("s2"))
        await store.commit(commit(claimed, 1, consumed=(1,)))
        for _ in range(2):
            assert list(await store.renew([HeldLease("r", 1)], until=at(60), now=at(1))) == [Renewal("r", 1, 2)]

    @store_test
    async def test_renew_nothing(self, store: ExecutionStore) -> None:
        """A process that holds nothing gets nothing."""
        await start(store)
        async with nothing_written(store):
            assert list(await store.renew([], until=at(60), now=at(1))) == []

    @store_test
    async def test_renew_many(self, store: ExecutionStore) -> None:
        """Hundreds of leases are renewed in one call, those still held among many that are lost."""
        for number in range(5):
            await start(store, f"r{number}")
        held = [HeldLease(f"r{number}", 1) for number in range(700)]
        renewed = await store.renew(held, until=at(60), now=at(1))
        assert sorted(lease.run_id for lease in renewed) == [f"r{number}" for number in range(5)]

    @store_test
    async def test_renewal_does_not_save_a_lost_lease(self, store: ExecutionStore) -> None:
        """Who lost its run to another claim loses nothing for the other by renewing, and can't commit after it."""
        former = await start(store, until=10)
        await claim(store, now=10, until=40)
        assert list(await store.renew([HeldLease("r", 1)], until=at(900), now=at(11))) == []
        assert (await row(store)).due_at == at(40)
        async with refused(store, LeaseLostError):
            await store.commit(commit(former, 1))
