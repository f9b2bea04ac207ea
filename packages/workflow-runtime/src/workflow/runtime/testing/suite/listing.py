"""`list_runs` and `read_log`: what people and dashboards read."""

from __future__ import annotations

from datetime import datetime

from workflow.core.records import RunStatus, Transition
from workflow.runtime.contract import ExecutionStore, RunFilter

from .harness import StoreSuite, store_test
from .samples import (
    at,
    commit,
    create,
    deliver,
    end,
    pause,
    record,
    records,
    row,
    signal,
    signal_wait,
    start,
)

__all__ = ["ListingSuite"]


async def listed(store: ExecutionStore, query: RunFilter) -> list[str]:
    return [run.run_id for run in await store.list_runs(query)]


class ListingSuite(StoreSuite):
    @store_test
    async def test_list_gives_whole_rows(self, store: ExecutionStore) -> None:
        """A listed row is the same as `get_run`'s, for runs in every status."""
        await create(store, "queued")
        await deliver(store, signal(), "queued")
        await start(store, "running")
        await store.commit(commit(await start(store, "paused"), 1, pause(signal_wait()), state="[1]"))
        for status in ("completed", "errored", "cancelled"):
            transition = Transition(status, output="1", error="2")
            await store.commit(commit(await start(store, status), 1, transition))
        rows = await store.list_runs(RunFilter())
        assert len(rows) == 6
        assert [await row(store, run.run_id) for run in rows] == list(rows)

    @store_test
    async def test_list_is_newest_first(self, store: ExecutionStore) -> None:
        """Rows come by creation, newest first, whatever happened to them since; then by id, descending."""
        for run_id, created in (("m", 2), ("a", 1), ("z", 1), ("k", 3)):
            await create(store, run_id, now=created)
        await deliver(store, signal(), "a", now=50)
        assert await listed(store, RunFilter()) == ["k", "m", "z", "a"]

    @store_test
    async def test_list_of_nothing(self, store: ExecutionStore) -> None:
        """An empty store lists nothing, and so does a filter that nothing matches."""
        assert await listed(store, RunFilter()) == []
        await create(store)
        assert await listed(store, RunFilter(workflow_id="unknown")) == []
        assert await listed(store, RunFilter(status=frozenset())) == []

    @store_test
    async def test_list_filters(self, store: ExecutionStore) -> None:
        """Workflow, statuses and time of creation restrict the list, each alone and all together."""
        for number, workflow_id in enumerate("abab"):
            await create(store, f"queued-{number}", now=number, workflow_id=workflow_id)
            ended = await start(store, f"ended-{number}", now=number, workflow_id=workflow_id)
            await store.commit(commit(ended, 1, end()))
        queued: frozenset[RunStatus] = frozenset({"queued"})
        done: frozenset[RunStatus] = frozenset({"completed", "cancelled"})
        assert await listed(store, RunFilter(workflow_id="a", status=queued)) == ["queued-2", "queued-0"]
        assert await listed(store, RunFilter(status=done)) == ["ended-3", "ended-2", "ended-1", "ended-0"]
        assert await listed(store, RunFilter(created_from=at(2), status=done)) == ["ended-3", "ended-2"]
        assert await listed(store, RunFilter(created_until=at(1), status=done)) == ["ended-0"]
        between = RunFilter("b", done | queued, created_from=at(1), created_until=at(3))
        assert await listed(store, between) == ["queued-1", "ended-1"]
        earlier = RunFilter(created_until=at(3), before=(at(1), "queued-1"))
        later = RunFilter(created_until=at(1), before=(at(3), "queued-3"))
        assert await listed(store, earlier) == ["ended-1", "queued-0", "ended-0"]
        assert await listed(store, later) == ["queued-0", "ended-0"]

    @store_test
    async def test_list_limit(self, store: ExecutionStore) -> None:
        """At most `limit` rows come, 50 unless told otherwise."""
        for number in range(52):
            await create(store, f"{number:02}")
        assert len(await store.list_runs(RunFilter())) == 50
        assert await listed(store, RunFilter(limit=2)) == ["51", "50"]

    @store_test
    async def test_list_pages(self, store: ExecutionStore) -> None:
        """Pages that follow each other by the last row give each row once, though many were created at one instant."""
        for number in range(7):
            await create(store, f"r{number}", now=number // 4, workflow_id="ab"[number == 3])
        pages: list[list[str]] = []
        before: tuple[datetime, str] | None = None
        for _ in range(4):
            rows = await store.list_runs(RunFilter(workflow_id="a", before=before, limit=2))
            pages.append([run.run_id for run in rows])
            before = (rows[-1].created_at, rows[-1].run_id) if rows else before
        assert pages == [["r6", "r5"], ["r4", "r2"], ["r1", "r0"], []]

    @store_test
    async def test_list_pages_while_runs_come(self, store: ExecutionStore) -> None:
        """A run created, or purged, between two pages neither repeats nor hides another one."""
        for number in range(4):
            claimed = await start(store, f"r{number}", now=number)
            await store.commit(commit(claimed, 0, end(), now=number))
        last = (await store.list_runs(RunFilter(limit=2)))[-1]
        await create(store, "new", now=9)
        await create(store, "r20", now=2)
        await store.purge(at(0.5))
        assert await listed(store, RunFilter(before=(last.created_at, last.run_id))) == ["r1"]

    @store_test
    async def test_list_continues_after_a_row_that_is_gone(self, store: ExecutionStore) -> None:
        """A cursor is a place, not a row: it need not exist."""
        for number in (1, 2, 3):
            await create(store, f"r{number}", now=number)
        assert await listed(store, RunFilter(before=(at(2.5), "whatever"))) == ["r2", "r1"]
        assert await listed(store, RunFilter(before=(at(2), ""))) == ["r1"]

    @store_test
    async def test_read_log_after_and_limit(self, store: ExecutionStore) -> None:
        """A log is read from any index on, in order, with its payloads, and in portions."""
        appended = tuple(record(index, f"[{index}]" if index % 2 else None) for index in range(6))
        claimed = await start(store)
        await store.commit(commit(claimed, appended[:2]))
        await store.commit(commit(claimed, appended[2:], index=2))
        await store.commit(commit(await start(store, "other"), 1))
        assert tuple(await store.read_log("r")) == appended
        assert tuple(await store.read_log("r", after=2)) == appended[3:]
        assert tuple(await store.read_log("r", after=0, limit=2)) == appended[1:3]
        assert tuple(await store.read_log("r", limit=0)) == ()
        assert tuple(await store.read_log("r", limit=99)) == appended
        assert tuple(await store.read_log("r", after=5)) == tuple(await store.read_log("r", after=99)) == ()

    @store_test
    async def test_read_a_long_log(self, store: ExecutionStore) -> None:
        """Hundreds of records in one commit keep their order, also past 9, 10 and 100."""
        claimed = await start(store)
        await store.commit(commit(claimed, 500))
        await store.commit(commit(claimed, 3, index=500))
        assert tuple(await store.read_log("r")) == records(0, 503)
        assert [entry.index for entry in await store.read_log("r", after=98, limit=3)] == [99, 100, 101]
