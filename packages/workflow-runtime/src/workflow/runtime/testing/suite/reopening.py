"""Tests of runs that begin with a log, and of runs that are reopened after they ended."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from workflow.core import LeaseLostError
from workflow.core.records import RunRecord, Transition
from workflow.runtime.contract import ExecutionStore
from workflow.runtime.schedules.records import ScheduleCommit, ScheduleKey

from .harness import Handles, StoreSuite, race_test, store_test
from .samples import (
    at,
    cancel,
    claim,
    commit,
    create,
    deliver,
    end,
    nothing_written,
    pause,
    record,
    records,
    row,
    signal,
    signal_wait,
    start,
)

__all__ = ["ReopeningSuite"]

FAILED = Transition("errored", error='{"type":"X"}', waits=None)


async def failed(store: ExecutionStore, run_id: str = "r", *, appended: int = 2, **new: Any) -> RunRecord:
    """A run that has ended `errored` at 1 s."""
    await store.commit(commit(await start(store, run_id, **new), appended, FAILED))
    return await row(store, run_id)


async def reopen(store: ExecutionStore, run_id: str = "r", *, index: int = 2, now: float = 5, **more: Any) -> Any:
    more = {"mail": (), "expires_at": None, **more}
    return await store.reopen(run_id, expected_index=index, record=record(index, '"why"'), now=at(now), **more)


class ReopeningSuite(StoreSuite):
    """A run goes on from where it was, once for each time that it is asked to."""

    @store_test
    async def test_a_run_begins_with_a_log(self, store: ExecutionStore) -> None:
        """A run may be created with records and a state, queued or under a lease."""
        queued = await create(store, "a", log=records(0, 3), state='{"n":1}')
        assert (queued.log_length, queued.state) == (3, '{"n":1}')
        assert tuple(await store.read_log("a")) == records(0, 3)
        claimed = await start(store, "b", log=(record(0, "1"), record(1)), state="2")
        assert claimed.log == (record(0, "1"), record(1))
        assert (claimed.run.log_length, claimed.run.state) == (2, "2")
        assert (await store.commit(commit(claimed, 1, end()))).released

    @store_test
    async def test_an_existing_run_keeps_its_log(self, store: ExecutionStore) -> None:
        """Records of a run that is not created are not written."""
        await create(store, "a")
        await create(store, "a", log=records(0, 3))
        assert (await row(store, "a")).log_length == 0
        assert await store.read_log("a") in ((), [])

    @store_test
    async def test_an_errored_run_is_reopened(self, store: ExecutionStore) -> None:
        """It is queued and due, with the record in its log, without its end; a claim goes on with it."""
        before = await failed(store, queue="q", key="k", expires_at=at(3))
        run = await reopen(store, expires_at=at(99))
        assert run == await row(store)
        assert (run.status, run.due_at, run.completed_at, run.error) == ("queued", at(5), None, None)
        assert (run.log_length, run.fence, run.recoveries, run.waits) == (3, before.fence + 1, 0, ())
        assert (run.expires_at, run.queue, run.key, run.updated_at) == (at(99), "q", "k", at(5))
        claimed = await claim(store, now=6)
        assert claimed.log[2] == record(2, '"why"')
        assert (claimed.claimed_from, claimed.run.fence) == ("queued", before.fence + 2)
        assert (await store.commit(commit(claimed, 1, end(), now=7))).released

    @store_test
    async def test_a_cancelled_run_is_reopened(self, store: ExecutionStore) -> None:
        """Its cancel request is forgotten, read or not: it is not cancelled again, and can be."""
        run = await start(store)
        await deliver(store, cancel())
        await store.commit(commit(run, 2, Transition("cancelled"), consumed=(1,), seen=1))
        await reopen(store)
        assert (await claim(store, now=6)).mail == ()
        assert await deliver(store, cancel(), now=7) == 2
        failed_one = await start(store, "s")
        await deliver(store, cancel(), "s")
        await store.commit(commit(failed_one, 2, FAILED, seen=1))
        await reopen(store, "s")
        assert (await claim(store, "s", now=6)).mail == ()

    @store_test
    async def test_mail_is_delivered_again(self, store: ExecutionStore) -> None:
        """Mail that the run has consumed can be put back, with a new `seq`; what is unread stays."""
        run = await start(store)
        await deliver(store, signal("one"))
        await deliver(store, signal("two"))
        await store.commit(commit(run, 2, FAILED, consumed=(1,), seen=2))
        await reopen(store, mail=[signal("one", payload='"again"')])
        mail = (await claim(store, now=6)).mail
        assert [(item.id, item.seq, item.payload) for item in mail] == [("two", 2, '"ok"'), ("one", 3, '"again"')]
        delivered = await store.deliver("r", signal("one"), lease=None, now=at(7))
        assert delivered.outcome == "duplicate"

    @store_test
    async def test_other_runs_are_not_reopened(self, store: ExecutionStore) -> None:
        """Neither one that has completed or not ended, nor one whose log is another, nor none."""
        await failed(store, "failed")
        await store.commit(commit(await start(store, "done"), 2, end()))
        await store.commit(commit(await start(store, "paused"), 2, pause(signal_wait())))
        await store.commit(commit(await start(store, "running"), 2))
        async with nothing_written(store):
            for run_id in ("done", "paused", "running", "nobody"):
                assert await reopen(store, run_id, mail=[signal("x")]) is None
            assert await reopen(store, "failed", index=1, mail=[signal("x")]) is None
            assert await reopen(store, "failed", index=3, mail=[signal("x")]) is None

    @store_test
    async def test_a_former_owner_stays_refused(self, store: ExecutionStore) -> None:
        """Who drove the run before it was reopened can't commit until it is claimed again, and not then."""
        run = await start(store)
        await store.commit(commit(run, 2, FAILED))
        await reopen(store)
        with pytest.raises(LeaseLostError):
            await store.commit(commit(run, 1, end(), index=3))
        await claim(store, now=6)
        with pytest.raises(LeaseLostError):
            await store.commit(commit(run, 1, end(), index=3))

    @store_test
    async def test_a_former_commit_is_not_taken_for_applied(self, store: ExecutionStore) -> None:
        """A commit that would end the log where it ends now is refused: it is not what made the run as it is."""
        run = await start(store, schedule_id="daily")
        await store.commit(commit(run, 1))
        if store.capabilities.schedules:
            stop = ScheduleCommit(
                ScheduleKey("orders", "daily"), 0, at(2), None, False, "{}", terminate=("r",), termination="{}"
            )
            assert await store.commit_schedule(stop)
        else:
            await store.commit(commit(run, 1, FAILED, index=1))
        assert await reopen(store, index=2) is not None
        with pytest.raises(LeaseLostError):
            await store.commit(commit(run, 2, pause(signal_wait()), index=1))

    @store_test
    async def test_a_reopened_run_is_not_purged(self, store: ExecutionStore) -> None:
        """It has not ended; when it ends again, it is purged by its new end."""
        await failed(store)
        await reopen(store)
        assert await store.purge(at(100)) == 0
        await store.commit(commit(await claim(store, now=6), 1, end(), now=50))
        assert await store.purge(at(40)) == 0
        assert await store.purge(at(60)) == 1

    @race_test
    async def test_one_of_many_reopens(self, handles: Handles) -> None:
        """Of several at the same time one reopens the run."""
        await failed(handles[0])
        answers = await asyncio.gather(*(reopen(handles[number % len(handles)]) for number in range(6)))
        assert sum(answer is not None for answer in answers) == 1
        assert (await row(handles[0])).log_length == 3
