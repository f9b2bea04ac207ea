"""Group commit, reads beside writes, event loops, and what is left after close."""

from __future__ import annotations

import asyncio
import gc
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from workflow.core.errors import LeaseLostError, LogConflictError, PayloadError, StoreError, StoreUnavailableError
from workflow.core.records import Commit, Committed, Lease, LogRecord, NewRun
from workflow.runtime.contract import HeldLease
from workflow.store.sqlite import SqlExecutionStore, SQLiteStore
from workflow.store.sqlite.connection import Database
from workflow.store.sqlite.store import SQLiteExecutor

NOW = datetime(2030, 1, 1, tzinfo=UTC)
LEASE = Lease("me", NOW + timedelta(seconds=30))


class TracedDatabase(Database):
    """Counts the transactions of the writing connection, and can limit the size of the file."""

    def __init__(self, path: Path, max_pages: int | None = None) -> None:
        super().__init__(str(path), "OFF")
        self.groups: list[int] = []
        self.max_pages = max_pages

    def open_to_write(self) -> sqlite3.Connection:
        connection = super().open_to_write()
        if self.max_pages is not None:
            connection.execute(f"PRAGMA max_page_count = {self.max_pages}")
        connection.set_trace_callback(self._trace)
        return connection

    def _trace(self, sql: str) -> None:
        if sql == "BEGIN IMMEDIATE":
            self.groups.append(0)
        elif sql.startswith("INSERT INTO workflow_log"):
            self.groups[-1] += 1


class TracedStore(SqlExecutionStore):
    """A store on a traced database."""

    def __init__(self, path: Path, *, max_pages: int | None = None, group_size: int = 64) -> None:
        self.database = TracedDatabase(path, max_pages)
        self.file = SQLiteExecutor(self.database, busy_timeout=30, group_size=group_size)
        super().__init__(self.file, migrate=True, where="The test database")

    async def close(self) -> None:
        await self.file.close()


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Another process, as it were, that holds the write lock of the database."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


def step(run_id: str, *, fence: int = 1, index: int = 0, payload: str = "{}") -> Commit:
    return Commit(run_id, fence, index, NOW, LEASE, (LogRecord(index, "{}", payload),))


async def create(store: SqlExecutionStore, *run_ids: str) -> None:
    new = [NewRun(run_id, "w", None, "{}", NOW) for run_id in run_ids]
    await asyncio.gather(*(store.create_run(one, lease=LEASE, now=NOW) for one in new))


async def commit_while_locked(store: SqlExecutionStore, path: Path, *commits: Commit) -> list[Any]:
    """Commits that wait at the same time: they are all in the queue before any of them can be written."""
    with locked(path):
        tasks = [asyncio.create_task(store.commit(commit)) for commit in commits]
        await asyncio.sleep(0)  # each task has run up to its future
    return await asyncio.gather(*tasks, return_exceptions=True)


def test_what_waits_together_is_written_together(tmp_path: Path) -> None:
    """Commits that wait at the same time go out in at most two transactions: the first to come, and all the others."""
    path = tmp_path / "w.db"

    async def main() -> None:
        store = TracedStore(path)
        names = [f"run-{number}" for number in range(40)]
        await create(store, *names)
        store.database.groups.clear()
        await commit_while_locked(store, path, *map(step, names))
        groups = [size for size in store.database.groups if size]
        assert sum(groups) == 40 and len(groups) <= 2
        await store.close()

    asyncio.run(main())


def test_groups_are_bounded(tmp_path: Path) -> None:
    """No transaction takes more than group_size batches, so that other processes get their turn."""
    path = tmp_path / "w.db"

    async def main() -> None:
        store = TracedStore(path, group_size=8)
        names = [f"run-{number}" for number in range(40)]
        await create(store, *names)
        await commit_while_locked(store, path, *map(step, names))
        assert max(store.database.groups) <= 8
        assert sum(store.database.groups) == 40
        await store.close()

    asyncio.run(main())


