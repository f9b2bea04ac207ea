"""`purge`: old runs go, with all that is theirs; nothing else does."""

from __future__ import annotations

from workflow.core.records import Transition
from workflow.runtime.contract import ExecutionStore, RunFilter

from .harness import StoreSuite, store_test
from .samples import (
    at,
    claim_due,
    commit,
    create,
    deliver,
    end,
    inbox,
    nothing_written,
    pause,
    row,
    signal,
    signal_wait,
    start,
    timer_wait,
)

__all__ = ["PurgingSuite"]


async def ended(store: ExecutionStore, run_id: str, completed: float, *, workflow_id: str = "orders") -> None:
    """A run with a log and an unread mail, that ended at this time."""
    claimed = await start(store, run_id, workflow_id=workflow_id)
    await deliver(store, signal(), run_id)
    await store.commit(commit(claimed, 2, end(), now=completed))


async def remaining(store: ExecutionStore) -> set[str]:
    return {run.run_id for run in await store.list_runs(RunFilter())}


class PurgingSuite(StoreSuite):
    @store_test
    async def test_purge_by_time_of_completion(self, store: ExecutionStore) -> None:
        """Runs that ended before the time are deleted and counted; one that ended at it stays."""
        for number, completed in enumerate((1, 2, 2.999999, 3, 4)):
            await ended(store, f"r{number}", completed)
        assert await store.purge(at(3)) == 3
        assert await remaining(store) == {"r3", "r4"}
        assert await store.purge(at(3)) == 0

    @store_test
    async def test_purge_takes_each_kind_of_end(self, store: ExecutionStore) -> None:
        """Completed, errored and cancelled runs are all ended runs."""
        for status in ("completed", "errored", "cancelled"):
            await store.commit(commit(await start(store, status), 0, Transition(status), now=1))
        assert await store.purge(at(2)) == 3
        assert await remaining(store) == set()

    @store_test
    async def test_purge_leaves_what_has_not_ended(self, store: ExecutionStore) -> None:
        """A run that has not ended is never touched, however old it is, nor are its log and its mail."""
        await create(store, "queued")
        await start(store, "abandoned", until=1)
        await store.commit(commit(await start(store, "waiting"), 2, pause(signal_wait())))
        await store.commit(commit(await start(store, "sleeping"), 2, pause(timer_wait(9))))
        await deliver(store, signal("s1", "other"), "waiting")
        await ended(store, "ended", 2)
        assert await store.purge(at(10**8)) == 1
        async with nothing_written(store):
            assert await store.purge(at(10**8)) == 0
        assert await remaining(store) == {"queued", "abandoned", "waiting", "sleeping"}
        assert len(await store.read_log("waiting")) == 2
        assert [mail.id for mail in await inbox(store, "waiting")] == ["s1"]

    @store_test
    async def test_purge_deletes_log_and_inbox(self, store: ExecutionStore) -> None:
        """Nothing of a purged run is left: its id can be used again, with an empty log and an empty inbox."""
        await ended(store, "r", 1)
        await ended(store, "other", 5)
        assert await store.purge(at(2)) == 1
        assert await store.get_run("r") is None
        assert list(await store.read_log("r")) == []
        assert (await store.deliver("r", signal(), lease=None, now=at(6))).outcome == "not_found"
        run = await create(store, now=6)
        assert (run.fence, run.log_length, run.mail_count, run.created_at) == (0, 0, 0, at(6))
        assert await inbox(store) == ()
        assert await deliver(store, signal()) == 1
        assert ((await row(store, "other")).log_length, len(await store.read_log("other"))) == (2, 2)

    @store_test
    async def test_purged_run_created_again_is_swept_once(self, store: ExecutionStore) -> None:
        """A new run under a purged id is due at its own time and claimed once."""
        await create(store, due=3)
        (claimed,) = await claim_due(store, now=3, until=30)
        await store.commit(commit(claimed, 1, end(), now=4))
        assert await store.purge(at(5)) == 1
        await create(store, now=5, due=30)
        assert list(await claim_due(store, now=29)) == []
        assert [found.run.fence for found in await claim_due(store, now=30)] == [1]

    @store_test
    async def test_purge_limit(self, store: ExecutionStore) -> None:
        """At most `limit` runs go in one call; repeated until it returns less, it leaves none."""
        for number in range(5):
            await ended(store, f"r{number}", 1)
        assert [await store.purge(at(2), limit=2) for _ in range(4)] == [2, 2, 1, 0]
        assert await remaining(store) == set()

    @store_test
    async def test_purge_one_workflow(self, store: ExecutionStore) -> None:
        """With a workflow id the runs of the others stay."""
        for workflow_id in ("a", "b", "a%"):
            await ended(store, f"run-{workflow_id}", 1, workflow_id=workflow_id)
        assert await store.purge(at(2), workflow_id="unknown") == 0
        assert await store.purge(at(2), workflow_id="a", limit=9) == 1
        assert await remaining(store) == {"run-b", "run-a%"}
