"""`claim_due` and `next_due`: whoever sweeps finds all that is due, and only that."""

from __future__ import annotations

from workflow.core.errors import LeaseLostError
from workflow.core.records import Transition
from workflow.runtime.contract import ClaimLimits, ExecutionStore

from .harness import StoreSuite, store_test
from .samples import (
    approval_wait,
    at,
    claim,
    claim_due,
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

__all__ = ["SweepingSuite"]


async def one_of_each(store: ExecutionStore, due: float = 10) -> None:
    """A run of each kind that a sweep finds, all due at the same time."""
    await start(store, "abandoned", until=due)
    await create(store, "ready", due=due)
    await store.commit(commit(await start(store, "timer"), 1, pause(timer_wait(due))))


class SweepingSuite(StoreSuite):
    @store_test
    async def test_claim_due_finds_each_kind(self, store: ExecutionStore) -> None:
        """Abandoned, queued and paused runs that are due are claimed as by `claim_run`, and as that is told apart."""
        await one_of_each(store)
        claimed = await claim_due(store, now=10, until=40)
        assert {found.run.run_id: found.claimed_from for found in claimed} == {
            "abandoned": "running",
            "ready": "queued",
            "timer": "paused",
        }
        recoveries = {"abandoned": 1, "ready": 0, "timer": 0}
        for found in claimed:
            run = found.run
            assert run == await row(store, run.run_id)
            assert (run.status, run.owner, run.due_at) == ("running", "bob", at(40))
            assert (run.fence, run.recoveries) == (1 if run.run_id == "ready" else 2, recoveries[run.run_id])
            assert run.started_at == at(10 if run.run_id == "ready" else 0)

    @store_test
    async def test_claim_due_brings_log_and_mail(self, store: ExecutionStore) -> None:
        """Each claimed run comes with its own whole log and its own unconsumed mail, in order."""
        for number in (1, 2, 3):
            claimed = await start(store, f"r{number}")
            for mail in range(number):
                await deliver(store, signal(f"s{mail}"), f"r{number}")
            appended = tuple(record(index, f'"r{number}"') for index in range(3 - number))
            await store.commit(commit(claimed, appended, queue(), seen=number, consumed=(1,)))
        for found in await claim_due(store, now=5):
            number = int(found.run.run_id[1:])
            assert tuple(found.log) == tuple(record(index, f'"r{number}"') for index in range(3 - number))
            assert [mail.seq for mail in found.mail] == list(range(2, number + 1))

    @store_test
    async def test_claim_due_leaves_what_is_not_due(self, store: ExecutionStore) -> None:
        """Nothing is claimed a microsecond too early, nor if it waits for mail alone or has ended."""
        await one_of_each(store, due=10)
        await store.commit(commit(await start(store, "mail"), 1, pause(signal_wait(), approval_wait())))
        await store.commit(commit(await start(store, "ended"), 1, end()))
        async with nothing_written(store):
            assert list(await claim_due(store, now=9.999999)) == []
        assert len(await claim_due(store, now=10, until=10**6)) == 3
        assert list(await claim_due(store, now=10**5)) == []

    @store_test
    async def test_claim_due_of_nothing(self, store: ExecutionStore) -> None:
        """An empty store, no workflow ids, unknown ones, and limits of zero give nothing, and write nothing."""
        assert list(await claim_due(store, now=100)) == []
        await one_of_each(store)
        async with nothing_written(store):
            assert list(await claim_due(store, "unknown", now=100)) == []
            assert list(await claim_due(store, now=100, limits=ClaimLimits(0, 0, 0))) == []
            found = await store.claim_due((), lease(), limits=ClaimLimits.all(9), now=at(100))
            assert list(found) == []

    @store_test
    async def test_claim_due_takes_only_its_workflows(self, store: ExecutionStore) -> None:
        """A process claims runs of the workflows that it has, and leaves the others to those who have them."""
        for workflow_id in ("a", "b", "c", "A", "a%"):
            await create(store, f"run-{workflow_id}", workflow_id=workflow_id)
        assert sorted(found.run.workflow_id for found in await claim_due(store, "a", "b", now=1)) == ["a", "b"]
        assert [found.run.workflow_id for found in await claim_due(store, "a%", "a", now=1)] == ["a%"]

    @store_test
    async def test_claim_due_keeps_to_each_limit(self, store: ExecutionStore) -> None:
        """Of each kind at most its limit is claimed, whatever is left of the others."""
        for number in range(3):
            await start(store, f"abandoned-{number}", until=5)
            await create(store, f"ready-{number}", due=5)
            await store.commit(commit(await start(store, f"timer-{number}"), 1, pause(timer_wait(5))))
        kinds: list[list[str]] = []
        for limits in (ClaimLimits(1, 2, 0), ClaimLimits(0, 0, 2), ClaimLimits(9, 0, 0), ClaimLimits.all(9)):
            found = await claim_due(store, now=9, limits=limits)
            kinds.append(sorted(claimed.claimed_from for claimed in found))
        assert kinds == [["queued", "queued", "running"], ["paused"] * 2, ["running"] * 2, ["paused", "queued"]]

    @store_test
    async def test_claim_due_takes_the_longest_due_first(self, store: ExecutionStore) -> None:
        """Of each kind those that have been due longest are taken, and come in that order."""
        for due in (3, 1, 4, 2):
            await start(store, f"abandoned-{due}", until=due)
            await create(store, f"ready-{due}", workflow_id="ab"[due % 2], due=due)
            await store.commit(commit(await start(store, f"timer-{due}"), 1, pause(timer_wait(due))))
        order: list[str] = []
        for _ in range(2):
            found = await claim_due(store, "a", "b", "orders", now=9, limits=ClaimLimits.all(2))
            for kind in ("running", "queued", "paused"):
                order += [claimed.run.run_id for claimed in found if claimed.claimed_from == kind]
        assert order[:6] == ["abandoned-1", "abandoned-2", "ready-1", "ready-2", "timer-1", "timer-2"]
        assert order[6:] == ["abandoned-3", "abandoned-4", "ready-3", "ready-4", "timer-3", "timer-4"]

    @store_test
    async def test_claim_due_takes_a_run_once(self, store: ExecutionStore) -> None:
        """What a claim has taken no other finds, until that claim's lease runs out."""
        await one_of_each(store)
        assert len(await claim_due(store, now=10, until=40, owner="ann")) == 3
        async with nothing_written(store):
            assert list(await claim_due(store, now=39)) == []

    @store_test
    async def test_claim_due_finds_a_lost_claim_again(self, store: ExecutionStore) -> None:
        """Where the answer to a claim was lost, its runs are found when the lease runs out; the lost fence is void."""
        await one_of_each(store)
        lost = await claim_due(store, now=10, until=40, owner="ann")
        found = await claim_due(store, now=40, until=70)
        assert sorted(claimed.run.run_id for claimed in found) == ["abandoned", "ready", "timer"]
        assert {claimed.claimed_from for claimed in found} == {"running"}
        for claimed in lost:
            async with refused(store, LeaseLostError):
                await store.commit(commit(claimed, 1, index=claimed.run.log_length))

    @store_test
    async def test_claim_due_finds_what_mail_made_ready(self, store: ExecutionStore) -> None:
        """A delivery that nobody followed up is found by the next sweep: an accepted signal can't be forgotten."""
        await store.commit(commit(await start(store), 1, pause(signal_wait())))
        await deliver(store, signal(), now=7)
        (found,) = await claim_due(store, now=7)
        assert (found.claimed_from, [mail.id for mail in found.mail]) == ("queued", ["s1"])

    @store_test
    async def test_claim_due_finds_what_was_released(self, store: ExecutionStore) -> None:
        """A run that moved between times and statuses is due at its last one, and found exactly once."""
        claimed = await start(store, until=50)
        await store.commit(commit(claimed, 1, until=500))
        await store.commit(commit(claimed, 0, Transition("queued", at(5)), index=1))
        assert len(await claim_due(store, now=5, until=30)) == 1
        held = await row(store)
        await store.commit(commit(held, 0, pause(timer_wait(20)), now=6))
        assert list(await claim_due(store, now=19)) == []
        assert len(await claim_due(store, now=20, until=30)) == 1
        assert list(await claim_due(store, now=29)) == []
        (found,) = await claim_due(store, now=600)
        assert (found.run.fence, found.run.recoveries) == (4, 1)

    @store_test
    async def test_claim_due_takes_a_run_once_that_went_to_and_fro(self, store: ExecutionStore) -> None:
        """A run that was due at a time, then sooner, and then at that time again, is claimed once, and not sooner."""
        await create(store, due=10)
        for due in (5, 10):
            await store.commit(commit(await claim(store, now=0, force=True), 0, queue(due)))
        assert list(await claim_due(store, now=7)) == []
        assert await store.next_due(["orders"]) == at(10)
        (found,) = await claim_due(store, now=10)
        assert found.run.fence == 3

    @store_test
    async def test_next_due(self, store: ExecutionStore) -> None:
        """The earliest due time of all runs that have not ended: queued, leased or paused; None where there is none."""
        assert await store.next_due(["orders"]) is None
        await store.commit(commit(await start(store, "mail"), 1, pause(signal_wait())))
        await store.commit(commit(await start(store, "ended"), 1, end()))
        assert await store.next_due(["orders"]) is None
        await store.commit(commit(await start(store, "timer"), 1, pause(timer_wait(30.000001))))
        assert await store.next_due(["orders"]) == at(30.000001)
        await start(store, "held", until=20)
        assert await store.next_due(["orders"]) == at(20)
        await create(store, "ready", due=10)
        assert await store.next_due(["orders"]) == at(10)

    @store_test
    async def test_next_due_follows_the_runs(self, store: ExecutionStore) -> None:
        """It goes up again when the earliest run is taken, renewed, or ends, and lies in the past where a run does."""
        await create(store, due=-100)
        assert await store.next_due(["orders"]) == at(-100)
        claimed = await claim(store, now=0, until=30)
        assert await store.next_due(["orders"]) == at(30)
        await store.commit(commit(claimed, 1, until=60))
        assert await store.next_due(["orders"]) == at(60)
        await store.commit(commit(claimed, 0, end(), index=1))
        assert await store.next_due(["orders"]) is None

    @store_test
    async def test_next_due_looks_at_its_workflows_only(self, store: ExecutionStore) -> None:
        """Runs of workflows that were not named don't count."""
        for due, workflow_id in enumerate(("c", "b", "a"), start=1):
            await create(store, f"r{due}", workflow_id=workflow_id, due=due)
        assert await store.next_due(["a", "b"]) == at(2)
        assert await store.next_due(["unknown"]) is None
        assert await store.next_due([]) is None
