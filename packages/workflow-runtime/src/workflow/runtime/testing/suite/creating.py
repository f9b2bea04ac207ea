"""`create_run` and `get_run`: a run comes into being, once."""

from __future__ import annotations

from workflow.core.records import NewRun, RunRecord
from workflow.runtime.contract import ExecutionStore

from .harness import StoreSuite, store_test
from .samples import T0, at, claim, claim_due, commit, create, end, lease, new_run, nothing_written, row, start

__all__ = ["CreatingSuite"]


class CreatingSuite(StoreSuite):
    @store_test
    async def test_create_queues_a_run(self, store: ExecutionStore) -> None:
        """Without a lease the new run is queued, due when asked for, never started, and owned by nobody."""
        new = NewRun("r", "orders", "v2", '{"n":1}', at(5))
        created = await store.create_run(new, lease=None, now=T0)
        assert (created.created, created.claimed) == (True, None)
        assert created.run == RunRecord("r", "orders", "v2", "queued", '{"n":1}', T0, T0, at(5))
        assert await store.get_run("r") == created.run

    @store_test
    async def test_create_under_a_lease_claims_the_run(self, store: ExecutionStore) -> None:
        """With a lease the new run is running with fence 1, started now, due at the lease's end, and handed over."""
        created = await store.create_run(new_run(due=500), lease=lease("ann", 30), now=at(2))
        assert created.created
        assert created.claimed is not None
        run = created.run
        assert (run.status, run.fence, run.owner, run.due_at) == ("running", 1, "ann", at(30))
        assert (run.started_at, run.created_at, run.updated_at, run.recoveries) == (at(2), at(2), at(2), 0)
        assert created.claimed.run == run == await row(store)
        assert created.claimed.claimed_from == "queued"
        assert (tuple(created.claimed.log), tuple(created.claimed.mail)) == ((), ())

    @store_test
    async def test_create_keeps_an_existing_run(self, store: ExecutionStore) -> None:
        """A second creation of an id writes nothing, whatever it asks for, and answers with the row there is."""
        first = await create(store)
        async with nothing_written(store):
            again = await store.create_run(NewRun("r", "other", "v9", "[]", at(9)), lease=None, now=at(1))
        assert (again.created, again.claimed) == (False, None)
        assert again.run == first

    @store_test
    async def test_create_never_claims_an_existing_run(self, store: ExecutionStore) -> None:
        """A run that exists is not claimed by a creation, not even if it is due or its lease has run out."""
        await create(store, "queued")
        await start(store, "abandoned", until=1)
        for run_id in ("queued", "abandoned"):
            async with nothing_written(store):
                again = await store.create_run(new_run(run_id), lease=lease("bob", 900), now=at(600))
            assert (again.created, again.claimed) == (False, None)

    @store_test
    async def test_create_repeated_after_a_lost_answer_waits_for_the_lease(self, store: ExecutionStore) -> None:
        """Where the answer to a creation under a lease was lost, the run is taken up when that lease has run out."""
        await start(store, until=30)
        assert (await store.create_run(new_run(), lease=lease("bob", 60), now=at(1))).claimed is None
        assert await claim_due(store, now=29) == []
        assert [found.run.run_id for found in await claim_due(store, now=30)] == ["r"]

    @store_test
    async def test_create_keeps_an_ended_run(self, store: ExecutionStore) -> None:
        """The id of an ended run is taken: its creation answers with the ended row."""
        await store.commit(commit(await start(store), 1, end()))
        async with nothing_written(store):
            again = await store.create_run(new_run(), lease=lease(), now=at(50))
        assert (again.created, again.claimed, again.run.status) == (False, None, "completed")

    @store_test
    async def test_get_run_of_nothing(self, store: ExecutionStore) -> None:
        """An unknown run is None, and its log is empty."""
        assert await store.get_run("nobody") is None
        assert list(await store.read_log("nobody")) == []

    @store_test
    async def test_started_at_is_the_first_claim(self, store: ExecutionStore) -> None:
        """`started_at` is None until the first claim, and that claim's time forever after."""
        assert (await create(store)).started_at is None
        first = await claim(store, now=3, until=10)
        second = await claim(store, now=20, until=30)
        assert first.run.started_at == second.run.started_at == at(3)
