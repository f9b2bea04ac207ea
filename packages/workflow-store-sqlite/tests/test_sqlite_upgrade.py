"""A database of an earlier version of this package, with data in it: upgraded in place, nothing lost."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Coroutine
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from workflow.core.records import Lease, LogRecord, NewMail, Wait
from workflow.runtime.contract import ClaimLimits, RunFilter
from workflow.runtime.queues import Queue
from workflow.runtime.testing.invariants import check_invariants
from workflow.store.sqlite import SQLiteStore
from workflow.store.sqlite.rows import micros
from workflow.store.sqlite.schema import migrations

NOW = datetime(2030, 1, 1, tzinfo=UTC)
LEASE = Lease("me", NOW + timedelta(seconds=30))
AT = micros(NOW)

# As version 1 wrote them: a run of each status, with a log, read and unread mail, and what it waits for.
RUNS = [
    ("queued", "queued", AT, None, None, "[]", "", None, 0, None, 0, 0),
    ("running", "running", AT, AT, None, "[]", "", "[7]", 1, "dead", 2, 0),
    ("asleep", "paused", AT, AT, None, f'[["timer","t",null,{AT},null,null]]', "", None, 1, None, 1, 0),
    (
        "waiting",
        "paused",
        None,
        AT,
        None,
        '[["signal","s","paid",null,null,null]]',
        '\n"signal:paid"\n',
        None,
        1,
        None,
        1,
        0,
    ),
    ("mailed", "queued", AT, AT, None, "[]", "", None, 1, None, 1, 2),
    ("done", "completed", None, AT, AT, "[]", "", None, 1, None, 1, 0),
    ("failed", "errored", None, AT, AT, "[]", "", None, 1, None, 1, 0),
]


def version_1(path: Path) -> None:
    """A file as the first version of this package left it."""
    connection = sqlite3.connect(path)
    for sql, values in migrations()[0].statements():
        connection.execute(sql, values)
    for run_id, status, due_at, started_at, completed_at, waits, awaits, state, fence, owner, length, mails in RUNS:
        connection.execute(
            "INSERT INTO workflow_runs (run_id, workflow_id, status, input, created_at, updated_at, due_at, "
            "started_at, completed_at, waits, awaits, state, fence, owner, log_length, mail_count) "
            "VALUES (?, 'w', ?, '{}', ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                run_id,
                status,
                AT,
                AT,
                due_at,
                started_at,
                completed_at,
                waits,
                awaits,
                state,
                fence,
                owner,
                length,
                mails,
            ),
        )
        for index in range(length):
            connection.execute("INSERT INTO workflow_log VALUES (?, ?, '{}', ?)", (run_id, index, str(index)))
    for seq, payload in ((1, None), (2, '"unread"')):
        connection.execute(
            "INSERT INTO workflow_mail VALUES ('mailed', 'signal', ?, ?, 'n', ?, ?)", (f"s{seq}", seq, payload, AT)
        )
    connection.commit()
    connection.close()


def on(path: Path, act: Callable[[SQLiteStore], Coroutine[Any, Any, Any]]) -> Any:
    async def main() -> Any:
        store = SQLiteStore(path)
        try:
            return await act(store)
        finally:
            await store.close()

    return asyncio.run(main())


def test_every_run_is_there(tmp_path: Path) -> None:
    """Rows and logs are what they were, in no queue by name and without a key."""
    version_1(tmp_path / "w.db")

    async def look(store: SQLiteStore) -> None:
        await check_invariants(store)
        rows = {row.run_id: row for row in await store.list_runs(RunFilter())}
        assert {run_id: row.status for run_id, row in rows.items()} == {run[0]: run[1] for run in RUNS}
        for row in rows.values():
            assert (row.queue, row.key, row.priority, row.expires_at, row.schedule_id) == (None, None, 0, None, None)
            assert (row.queue_name, row.created_at) == ("w", NOW)
        assert rows["waiting"].waits == (Wait("signal", "s", "paid"),)
        assert tuple(await store.read_log("running")) == (LogRecord(0, "{}", "0"), LogRecord(1, "{}", "1"))
        assert await store.read_schedules() == []

    on(tmp_path / "w.db", look)


def test_every_run_goes_on(tmp_path: Path) -> None:
    """What was due is claimed, with its log and its unread mail; mail arrives; a failed run is reopened."""
    version_1(tmp_path / "w.db")

    async def go_on(store: SQLiteStore) -> None:
        assert await store.next_due(["w"]) == NOW
        delivered = await store.deliver("waiting", NewMail("signal", "1", "paid", "{}"), lease=None, now=NOW)
        assert (delivered.outcome, delivered.awaited) == ("accepted", True)
        reopened = await store.reopen(
            "failed", expected_index=1, record=LogRecord(1, "{}"), mail=[], expires_at=None, now=NOW
        )
        assert reopened is not None and reopened.status == "queued"
        claimed = await store.claim_due(["w"], LEASE, limits=ClaimLimits.all(10), now=NOW)
        assert {one.run.run_id for one in claimed} == {run[0] for run in RUNS} - {"done"}
        assert [mail.id for one in claimed if one.run.run_id == "mailed" for mail in one.mail] == ["s2"]

    on(tmp_path / "w.db", go_on)


def test_runs_from_before_a_limit_keep_it(tmp_path: Path) -> None:
    """Where the workflow gets a limit with the upgrade, its old runs are claimed within it."""
    version_1(tmp_path / "w.db")

    async def claim(store: SQLiteStore) -> None:
        limits = Queue("w", concurrency=2)
        without = await store.claim_due(["w"], LEASE, limits=ClaimLimits.all(10), now=NOW, without=["w"])
        assert list(without) == []
        first = await store.claim_queue(limits, ["w"], LEASE, limits=ClaimLimits.all(10), now=NOW)
        assert sorted(one.run.run_id for one in first) == ["asleep", "running"]  # one of them held a slot
        assert not await store.claim_queue(limits, ["w"], LEASE, limits=ClaimLimits.all(10), now=NOW)
        more = await store.claim_queue(
            replace(limits, concurrency=9), ["w"], LEASE, limits=ClaimLimits.all(10), now=NOW
        )
        assert sorted(one.run.run_id for one in more) == ["mailed", "queued"]

    on(tmp_path / "w.db", claim)


def test_an_upgraded_schema_is_a_new_one(tmp_path: Path) -> None:
    """Tables and indexes of an upgraded file are those of a fresh one."""
    version_1(tmp_path / "old.db")

    def schema(path: Path) -> set[tuple[str, str]]:
        on(path, lambda store: store.check() if path.exists() else store.migrate())
        on(path, lambda store: store.migrate())
        connection = sqlite3.connect(path)
        found = connection.execute("SELECT name, sql FROM sqlite_master WHERE name LIKE 'workflow%'").fetchall()
        connection.close()
        return set(found)

    on(tmp_path / "old.db", lambda store: store.migrate())
    assert schema(tmp_path / "old.db") == schema(tmp_path / "new.db")
