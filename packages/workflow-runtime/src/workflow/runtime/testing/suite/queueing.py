"""Tests of queues: `claim_queue`, and how `claim_due` and `next_due` leave a queue out."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from workflow.core.records import ClaimedRun, RunRecord
from workflow.runtime.contract import ClaimLimits, ExecutionStore
from workflow.runtime.queues import Queue, RateLimit

from .harness import Handles, StoreSuite, race_test, store_test
from .samples import ANYTHING, WORKFLOW, at, claim_due, commit, create, end, lease, pause, queue, row, start, timer_wait

__all__ = ["QueueingSuite"]


async def take(
    store: ExecutionStore,
    limits: Queue,
    *workflow_ids: str,
    now: float = 1,
    until: float = 1000,
    claim: ClaimLimits = ANYTHING,
    **how: Any,
) -> list[ClaimedRun]:
    """One claim from a queue, or a reasoned skip where the store knows no queues."""
    if not store.capabilities.queues:
        pytest.skip(f"{type(store).__name__} can't do queues (capabilities.queues)")
    ids = workflow_ids or (WORKFLOW,)
    return list(await store.claim_queue(limits, ids, lease("bob", until), limits=claim, now=at(now), **how))


async def take_all(store: ExecutionStore, limits: Queue, **how: Any) -> list[ClaimedRun]:
    """Claim until nothing more comes."""
    taken: list[ClaimedRun] = []
    while claimed := await take(store, limits, **how):
        taken += claimed
    return taken


def ids(runs: Sequence[ClaimedRun | RunRecord]) -> list[str]:
    return [run.run.run_id if isinstance(run, ClaimedRun) else run.run_id for run in runs]


async def fill(store: ExecutionStore, *run_ids: str, name: str | None = "q", **new: Any) -> None:
    for number, run_id in enumerate(run_ids):
        await create(store, run_id, queue=name, due=number / 100, **new)


class QueueingSuite(StoreSuite):
    """Slots are never exceeded, never leaked, and nobody is starved."""

    @store_test
    async def test_queue_key_and_priority_are_kept(self, store: ExecutionStore) -> None:
        """What a run was created with is on its row, wherever it is read."""
        await create(store, "a", queue="q", key="k", priority=-3, expires_at=at(99), schedule_id="daily")
        run = await row(store, "a")
        assert (run.queue, run.key, run.priority, run.expires_at, run.schedule_id) == ("q", "k", -3, at(99), "daily")
        assert run.queue_name == "q"
        (claimed,) = await claim_due(store, now=1)
        assert (claimed.run.queue, claimed.run.key, claimed.run.priority) == ("q", "k", -3)
        assert (claimed.run.expires_at, claimed.run.schedule_id) == (at(99), "daily")

    @store_test
    async def test_a_run_without_a_queue_is_in_its_workflows_own(self, store: ExecutionStore) -> None:
        """The workflow's own queue is named like the workflow."""
        await create(store, "a")
        assert (await row(store, "a")).queue_name == WORKFLOW
        assert ids(await take(store, Queue(WORKFLOW, concurrency=1))) == ["a"]

    @store_test
    async def test_queues_that_are_left_out_are_not_claimed(self, store: ExecutionStore) -> None:
        """`without` leaves the runs of these queues alone, the workflow's own one as well."""
        await fill(store, "a", name="q")
        await fill(store, "b", name=None)
        await fill(store, "c", name="other")
        claimed = await store.claim_due(
            [WORKFLOW], lease(), limits=ANYTHING, now=at(1), without=["q", WORKFLOW, "nobody's"]
        )
        assert ids(claimed) == ["c"]
        claimed = await store.claim_due([WORKFLOW], lease(), limits=ANYTHING, now=at(1), without=["q"])
        assert ids(claimed) == ["b"]

    @store_test
    async def test_queues_that_are_left_out_are_not_due(self, store: ExecutionStore) -> None:
        """`next_due` looks past the runs of a queue that is left out."""
        await create(store, "a", queue="q", due=5)
        await create(store, "b", due=7)
        assert await store.next_due([WORKFLOW]) == at(5)
        assert await store.next_due([WORKFLOW], without=["q"]) == at(7)
        assert await store.next_due([WORKFLOW], without=["q", WORKFLOW]) is None

    @store_test
    async def test_no_more_runs_than_slots(self, store: ExecutionStore) -> None:
        """At most `concurrency` runs of a queue are running, and an ended one makes room for the next."""
        limits = Queue("q", concurrency=2)
        await fill(store, "a", "b", "c", "d")
        taken = await take(store, limits)
        assert ids(taken) == ["a", "b"]
        assert await take(store, limits) == []
        await store.commit(commit(taken[0], 1, end()))
        assert ids(await take(store, limits, now=2)) == ["c"]

    @store_test
    async def test_a_paused_run_gives_its_slot_back(self, store: ExecutionStore) -> None:
        """A run that sleeps holds no slot, and needs one to go on."""
        limits = Queue("q", concurrency=1)
        await fill(store, "a", "b")
        (first,) = await take(store, limits)
        await store.commit(commit(first, 1, pause(timer_wait(5))))
        (second,) = await take(store, limits, now=2)
        assert second.run.run_id == "b"
        assert await take(store, limits, now=6) == []
        await store.commit(commit(second, 1, end(), now=7))
        (again,) = await take(store, limits, now=8)
        assert (again.run.run_id, again.claimed_from) == ("a", "paused")

    @store_test
    async def test_a_run_may_hold_its_slot_until_it_ends(self, store: ExecutionStore) -> None:
        """With `holds="started"` a sleeping run keeps its slot, and goes on without another."""
        limits = Queue("q", concurrency=1, holds="started")
        await fill(store, "a", "b")
        (first,) = await take(store, limits)
        await store.commit(commit(first, 1, pause(timer_wait(5))))
        assert await take(store, limits, now=2) == []
        (again,) = await take(store, limits, now=6)
        assert again.run.run_id == "a"
        await store.commit(commit(again, 1, end(), now=7))
        assert ids(await take(store, limits, now=8)) == ["b"]

    @store_test
    async def test_each_key_has_its_own_limit(self, store: ExecutionStore) -> None:
        """A flood of one key holds nobody else up; runs without a key are not limited by keys."""
        limits = Queue("q", concurrency_per_key=1)
        await fill(store, *(f"a{number}" for number in range(30)), key="a")
        await fill(store, "b", key="b")
        await fill(store, "n1", "n2")
        assert sorted(ids(await take_all(store, limits))) == ["a0", "b", "n1", "n2"]

    @store_test
    async def test_both_limits_hold(self, store: ExecutionStore) -> None:
        """The limit of the queue and that of the keys hold together."""
        limits = Queue("q", concurrency=3, concurrency_per_key=2)
        for key in "xyz":
            await fill(store, *(f"{key}{number}" for number in range(3)), key=key)
        taken = ids(await take_all(store, limits))
        assert len(taken) == 3
        assert max(sum(run_id[0] == key for run_id in taken) for key in "xyz") <= 2

    @store_test
    async def test_a_lapsed_lease_keeps_its_slot(self, store: ExecutionStore) -> None:
        """A run whose owner died still holds its slot; it is recovered although the queue is full."""
        limits = Queue("q", concurrency=1)
        await fill(store, "a", "b")
        await take(store, limits, until=10)
        (recovered,) = await take(store, limits, now=11)
        assert (recovered.run.run_id, recovered.claimed_from, recovered.run.recoveries) == ("a", "running", 1)

    @store_test
    async def test_limits_of_the_claim_hold_as_well(self, store: ExecutionStore) -> None:
        """A claim takes no more of a kind than it was asked for."""
        await fill(store, "a", "b", "c")
        limits = Queue("q", concurrency=9)
        assert await take(store, limits, claim=ClaimLimits(9, 0, 9)) == []
        assert ids(await take(store, limits, claim=ClaimLimits(0, 2, 0))) == ["a", "b"]

    @store_test
    async def test_higher_priority_goes_first(self, store: ExecutionStore) -> None:
        """Priority, then age; by age alone where the claim asks for that."""
        limits = Queue("q", concurrency=9)
        for number, priority in enumerate([0, 5, -1, 5]):
            await create(store, f"r{number}", queue="q", priority=priority, due=number / 100)
        one = ClaimLimits(0, 1, 0)
        assert ids(await take(store, limits, claim=one)) == ["r1"]
        assert ids(await take(store, limits, claim=one, by_age=True)) == ["r0"]
        assert ids(await take(store, limits)) == ["r3", "r2"]

    @store_test
    async def test_the_rate_of_starts_is_limited(self, store: ExecutionStore) -> None:
        """In any span of the period no more runs start than the limit; those that go on are not counted again."""
        limits = Queue("q", rate_limit=RateLimit(2, per=10))
        await fill(store, "a", "b", "c", "d")
        first, second = await take(store, limits)
        await store.commit(commit(first, 1, end()))
        await store.commit(commit(second, 1, queue(2), now=2))
        assert ids(await take(store, limits, now=3)) == ["b"]
        assert await take(store, limits, now=10) == []
        assert ids(await take(store, limits, now=11)) == ["c", "d"]

    @store_test
    async def test_the_rate_of_each_key_is_limited(self, store: ExecutionStore) -> None:
        """A key that has started enough waits; the others and runs without a key go on."""
        limits = Queue("q", rate_limit_per_key=RateLimit(1, per=10))
        await fill(store, "a1", "a2", key="a")
        await fill(store, "b1", key="b")
        await fill(store, "n1", "n2")
        assert sorted(ids(await take_all(store, limits))) == ["a1", "b1", "n1", "n2"]
        assert ids(await take_all(store, limits, now=11)) == ["a2"]

    @store_test
    async def test_ended_runs_count_for_the_rate(self, store: ExecutionStore) -> None:
        """A run that started and ended within the period still counts."""
        limits = Queue("q", rate_limit=RateLimit(1, per=10))
        await fill(store, "a", "b")
        (first,) = await take(store, limits)
        await store.commit(commit(first, 1, end()))
        assert await take(store, limits, now=2) == []

    @store_test
    async def test_one_run_is_asked_for(self, store: ExecutionStore) -> None:
        """With `run_id` that run is claimed or none, under the same limits."""
        limits = Queue("q", concurrency=2)
        await fill(store, "a", "b", "c")
        assert ids(await take(store, limits, run_id="b")) == ["b"]
        assert await take(store, limits, run_id="nobody") == []
        assert await take(store, limits, run_id="b") == []
        assert ids(await take(store, limits, run_id="c")) == ["c"]
        assert await take(store, limits, run_id="a") == []

    @store_test
    async def test_only_runs_of_the_workflows_asked_for(self, store: ExecutionStore) -> None:
        """A queue may be shared by workflows: a process takes its own, and all count."""
        limits = Queue("q", concurrency=2)
        await create(store, "a", workflow_id="other", queue="q")
        await fill(store, "b", "c")
        assert ids(await take(store, limits, "other")) == ["a"]
        assert ids(await take(store, limits)) == ["b"]

    @store_test
    async def test_runs_that_others_started_count(self, store: ExecutionStore) -> None:
        """A run that was claimed in another way holds a slot as well."""
        await start(store, "a", queue="q")
        await fill(store, "b")
        assert await take(store, Queue("q", concurrency=1)) == []

    @store_test
    async def test_the_whole_run_comes_back(self, store: ExecutionStore) -> None:
        """A claim from a queue brings log and mail, as every claim does."""
        claimed = await start(store, "a", queue="q")
        await store.commit(commit(claimed, 2, queue(1)))
        (again,) = await take(store, Queue("q", concurrency=1), now=2)
        assert len(again.log) == again.run.log_length == 2
        assert again.run.fence == 2

    @race_test
    async def test_claims_at_once_never_exceed_a_limit(self, handles: Handles) -> None:
        """Many claims at the same time take as many runs as there are slots, each once."""
        limits = Queue("q", concurrency=5, concurrency_per_key=2)
        for number in range(30):
            await create(handles[0], f"r{number}", queue="q", key="abc"[number % 3])
        some = ClaimLimits(3, 3, 3)
        claims = [take(handles[number % len(handles)], limits, claim=some) for number in range(12)]
        taken = [run for claimed in await asyncio.gather(*claims) for run in claimed]
        taken += await take_all(handles[0], limits)
        assert len(set(ids(taken))) == len(taken) == 5
        assert max(sum(run.run.key == key for run in taken) for key in "abc") <= 2

    @race_test
    async def test_claims_at_once_never_exceed_a_rate(self, handles: Handles) -> None:
        """Many claims at the same time start no more runs than the rate allows."""
        limits = Queue("q", rate_limit=RateLimit(4, per=60))
        await fill(handles[0], *(f"r{number}" for number in range(12)))
        claims = [take(handles[number % len(handles)], limits) for number in range(8)]
        taken = [run for claimed in await asyncio.gather(*claims) for run in claimed]
        assert len(set(ids(taken))) == len(taken) == 4

    @store_test
    async def test_an_unstarted_run_is_replaced(self, store: ExecutionStore) -> None:
        """`replace_unstarted` gives a run that nobody has begun another input, other times and another place."""
        await create(store, "a", due=5, input='"old"')
        place = {"queue": "q", "key": "k", "priority": 3}
        again = await create(
            store, "a", due=9, input='"new"', now=3, replace_unstarted=True, expires_at=at(20), **place
        )
        assert (again.queue, again.key, again.priority) == ("q", "k", 3)
        assert (again.input, again.due_at, again.expires_at) == ('"new"', at(9), at(20))
        assert (again.created_at, again.updated_at) == (at(0), at(3))
        assert await row(store, "a") == again
        assert await claim_due(store, now=8) == []
        assert ids(await claim_due(store, now=9)) == ["a"]

    @store_test
    async def test_a_started_run_is_not_replaced(self, store: ExecutionStore) -> None:
        """What was begun, has ended, or is of another workflow stays as it is."""
        await start(store, "a", input='"old"')
        before = await row(store, "a")
        assert await create(store, "a", input='"new"', now=3, replace_unstarted=True) == before
        await store.commit(commit(before, 1, queue(2), now=2))
        before = await row(store, "a")
        assert await create(store, "a", input='"new"', now=3, replace_unstarted=True) == before
        await create(store, "b", input='"old"')
        before = await row(store, "b")
        assert await create(store, "b", workflow_id="other", now=3, replace_unstarted=True) == before