def test_a_refused_commit_does_not_hurt_its_group(tmp_path: Path) -> None:
    """Of commits in one transaction a stale one and a conflicting one are refused, and the others are written."""
    path = tmp_path / "w.db"

    async def main() -> None:
        store = TracedStore(path)
        await create(store, "a", "b", "c", "d")
        answers = await commit_while_locked(
            store, path, step("a"), step("b", fence=9), step("c", index=5), step("nowhere"), step("d")
        )
        assert [type(answer) for answer in answers] == [
            Committed,
            LeaseLostError,
            LogConflictError,
            LeaseLostError,
            Committed,
        ]
        assert [len(await store.read_log(run_id)) for run_id in "abcd"] == [1, 0, 0, 1]
        await store.close()

    asyncio.run(main())


def test_a_failing_batch_does_not_hurt_its_group(tmp_path: Path) -> None:
    """A batch that the database can't take gets its error alone; what it had written in the group is undone."""
    path = tmp_path / "w.db"

    async def main() -> None:
        store = TracedStore(path)
        await create(store, "a", "b", "c")
        bad = Commit("b", 1, 0, NOW, LEASE, (LogRecord(0, "{}"),), state="\ud800")
        answers = await commit_while_locked(store, path, step("a"), bad, step("c"))
        assert [type(answer) for answer in answers] == [Committed, PayloadError, Committed]
        assert [len(await store.read_log(run_id)) for run_id in "abc"] == [1, 0, 1]
        await store.close()

    asyncio.run(main())


def test_full_disk(tmp_path: Path) -> None:
    """When the disk is full, what doesn't fit is refused as such, what fits is written, and the store goes on."""
    path = tmp_path / "w.db"

    async def main() -> None:
        store = TracedStore(path, max_pages=40)
        await create(store, "a", "b", "c")
        answers = await commit_while_locked(store, path, step("a"), step("b", payload="x" * 400_000), step("c"))
        assert [type(answer) for answer in answers] == [Committed, StoreError, Committed]
        assert "the disk is full" in str(answers[1])
        assert [len(await store.read_log(run_id)) for run_id in "abc"] == [1, 0, 1]
        await store.commit(step("b"))
        await store.close()

    asyncio.run(main())


def test_reads_do_not_wait_for_writers(tmp_path: Path) -> None:
    """Rows and logs are read while another process holds the write lock and a commit of ours waits for it."""
    path = tmp_path / "w.db"

    async def main() -> None:
        store = SQLiteStore(path)
        await create(store, "a")
        with locked(path):
            writing = asyncio.create_task(store.commit(step("a")))
            row = await store.get_run("a")
            assert row is not None and row.log_length == 0
            assert await store.read_log("a") == ()
            assert not writing.done()
        await writing
        assert len(await store.read_log("a")) == 1
        await store.close()

    asyncio.run(main())


def test_patience_ends_with_a_clear_error(tmp_path: Path) -> None:
    """A lock that outlasts the busy timeout is an error that says so, and the store works again afterwards."""
    path = tmp_path / "w.db"

    async def main() -> None:
        store = SQLiteStore(path, busy_timeout=0.02)
        await create(store, "a")
        with locked(path), pytest.raises(StoreUnavailableError, match="stayed locked by another process") as caught:
            await store.commit(step("a"))
        assert "database is locked" in str(caught.value.__cause__)
        await store.commit(step("a"))
        await store.close()

    asyncio.run(main())


def test_the_loop_is_never_blocked(tmp_path: Path) -> None:
    """While a commit waits for the database, everything else on its event loop goes on."""
    path = tmp_path / "w.db"

    async def main() -> None:
        store = SQLiteStore(path)
        await create(store, "a")
        with locked(path):
            writing = asyncio.create_task(store.commit(step("a")))
            for _ in range(1000):
                await asyncio.sleep(0)
            assert not writing.done()
        await writing
        await store.close()

    asyncio.run(main())


def test_a_cancelled_waiter(tmp_path: Path) -> None:
    """Who is cancelled while waiting leaves; those who wait in the same group get their answers."""
    path = tmp_path / "w.db"

    async def main() -> None:
        store = SQLiteStore(path)
        await create(store, "a", "b", "c")
        with locked(path):
            tasks = [asyncio.create_task(store.commit(step(run_id))) for run_id in "abc"]
            await asyncio.sleep(0)
            tasks[1].cancel()
            await asyncio.sleep(0)
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(answer) for answer in answers] == [Committed, asyncio.CancelledError, Committed]
        await store.close()

    asyncio.run(main())


