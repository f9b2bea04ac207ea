"""`claim_run`: ownership of one run."""

from __future__ import annotations

from workflow.core.errors import LeaseLostError
from workflow.core.records import Transition
from workflow.runtime.contract import ExecutionStore

from .harness import StoreSuite, store_test
from .samples import (
    at,
    claim,
    commit,
    create,
    deliver,
    end,
    lease,
    nothing_written,
    pause,
    queue,
    record,
    refused,
    row,
    signal,
    signal_wait,
    start,
    timer_wait,
)

__all__ = ["ClaimingSuite"]


class ClaimingSuite(StoreSuite):
    @store_test
    async def test_claim_of_a_queued_run(self, store: ExecutionStore) -> None:
        """A claim raises the fence, makes the run running under the lease, and says what the run was before."""
        await create(store, now=1)
        claimed = await claim(store, now=2, until=32, owner="ann")
        run = claimed.run
        assert (run.status, run.fence, run.owner, run.due_at) == ("running", 1, "ann", at(32))
        assert (run.started_at, run.created_at, run.recoveries) == (at(2), at(1), 0)
        assert claimed.claimed_from == "queued"
        assert run == await row(store)

    @store_test
    async def test_claim_brings_log_and_mail(self, store: ExecutionStore) -> None:
        """A claim brings the whole log and the unconsumed mail, both in order."""
        appended = (record(0, "[0]"), record(1), record(2, "[2]"))
        await store.commit(commit(await start(store), appended))
        for id in ("s1", "s2", "s3"):
            await deliver(store, signal(id), now=2)
        held = await row(store)
        await store.commit(commit(held, 1, queue(), consumed=(2,)))
        claimed = await claim(store, now=5)
        assert tuple(claimed.log) == (*appended, record(3))
        assert [(mail.seq, mail.id, mail.sent_at) for mail in claimed.mail] == [(1, "s1", at(2)), (3, "s3", at(2))]

    @store_test
    async def test_claim_before_the_due_time(self, store: ExecutionStore) -> None:
        """A run is claimed from its due time on, and not a microsecond before it."""
        await create(store, due=10)
        async with nothing_written(store):
            assert await store.claim_run("r", lease(), now=at(9.999999)) is None
        assert (await claim(store, now=10)).run.fence == 1

    @store_test
    async def test_claim_of_a_leased_run(self, store: ExecutionStore) -> None:
        """A run whose lease has not run out is not claimed by anybody, not even by its owner."""
        await start(store, until=30)
        async with nothing_written(store):
            assert await store.claim_run("r", lease("ann", 90), now=at(29)) is None

    @store_test
    async def test_claim_of_a_paused_run(self, store: ExecutionStore) -> None:
        """A run paused until a time is claimed from then on, keeps its waits, and was `paused`."""
        await store.commit(commit(await start(store), 1, pause(timer_wait(100))))
        assert await store.claim_run("r", lease(), now=at(99)) is None
        claimed = await claim(store, now=100)
        assert claimed.claimed_from == "paused"
        assert (claimed.run.fence, claimed.run.recoveries, claimed.run.waits) == (2, 0, (timer_wait(100),))

    @store_test
    async def test_claim_of_a_run_that_waits_for_mail_alone(self, store: ExecutionStore) -> None:
        """A run that has no due time is never due."""
        await store.commit(commit(await start(store), 1, pause(signal_wait())))
        async with nothing_written(store):
            assert await store.claim_run("r", lease(), now=at(10**9)) is None

    @store_test
    async def test_claim_of_nothing(self, store: ExecutionStore) -> None:
        """An unknown run and an ended run are not claimed, by force or without."""
        for status in ("completed", "errored", "cancelled"):
            await store.commit(commit(await start(store, status), 0, Transition(status)))
        for run_id in ("nobody", "completed", "errored", "cancelled"):
            for force in (False, True):
                async with nothing_written(store):
                    assert await store.claim_run(run_id, lease(), now=at(10**9), force=force) is None

    @store_test
    async def test_claim_counts_recoveries(self, store: ExecutionStore) -> None:
        """Each claim from an owner whose lease has run out raises the fence and counts as a recovery in a row."""
        await start(store, until=10)
        for times in (1, 2, 3):
            claimed = await claim(store, now=10 * times, until=10 * times + 10)
            assert (claimed.run.recoveries, claimed.run.fence) == (times, times + 1)
            assert claimed.claimed_from == "running"

    @store_test
    async def test_claim_from_rest_is_no_recovery(self, store: ExecutionStore) -> None:
        """A claim of a queued or paused run leaves the count of recoveries as the last release left it."""
        await start(store, until=10)
        recovered = await claim(store, now=10)
        await store.commit(commit(recovered, 0, Transition("queued", at(11), recoveries=None)))
        requeued = await claim(store, now=11)
        assert requeued.run.recoveries == 1
        await store.commit(commit(requeued, 0, pause(timer_wait(20))))
        assert (await claim(store, now=20)).run.recoveries == 0

    @store_test
    async def test_forced_claim(self, store: ExecutionStore) -> None:
        """By force a run is taken that is not due, or waits for mail alone: no recovery, as nobody was running it."""
        await create(store, "later", due=100)
        await store.commit(commit(await start(store, "waiting"), 1, pause(signal_wait())))
        for run_id, was in (("later", "queued"), ("waiting", "paused")):
            claimed = await claim(store, run_id, now=1, until=31, force=True)
            assert (claimed.claimed_from, claimed.run.recoveries) == (was, 0)
            assert (claimed.run.status, claimed.run.due_at, claimed.run.owner) == ("running", at(31), "bob")

    @store_test
    async def test_forced_claim_of_a_leased_run(self, store: ExecutionStore) -> None:
        """By force a leased run changes hands: it counts as a recovery, and the former owner is refused."""
        former = await start(store, until=30)
        claimed = await claim(store, now=1, force=True)
        assert (claimed.run.fence, claimed.run.recoveries, claimed.claimed_from) == (2, 1, "running")
        async with refused(store, LeaseLostError):
            await store.commit(commit(former, 1, end()))
