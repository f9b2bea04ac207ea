"""`migrate`, `check`, `close`, and what outlives a handle."""

from __future__ import annotations

import asyncio
from threading import Thread

import pytest

from workflow.runtime.contract import ExecutionStore, HeldLease, Renewal

from .harness import Reopen, StoreSuite, closing_test, durable_test, shared_test, skip_unless_durable, store_test
from .samples import (
    at,
    claim_due,
    commit,
    create,
    deliver,
    end,
    nothing_written,
    pause,
    row,
    signal,
    signal_wait,
    snapshot,
    start,
    timer_wait,
)

__all__ = ["LifecycleSuite"]


async def a_run_of_each_kind(store: ExecutionStore) -> None:
    await create(store, "queued")
    await deliver(store, signal(), "queued")
    await store.commit(commit(await start(store, "running"), 3, state="[1]"))
    await deliver(store, signal(), "running")
    await store.commit(commit(await start(store, "paused"), 2, pause(signal_wait(), timer_wait(9))))
    await store.commit(commit(await start(store, "ended"), 1, end()))


class LifecycleSuite(StoreSuite):
    @store_test
    async def test_migrate_again(self, store: ExecutionStore) -> None:
        """Migrating what is migrated changes nothing, and its check passes."""
        await a_run_of_each_kind(store)
        async with nothing_written(store):
            await store.migrate()
            await store.check()

    @closing_test
    async def test_close_again(self, store: ExecutionStore, reopen: Reopen) -> None:
        """Closing is safe to repeat, also at once, and so is letting go of a loop."""
        await create(store, "before")
        await store.close_loop()
        assert (await row(store, "before")).status == "queued"
        async with asyncio.timeout(30):
            await asyncio.gather(store.close(), store.close())
            await store.close()

    @durable_test
    async def test_everything_outlives_the_handle(self, store: ExecutionStore, reopen: Reopen) -> None:
        """What a handle has written another one finds, though the first was never closed: a process may be killed."""
        await a_run_of_each_kind(store)
        before = await snapshot(store)
        async with reopen() as other:
            assert await snapshot(other) == before
        assert await snapshot(store) == before

    @closing_test
    async def test_everything_outlives_a_closed_store(self, store: ExecutionStore, reopen: Reopen) -> None:
        """A store that was closed is opened again with all its runs, which go on there."""
        skip_unless_durable(store)
        await a_run_of_each_kind(store)
        before = await snapshot(store)
        await store.close()
        async with reopen() as other:
            await other.check()
            assert await snapshot(other) == before
            found = await claim_due(other, now=100)
            assert sorted(claimed.run.run_id for claimed in found) == ["paused", "queued", "running"]

    @shared_test
    async def test_two_handles_migrate_at_once(self, store: ExecutionStore, other: ExecutionStore) -> None:
        """Two processes that migrate at once don't disturb each other, nor the runs."""
        await a_run_of_each_kind(store)
        async with nothing_written(store):
            await asyncio.gather(store.migrate(), other.migrate(), store.migrate(), other.migrate())
        await other.check()

    @shared_test
    async def test_handles_see_each_other(self, store: ExecutionStore, other: ExecutionStore) -> None:
        """What one handle has written before it answered, the other sees at once."""
        claimed = await start(store)
        assert (await row(other)).status == "running"
        await deliver(other, signal())
        assert [mail.id for mail in (await store.commit(commit(claimed, 1, seen=0))).mail] == ["s1"]
        assert len(await other.read_log("r")) == 1

    @store_test
    async def test_waiting_for_work_can_be_given_up(self, store: ExecutionStore) -> None:
        """Whoever waits for work may stop at any time; the store works on, and can be waited for again."""
        for _ in range(2):
            waiting = asyncio.ensure_future(store.wait_for_work(["orders"]))
            await store.next_due(["orders"])
            waiting.cancel()
            await asyncio.wait([waiting])
        assert (await create(store)).status == "queued"

    @store_test
    async def test_renew_from_another_loop(self, store: ExecutionStore) -> None:
        """Leases are renewed from another thread's loop while this one is blocked."""
        if not store.capabilities.renews_from_any_loop:
            pytest.skip(f"{type(store).__name__} renews on one loop only (capabilities.renews_from_any_loop)")
        claimed = await start(store)
        renewed: list[Renewal] = []

        async def renew() -> None:
            for until in (90, 95):
                renewed.extend(await store.renew([HeldLease("r", 1)], until=at(until), now=at(20)))
            await store.close_loop()

        thread = Thread(target=lambda: asyncio.run(renew()))
        thread.start()
        thread.join(30)  # on purpose: nothing else can run on this loop meanwhile
        assert renewed == [Renewal("r", 1, 0)] * 2
        assert (await row(store)).due_at == at(95)
        await store.commit(commit(claimed, 1))