def test_a_loop_that_closes_while_it_waits(tmp_path: Path) -> None:
    """An event loop that is gone before its answer comes harms nobody, and what it asked for is done."""
    path = tmp_path / "w.db"
    store = SQLiteStore(path)
    asyncio.run(create(store, "a", "b"))

    async def abandon() -> None:
        task = asyncio.create_task(store.commit(step("a")))
        await asyncio.sleep(0)
        assert not task.done()  # and asyncio.run cancels it

    async def go_on() -> None:
        await store.commit(step("b"))
        assert len(await store.read_log("a")) == 1
        await store.close()

    with locked(path):
        asyncio.run(abandon())
    asyncio.run(go_on())


def test_one_store_on_many_loops(tmp_path: Path) -> None:
    """Loops in several threads use one store at once, and leases are renewed from another loop than the drives'."""
    store = SQLiteStore(tmp_path / "w.db", synchronous="OFF")
    asyncio.run(create(store, *(f"{thread}-{number}" for thread in range(4) for number in range(10))))
    failures: list[BaseException] = []

    async def drive(thread: int) -> None:
        names = [f"{thread}-{number}" for number in range(10)]
        for index in range(3):
            await asyncio.gather(*(store.commit(step(name, index=index)) for name in names))
            held = await store.renew([HeldLease(name, 1) for name in names], until=LEASE.until, now=NOW)
            assert len(held) == 10

    def run(thread: int) -> None:
        try:
            asyncio.run(drive(thread))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(thread,)) for thread in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    asyncio.run(store.close())
    assert failures == []


def lane_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("workflow-sqlite")]


def test_nothing_is_left_after_close(tmp_path: Path) -> None:
    """A closed store has no thread, no open file, and its database is one file again."""

    async def main() -> None:
        store = SQLiteStore(tmp_path / "w.db")
        await create(store, "a")
        await store.get_run("a")
        assert len(lane_threads()) == 2
        await store.close()
        assert lane_threads() == []

    asyncio.run(main())
    assert [path.name for path in tmp_path.iterdir()] == ["w.db"]


def test_close_finishes_what_is_under_way(tmp_path: Path) -> None:
    """Operations that were submitted before close are done and answered."""
    path = tmp_path / "w.db"

    async def main() -> None:
        store = SQLiteStore(path)
        await create(store, "a", "b")
        with locked(path):
            tasks = [asyncio.create_task(store.commit(step(run_id))) for run_id in "ab"]
            await asyncio.sleep(0)
            closing_ = asyncio.create_task(store.close())
            await asyncio.sleep(0)
        await closing_
        assert [type(answer) for answer in await asyncio.gather(*tasks)] == [Committed, Committed]

    asyncio.run(main())


def test_a_forgotten_store_lets_go(tmp_path: Path) -> None:
    """A store that is dropped without being closed ends its threads."""
    store: Any = SQLiteStore(tmp_path / "w.db")
    asyncio.run(create(store, "a"))
    threads = lane_threads()
    del store
    gc.collect()
    for thread in threads:
        thread.join(timeout=30)
    assert threads and lane_threads() == []


def test_durability_level(tmp_path: Path) -> None:
    """A store syncs as it was told: FULL by default, and in write-ahead mode."""

    async def pragmas(**options: Any) -> list[Any]:
        store = SQLiteStore(tmp_path / "w.db", **options)
        executor = store._executor  # the only way to see a setting of one connection
        results = await executor.batch([("PRAGMA synchronous", ()), ("PRAGMA journal_mode", ())])
        await store.close()
        return [rows[0][0] for rows in results]

    assert asyncio.run(pragmas()) == [2, "wal"]
    assert asyncio.run(pragmas(synchronous="NORMAL")) == [1, "wal"]


def test_in_memory() -> None:
    """A store in memory says that it is neither durable nor shared, and is its own world."""

    async def main() -> None:
        one, other = SQLiteStore(":memory:"), SQLiteStore(":memory:")
        assert (one.capabilities.durable, one.capabilities.shared) == (False, False)
        assert SQLiteStore.capabilities.durable
        await create(one, "a")
        assert await other.get_run("a") is None
        await one.close()
        await other.close()

    asyncio.run(main())
