"""Tests of schedules as a store sees them: a row moved by compare-and-set, its runs, and its history."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from workflow.core import LeaseLostError
from workflow.core.records import LogRecord, NewRun
from workflow.runtime.contract import TICKS_KEPT, ExecutionStore
from workflow.runtime.schedules.records import ScheduleCommit, ScheduleKey, ScheduleRecord, TickOutcome, TickRecord

from .harness import Handles, Reopen, StoreSuite, durable_test, race_test, store_test
from .samples import (
    WORKFLOW,
    at,
    cancel,
    claim,
    claim_due,
    commit,
    create,
    end,
    new_run,
    nothing_written,
    pause,
    row,
    signal_wait,
    start,
)

__all__ = ["SchedulingSuite"]

KEY = ScheduleKey(WORKFLOW, "daily")
TERMINATION = '{"type":"RUN_CANCELLED"}'


def move(expected: int = 0, key: ScheduleKey = KEY, *, now: float = 1, due: float | None = 10, **more: Any) -> Any:
    more = {"paused": False, "data": f'"{expected}"', **more}
    return ScheduleCommit(key, expected, at(now), None if due is None else at(due), **more)


def scheduled(run_id: str, key: ScheduleKey = KEY, *, due: float = 0) -> NewRun:
    return new_run(run_id, key.workflow_id, due=due, schedule_id=key.schedule_id)


def tick(number: float, outcome: TickOutcome = "started", **more: Any) -> TickRecord:
    return TickRecord(at(number), outcome, at(number + 1), **more)


async def apply(store: ExecutionStore, commit: ScheduleCommit) -> bool:
    if not store.capabilities.schedules:
        pytest.skip(f"{type(store).__name__} can't do schedules (capabilities.schedules)")
    return await store.commit_schedule(commit)


async def read(store: ExecutionStore, key: ScheduleKey = KEY) -> ScheduleRecord:
    (found,) = await store.read_schedules([key])
    return found


class SchedulingSuite(StoreSuite):
    """A schedule moves as a whole or not at all, and one mover wins."""

    @store_test
    async def test_a_schedule_is_created(self, store: ExecutionStore) -> None:
        """The first commit makes the row, with revision 1."""
        assert await apply(store, move(data='{"é":"\\u0000"}'))
        assert await read(store) == ScheduleRecord(KEY, 1, at(10), False, '{"é":"\\u0000"}', at(1), at(1))

    @store_test
    async def test_a_schedule_moves_on(self, store: ExecutionStore) -> None:
        """Each commit replaces what the row says, and counts."""
        await apply(store, move())
        assert await apply(store, move(1, now=5, due=None, paused=True, data="2"))
        assert await read(store) == ScheduleRecord(KEY, 2, None, True, "2", at(1), at(5))

    @store_test
    async def test_another_revision_is_refused(self, store: ExecutionStore) -> None:
        """A commit on an older, a newer, or no schedule changes nothing at all, runs and history included."""
        await apply(store, move())
        await apply(store, move(1))
        await create(store, "active", schedule_id="daily")
        before = await read(store)
        async with nothing_written(store):
            for expected, key in ((0, KEY), (1, KEY), (3, KEY), (1, ScheduleKey(WORKFLOW, "other"))):
                whole = move(
                    expected,
                    key,
                    starts=(scheduled("r"),),
                    cancel=("active",),
                    cancel_mail=cancel(),
                    ticks=(tick(1),),
                )
                assert not await apply(store, whole)
                ending = move(expected, key, terminate=("active",), termination=TERMINATION)
                assert not await apply(store, ending)
        assert await read(store) == before
        assert await store.list_ticks(KEY) == []

    @store_test
    async def test_schedules_are_read(self, store: ExecutionStore) -> None:
        """Those asked for, as far as there are any; all without a question; in order."""
        other, alien = ScheduleKey(WORKFLOW, "a"), ScheduleKey("zoo", "a")
        for key in (alien, KEY, other):
            await apply(store, move(key=key))
        assert [found.key for found in await store.read_schedules()] == [other, KEY, alien]
        wanted = [alien, ScheduleKey("zoo", "daily"), KEY]
        assert [found.key for found in await store.read_schedules(wanted)] == [KEY, alien]
        assert await store.read_schedules([]) == []

    @store_test
    async def test_runs_are_started(self, store: ExecutionStore) -> None:
        """The runs of a commit are queued, and belong to the schedule."""
        await apply(store, move(starts=(scheduled("a"), scheduled("b", due=3))))
        assert (await read(store)).active == ("a", "b")
        first = await row(store, "a")
        assert (first.status, first.due_at, first.created_at, first.schedule_id) == ("queued", at(0), at(1), "daily")
        assert [run.run.run_id for run in await claim_due(store, now=2)] == ["a"]

    @store_test
    async def test_a_run_that_exists_is_passed_over(self, store: ExecutionStore) -> None:
        """A tick whose run is there already starts no other, and the rest of the commit holds."""
        existing = await create(store, "a")
        assert await apply(store, move(starts=(scheduled("a"), scheduled("b")), ticks=(tick(1),)))
        assert await row(store, "a") == existing
        assert (await read(store)).active == ("b",)
        assert len(await store.list_ticks(KEY)) == 1

    @store_test
    async def test_active_runs_are_those_that_have_not_ended(self, store: ExecutionStore) -> None:
        """Queued, running and paused runs of the schedule are active; ended ones and others' runs are not."""
        other = ScheduleKey("zoo", "daily")
        await apply(store, move(starts=tuple(scheduled(name) for name in "abcd")))
        await apply(store, move(key=other, starts=(scheduled("z", other),)))
        await create(store, "stranger", schedule_id="weekly")
        await store.commit(commit(await claim(store, "b", now=2), 1, end()))
        await store.commit(commit(await claim(store, "c", now=2), 1, pause(signal_wait())))
        await claim(store, "d", now=2)
        assert (await read(store)).active == ("a", "c", "d")
        assert (await read(store, other)).active == ("z",)

    @store_test
    async def test_runs_are_asked_to_cancel(self, store: ExecutionStore) -> None:
        """A cancel request is delivered with the commit, and makes a waiting run ready."""
        await apply(store, move(starts=(scheduled("a"), scheduled("b"))))
        await store.commit(commit(await claim(store, "a", now=2), 1, pause(signal_wait())))
        both = ("a", "b", "nobody")
        assert await apply(store, move(1, now=3, cancel=both, cancel_mail=cancel("x", '"late"')))
        waiting = await row(store, "a")
        assert (waiting.status, waiting.due_at, waiting.mail_count) == ("queued", at(3), 1)
        (mail,) = (await claim(store, "a", now=4)).mail
        assert (mail.kind, mail.id, mail.payload, mail.seq, mail.sent_at) == ("cancel", "x", '"late"', 1, at(3))
        assert (await row(store, "b")).mail_count == 1
        assert await apply(store, move(2, now=5, cancel=both, cancel_mail=cancel("x")))
        assert (await row(store, "b")).mail_count == 1

    @store_test
    async def test_runs_are_ended(self, store: ExecutionStore) -> None:
        """A terminated run is cancelled at once, whatever it did, and its owner's commit is refused."""
        await apply(store, move(starts=tuple(scheduled(name) for name in "abc")))
        running = await claim(store, "a", now=2)
        running_on = await store.commit(commit(running, 2))
        assert not running_on.released
        await store.commit(commit(await claim(store, "b", now=2), 1, pause(signal_wait())))
        everything = ("a", "b", "c", "nobody")
        assert await apply(
            store, move(1, now=5, terminate=everything, termination=TERMINATION, starts=(scheduled("d"),))
        )
        for run_id, length in (("a", 3), ("b", 2), ("c", 1)):
            run = await row(store, run_id)
            assert (run.status, run.completed_at, run.due_at, run.owner) == ("cancelled", at(5), None, None)
            assert (run.waits, run.log_length) == ((), length)
            assert (await store.read_log(run_id))[-1] == LogRecord(length - 1, TERMINATION)
        with pytest.raises(LeaseLostError):
            await store.commit(commit(running, 1, end(), index=2))
        assert (await read(store)).active == ("d",)

    @store_test
    async def test_an_ended_run_is_not_ended_again(self, store: ExecutionStore) -> None:
        """A run that has ended meanwhile stays as it ended."""
        await apply(store, move(starts=(scheduled("a"),)))
        await store.commit(commit(await claim(store, "a", now=2), 1, end()))
        before = await row(store, "a")
        assert await apply(store, move(1, terminate=("a",), termination=TERMINATION))
        assert await row(store, "a") == before

    @store_test
    async def test_history_is_kept_in_order(self, store: ExecutionStore) -> None:
        """Ticks come back as they were written, the latest first, page by page."""
        odd = tick(2, outcome="missed", run_id="r\u00e9", until=at(9), detail='it\'s "odd"')
        await apply(store, move(ticks=(tick(1), odd)))
        await apply(store, move(1, ticks=(tick(3, outcome="skipped"),)))
        found = list(await store.list_ticks(KEY))
        assert found == [((2, 0), tick(3, outcome="skipped")), ((1, 1), odd), ((1, 0), tick(1))]
        assert list(await store.list_ticks(KEY, limit=2)) == found[:2]
        assert list(await store.list_ticks(KEY, before=(1, 1))) == found[2:]
        assert await store.list_ticks(ScheduleKey("zoo", "daily")) == []

    @store_test
    async def test_history_is_bounded(self, store: ExecutionStore) -> None:
        """Records of revisions that are too old are deleted with a later commit."""
        if not store.capabilities.schedules:
            pytest.skip(f"{type(store).__name__} can't do schedules (capabilities.schedules)")
        await store.commit_schedule(move(ticks=(tick(1),)))
        for revision in range(1, TICKS_KEPT):
            ticks = (tick(revision),) if revision in (1, TICKS_KEPT - 1) else ()
            await store.commit_schedule(move(revision, ticks=ticks))
        assert [place for place, _ in await store.list_ticks(KEY)] == [(TICKS_KEPT, 0), (2, 0), (1, 0)]
        await store.commit_schedule(move(TICKS_KEPT))
        assert [place for place, _ in await store.list_ticks(KEY)] == [(TICKS_KEPT, 0), (2, 0)]

    @store_test
    async def test_purging_leaves_schedules(self, store: ExecutionStore) -> None:
        """Deleting ended runs touches neither a schedule nor its history."""
        await apply(store, move(starts=(scheduled("a"),), ticks=(tick(1),)))
        await store.commit(commit(await claim(store, "a", now=2), 1, end()))
        before = await read(store)
        assert await store.purge(at(100)) == 1
        assert await read(store) == before
        assert len(await store.list_ticks(KEY)) == 1

    @store_test
    async def test_hostile_names_are_data(self, store: ExecutionStore) -> None:
        """Ids and texts are never anything but data."""
        name = "x'; DROP TABLE workflow_runs; -- \"%s $1 :a {}"
        key = ScheduleKey(name, name)
        new = replace(scheduled("r", key), queue=name, key=name)
        assert await apply(store, move(key=key, starts=(new,), ticks=(tick(1, detail=name),), data=name))
        found = await read(store, key)
        assert (found.key, found.data, found.active) == (key, name, ("r",))
        assert (await row(store, "r")).key == name

    @race_test
    async def test_one_of_many_moves_wins(self, handles: Handles) -> None:
        """Of commits of one revision at the same time one succeeds, with everything in it."""
        await apply(handles[0], move())
        moves = [
            apply(handles[number % len(handles)], move(1, data=str(number), starts=(scheduled(f"r{number}"),)))
            for number in range(8)
        ]
        won = [number for number, applied in enumerate(await asyncio.gather(*moves)) if applied]
        found = await read(handles[0])
        assert len(won) == 1
        assert (found.revision, found.data, found.active) == (2, str(won[0]), (f"r{won[0]}",))

    @race_test
    async def test_one_of_many_creations_wins(self, handles: Handles) -> None:
        """Of first commits at the same time one succeeds."""
        moves = [apply(handles[number % len(handles)], move(data=str(number))) for number in range(8)]
        assert sum(await asyncio.gather(*moves)) == 1
        assert (await read(handles[0])).revision == 1

    @race_test
    async def test_termination_and_commits_race(self, handles: Handles) -> None:
        """A run that ends by itself and is terminated at the same moment ends once, with a log that fits."""
        await apply(handles[0], move())
        for number in range(5):
            run = await start(handles[0], f"r{number}", schedule_id="daily")
            ending = handles[-1].commit(commit(run, 1, end()))
            stop = move(1 + number, terminate=(f"r{number}",), termination=TERMINATION)
            done, applied = await asyncio.gather(ending, apply(handles[0], stop), return_exceptions=True)
            assert applied is True
            after = await row(handles[0], f"r{number}")
            if isinstance(done, BaseException):
                assert isinstance(done, LeaseLostError)
                assert (after.status, after.log_length) == ("cancelled", 1)
            else:
                assert (after.status, after.log_length) == ("completed", 1)

    @durable_test
    async def test_schedules_survive(self, store: ExecutionStore, reopen: Reopen) -> None:
        """Row, runs and history are there when the data is opened again."""
        await apply(store, move(starts=(scheduled("a"),), ticks=(tick(1),)))
        before = await read(store)
        async with reopen() as other:
            assert await read(other) == before
            assert [record for _, record in await other.list_ticks(KEY)] == [tick(1)]
