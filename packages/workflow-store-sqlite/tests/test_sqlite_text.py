"""Text of all kinds: payloads are opaque, ids are data and never SQL."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta, timezone

import pytest

from workflow.core.errors import InvalidArgumentError, PayloadError
from workflow.core.records import Commit, Lease, LogRecord, NewMail, NewRun, Transition, Wait
from workflow.runtime.contract import ClaimLimits, HeldLease, RunFilter
from workflow.runtime.queues import Queue
from workflow.runtime.schedules.records import ScheduleCommit, ScheduleKey, TickRecord
from workflow.store.sqlite import SQLiteStore

NOW = datetime(2030, 1, 1, tzinfo=UTC)
LEASE = Lease("me", NOW + timedelta(seconds=30))

TEXTS = [
    "",
    "a\0b",
    "\0",
    "%00 %2500 %25",
    "\u00e4\u4e2d\U0001f600\u0301\u202e\ufffe\uffff",
    "'; DROP TABLE workflow_runs; --",
    '"quotes" and \\back\\slashes\\',
    "\x01\x1f\x7f\r\n\t\u2028",
    "$[0] ? ?1 :name @name",
]


@pytest.mark.parametrize("text", TEXTS)
def test_any_text_anywhere(text: str) -> None:
    """Every column and every id takes any Unicode text, NUL included, and gives it back unchanged."""

    async def main() -> None:
        store = SQLiteStore(":memory:")
        wait = Wait("signal", text, text, NOW + timedelta(hours=1), text, {text: [text]})
        await store.create_run(NewRun(text, text, text, text, NOW), lease=None, now=NOW)
        await store.create_run(NewRun(f"{text}+", text, text, text, NOW), lease=None, now=NOW)

        claimed = await store.claim_due([text, "other"], LEASE, limits=ClaimLimits.all(1), now=NOW)
        assert [one.run.run_id for one in claimed] == [text]
        assert [held.run_id for held in await store.renew([HeldLease(text, 1)], until=LEASE.until, now=NOW)] == [text]
        assert await store.next_due([text]) == NOW
        assert await store.next_due([f"{text}-"]) is None

        record = LogRecord(0, text, text)
        pause = Transition("paused", wait.until, (wait,), output=text, error=text)
        await store.commit(Commit(text, 1, 0, NOW, LEASE, (record,), state=text, transition=pause))
        early = await store.deliver(text, NewMail("signal", "1", f"{text}.", text), lease=None, now=NOW)
        awaited = await store.deliver(text, NewMail("signal", text, text, text), lease=LEASE, now=NOW)
        assert (early.awaited, awaited.awaited) == (False, True)

        again = awaited.claimed
        assert again is not None
        assert again.log == (record,)
        assert [(mail.id, mail.name, mail.payload) for mail in again.mail] == [
            ("1", f"{text}.", text),
            (text, text, text),
        ]
        row = await store.get_run(text)
        assert row is not None
        assert row == again.run
        assert (row.workflow_id, row.workflow_version, row.input) == (text, text, text)
        assert (row.state, row.output, row.error, row.waits) == (text, text, text, (wait,))
        assert await store.list_runs(RunFilter(workflow_id=text, before=(NOW, f"{text}+"))) == [row]
        await store.close()

    asyncio.run(main())


def a_queue(text: str) -> str:
    """The text, if a queue may have that name."""
    try:
        return Queue(text).name
    except InvalidArgumentError:
        return "q"


@pytest.mark.parametrize("text", TEXTS)
def test_any_text_in_queues_and_schedules(text: str) -> None:
    """Queues, keys, schedules and what is written of their ticks are any text, and nobody takes one for another."""
    key, other = ScheduleKey(text, text), ScheduleKey(text, f"{text}-")
    queue = a_queue(text)
    new = NewRun(
        text, text, None, text, NOW, queue, text, schedule_id=text, log=(LogRecord(0, text, text),), state=text
    )
    tick = TickRecord(NOW, "started", NOW, text, None, text)
    mail = NewMail("cancel", text, text, text)

    async def main() -> None:
        store = SQLiteStore(":memory:")
        for number, stranger in enumerate((f"{text}+", f"{text}%", "", "=")):
            if stranger not in (text, queue):
                name = NewRun(f"stranger {number}", text, None, "{}", NOW, stranger, stranger, schedule_id=stranger)
                await store.create_run(name, lease=None, now=NOW)
        assert await store.commit_schedule(ScheduleCommit(key, 0, NOW, NOW, False, text, starts=(new,), ticks=(tick,)))
        assert await store.commit_schedule(ScheduleCommit(other, 0, NOW, None, True, text))
        (found,) = await store.read_schedules([key])
        assert (found.key, found.data, found.active) == (key, text, (text,))
        assert [found.key for found in await store.read_schedules()] == [key, other]
        assert await store.list_ticks(key) == [((1, 0), tick)]

        one_each = Queue(queue, concurrency=1, concurrency_per_key=1)
        everything = ClaimLimits.all(9)
        others = await store.claim_due([text], LEASE, limits=everything, now=NOW, without=[queue])
        assert text not in [one.run.run_id for one in others]
        (claimed,) = await store.claim_queue(one_each, [text], LEASE, limits=everything, now=NOW)
        assert (claimed.run.run_id, claimed.run.key, claimed.run.schedule_id) == (text,) * 3
        assert (claimed.log, claimed.run.state) == ((LogRecord(0, text, text),), text)

        move = ScheduleCommit(key, 1, NOW, NOW, False, text, (), (text,), mail, (text,), text)
        assert await store.commit_schedule(move)
        run = await store.get_run(text)
        assert run is not None
        assert (run.status, run.mail_count) == ("cancelled", 1)
        assert (await store.read_log(text))[-1] == LogRecord(1, text)
        again = await store.reopen(
            text, expected_index=2, record=LogRecord(2, text, text), mail=[mail], expires_at=NOW, now=NOW
        )
        assert again == await store.get_run(text)
        await store.close()

    asyncio.run(main())


@pytest.mark.parametrize("other", ["sig", "signal", 'sig"', "al:a", "a\nb", '\\"a', "A", "a "])
def test_no_name_is_taken_for_another(other: str) -> None:
    """A signal wakes a run that waits for exactly its name, never one whose name only contains it."""

    async def main() -> None:
        store = SQLiteStore(":memory:")
        await store.create_run(NewRun("run", "w", None, "{}", NOW), lease=LEASE, now=NOW)
        waits = (Wait("signal", "1", "a"), Wait("signal", "2", 'b"\n"signal:a'), Wait("approval", "a", "title"))
        await store.commit(Commit("run", 1, 0, NOW, LEASE, transition=Transition("paused", None, waits)))
        delivered = await store.deliver("run", NewMail("signal", "1", other, "{}"), lease=LEASE, now=NOW)
        assert delivered.run is not None
        assert (delivered.awaited, delivered.run.status, delivered.claimed) == (False, "paused", None)
        await store.close()

    asyncio.run(main())


def test_lone_surrogate() -> None:
    """A text that is not valid Unicode is refused as such, and nothing of its commit is written."""

    async def main() -> None:
        store = SQLiteStore(":memory:")
        await store.create_run(NewRun("run", "w", None, "{}", NOW), lease=LEASE, now=NOW)
        records = (LogRecord(0, "{}", "good"), LogRecord(1, "{}", "bad \ud800"))
        with pytest.raises(PayloadError, match="lone surrogate"):
            await store.commit(Commit("run", 1, 0, NOW, LEASE, records))
        with pytest.raises(PayloadError, match="lone surrogate"):
            await store.claim_due(["\ud800"], LEASE, limits=ClaimLimits.all(1), now=NOW)
        assert await store.read_log("run") == ()
        await store.close()

    asyncio.run(main())


def test_large_payload() -> None:
    """A payload of many megabytes comes back as it was."""

    async def main() -> None:
        store = SQLiteStore(":memory:")
        large = "\u00e4\0" * 4_000_000
        await store.create_run(NewRun("run", "w", None, large, NOW), lease=LEASE, now=NOW)
        await store.commit(Commit("run", 1, 0, NOW, LEASE, (LogRecord(0, "{}", large),)))
        row = await store.get_run("run")
        assert row is not None and row.input == large
        assert (await store.read_log("run"))[0].payload == large
        await store.close()

    asyncio.run(main())


def test_a_wait_that_json_cannot_hold() -> None:
    """The meta of a wait that is no JSON is a PayloadError, and the run goes on."""

    async def main() -> None:
        store = SQLiteStore(":memory:")
        await store.create_run(NewRun("run", "w", None, "{}", NOW), lease=LEASE, now=NOW)
        wait = Wait("signal", "1", "a", meta={"what": object()})
        with pytest.raises(PayloadError, match="meta of a wait"):
            await store.commit(Commit("run", 1, 0, NOW, LEASE, transition=Transition("paused", None, (wait,))))
        await store.commit(Commit("run", 1, 0, NOW, LEASE, transition=Transition("completed")))
        await store.close()

    asyncio.run(main())


def test_instants_are_exact() -> None:
    """Instants keep every microsecond, over the whole range of dates and from any time zone."""
    zone = timezone(timedelta(hours=-9, minutes=-30))
    instants = [
        datetime(1, 1, 2, tzinfo=UTC),
        datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
        datetime(2030, 3, 31, 1, 2, 3, 4, tzinfo=UTC),
        datetime(9999, 12, 30, 23, 59, 59, 999_999, tzinfo=UTC),
    ]

    async def main() -> None:
        store = SQLiteStore(":memory:")
        for number, at in enumerate(instants):
            await store.create_run(NewRun(str(number), "w", None, "{}", at.astimezone(zone)), lease=None, now=NOW)
            row = await store.get_run(str(number))
            assert row is not None and row.due_at is not None
            assert (row.due_at, row.due_at.tzinfo) == (at, UTC)
        await store.close()

    asyncio.run(main())
