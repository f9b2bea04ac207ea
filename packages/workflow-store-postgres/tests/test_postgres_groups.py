"""Group commit: commits of many runs in few statements, and each with an outcome of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from random import Random
from typing import Any

import asyncpg
import pytest

from workflow.core.errors import InvalidArgumentError, LeaseLostError, LogConflictError, PayloadError
from workflow.core.records import Committed, LogRecord, NewMail, NewRun, Transition, Wait
from workflow.runtime.contract import HeldLease
from workflow.runtime.testing.suite.samples import (
    at,
    claim,
    commit,
    deliver,
    end,
    lease,
    pause,
    record,
    row,
    signal,
    signal_wait,
    start,
    timer_wait,
)
from workflow.store.postgres import PostgresStore
from workflow.store.postgres.connector import Connector


@pytest.fixture
def opened(postgres_url: str, schema: str) -> Callable[[], Any]:
    @asynccontextmanager
    async def open_() -> AsyncGenerator[PostgresStore]:
        store = PostgresStore(postgres_url, schema=schema)
        try:
            await store.migrate()
            yield store
        finally:
            await store.close()

    return open_


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The statements that were sent, from here on."""
    sent: list[str] = []
    fetch = Connector.fetch

    async def noted(self: Connector, sql: str, *args: Any) -> Any:
        sent.append(sql)
        return await fetch(self, sql, *args)

    monkeypatch.setattr(Connector, "fetch", noted)
    return sent


def test_a_thousand_commits_are_few_statements(opened: Callable[[], Any], statements: list[str]):
    """Commits that wait at the same time go out together, and each run has all of its own."""

    async def main() -> None:
        async with opened() as store:
            held = await asyncio.gather(*(start(store, f"r{n}") for n in range(1000)))
            statements.clear()
            answers = await asyncio.gather(*(store.commit(commit(run, 2)) for run in held))
            assert len(statements) <= 20
            assert set(answers) == {Committed(released=False)}
            logs = await asyncio.gather(*(store.read_log(f"r{n}") for n in range(0, 1000, 97)))
            assert set(logs) == {(record(0), record(1))}

    asyncio.run(main())


def test_each_operation_is_one_statement(opened: Callable[[], Any], statements: list[str]):
    """Alone, each operation is one round trip: create and claim, go on, take mail in, deliver and claim, end."""

    async def main() -> None:
        async with opened() as store:
            held = await start(store)
            await store.commit(commit(held, 1))
            await store.commit(commit(held, 1, pause(signal_wait()), index=1))
            delivered = await store.deliver("r", signal(), lease=lease("bob"), now=at(2))
            again = delivered.claimed
            assert [mail.seq for mail in again.mail] == [1]
            await store.commit(commit(again, 1, consumed=(1,)))
            await store.commit(commit(again, 1, end(), index=3))
            await store.get_run("r")
            assert len(statements) == 7

    asyncio.run(main())


async def _busy(store: PostgresStore) -> list[asyncio.Future[Any]]:
    """Commits that keep every writer busy, so that whatever comes next waits and goes out as one group."""
    held = await asyncio.gather(*(start(store, f"busy{n}") for n in range(4)))
    tasks = [asyncio.ensure_future(store.commit(commit(run, 1))) for run in held]
    await asyncio.sleep(0)
    return tasks


def test_one_outcome_does_not_hurt_another(opened: Callable[[], Any], statements: list[str]):
    """A lost fence, a conflict, an unknown run, an end, a refused pause, a repetition in one group: each for itself."""

    async def main() -> None:
        async with opened() as store:
            good, zombie, late, ended, mailed, repeated = await asyncio.gather(
                *(start(store, name) for name in ("good", "zombie", "late", "ended", "mailed", "repeated"))
            )
            await claim(store, "zombie", now=1, force=True)
            await store.commit(commit(late, 3))
            await deliver(store, signal(), "mailed")
            await store.commit(commit(repeated, 1))
            busy = await _busy(store)
            statements.clear()
            answers = await asyncio.gather(
                store.commit(commit(zombie, 1)),
                store.commit(commit(good, 1, state="[1]")),
                store.commit(commit(late, 1)),
                store.commit(commit(ended, 2, end())),
                store.commit(commit(mailed, 1, pause(timer_wait(9)), seen=0)),
                store.commit(commit(repeated, 1)),
                store.commit(replace(commit(good, 1), run_id="nobody")),
                return_exceptions=True,
            )
            await asyncio.gather(*busy)
            assert len([sql for sql in statements if "INSERT" in sql]) <= 3
            assert [type(answer) for answer in answers] == [
                LeaseLostError,
                Committed,
                LogConflictError,
                Committed,
                Committed,
                Committed,
                LeaseLostError,
            ]
            assert (answers[3].released, answers[4].released) == (True, False)
            assert [mail.id for mail in answers[4].mail] == ["s1"]
            runs = {name: await row(store, name) for name in ("good", "zombie", "late", "ended", "mailed", "repeated")}
            assert {name: run.log_length for name, run in runs.items()} == {
                "good": 1, "zombie": 0, "late": 3, "ended": 2, "mailed": 1, "repeated": 1,
            }  # fmt: skip
            assert (runs["good"].state, runs["ended"].status, runs["mailed"].status) == ("[1]", "completed", "running")

    asyncio.run(main())


def test_a_value_that_postgres_refuses_fails_alone(opened: Callable[[], Any], monkeypatch: pytest.MonkeyPatch):
    """A mail id too long for the index is its sender's error; the deliveries that went out with it arrive."""

    async def main() -> None:
        async with opened() as store:
            await asyncio.gather(*(start(store, f"r{n}") for n in range(5)))
            ids = ["a", "b", Random(1).randbytes(20_000).hex(), "c", "d"]
            answers = await asyncio.gather(
                *(store.deliver(f"r{n}", signal(id), lease=None, now=at(1)) for n, id in enumerate(ids)),
                return_exceptions=True,
            )
            assert isinstance(answers[2], InvalidArgumentError)
            assert [answer.outcome for answer in answers if not isinstance(answer, Exception)] == ["accepted"] * 4
            assert [(await row(store, f"r{n}")).mail_count for n in range(5)] == [1, 1, 0, 1, 1]

    asyncio.run(main())


def test_a_wait_that_is_no_json_fails_alone(opened: Callable[[], Any]):
    """A `meta` that JSON can't hold is the error of its run; the pauses that went out with it are written."""

    async def main() -> None:
        async with opened() as store:
            held = await asyncio.gather(*(start(store, f"r{n}") for n in range(4)))
            waits = [Wait("timer", "t", until=at(9), meta={"x": 1 if n != 2 else object()}) for n in range(4)]
            busy = await _busy(store)
            answers = await asyncio.gather(
                *(store.commit(commit(run, 1, pause(wait))) for run, wait in zip(held, waits, strict=True)),
                return_exceptions=True,
            )
            await asyncio.gather(*busy)
            assert [type(answer) for answer in answers] == [Committed, Committed, PayloadError, Committed]
            assert [(await row(store, f"r{n}")).status for n in range(4)] == ["paused", "paused", "running", "paused"]

    asyncio.run(main())


ODD = {
    "nul": "a\0b",
    "nul-escaped": '"a\\u0000b"',
    "surrogate": '"\ud800"',
    "surrogate-escaped": '"\\ud800"',
    "astral": "\N{THUMBS UP SIGN} \U0010ffff",
    "quotes": "\"'`$$; --",
    "backslashes": "\\ \\\\ \\n \\x00 \\u12",
    "controls": "\x01\x02\t\r\n\x1f\x7f\x85\u2028",
    "mark": '\x01"a"',
    "array": '{a,"b",NULL}',
    "null": "null",
    "empty": "",
    "number": "1e999",
    "none": None,
}


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
def test_any_text_comes_back_from_a_group(postgres_url: str, schema: str, driver: str):
    """In one group: creations, deliveries, commits and ends with every kind of text come back as they went in."""

    async def main() -> None:
        store = PostgresStore(postgres_url.replace("asyncpg", driver), schema=schema)
        await store.migrate()
        texts = [text or "" for text in ODD.values()]
        news = [NewRun(name, "w", None, text, at(0)) for name, text in zip(ODD, texts, strict=True)]
        created = await asyncio.gather(*(store.create_run(new, lease=lease(), now=at(0)) for new in news))
        held = [answer.claimed for answer in created if answer.claimed is not None]
        mails = [NewMail("signal", name, text, text) for name, text in zip(ODD, texts, strict=True)]
        await asyncio.gather(*(store.deliver(mail.id, mail, lease=None, now=at(1)) for mail in mails))
        commits = [
            replace(commit(run, (LogRecord(0, text or "", text), LogRecord(1, "{}", None))), state=text, seen_mail=1)
            for run, text in zip(held, ODD.values(), strict=True)
        ]
        assert set(await asyncio.gather(*map(store.commit, commits))) == {Committed(released=False)}
        ends = [
            commit(run, 0, Transition("paused", at(9), (Wait("signal", text, text),), text, text), index=2, seen=1)
            for run, text in zip(held, texts, strict=True)
        ]
        assert set(await asyncio.gather(*map(store.commit, ends))) == {Committed(released=True)}
        for (name, payload), text in zip(ODD.items(), texts, strict=True):
            claimed = await store.claim_run(name, lease(), now=at(2), force=True)
            assert claimed is not None
            run = claimed.run
            assert (run.input, run.state, run.output, run.error) == (text, payload, text, text)
            assert (run.due_at, run.waits) == (lease().until, (Wait("signal", text, text),))
            assert claimed.log == (LogRecord(0, text, payload), LogRecord(1, "{}", None))
            assert [(mail.name, mail.payload) for mail in claimed.mail] == [(text, text)]
        await store.close()

    asyncio.run(main())


def test_instants_are_exact_in_a_group(opened: Callable[[], Any]):
    """To the microsecond, in any time zone, as far as a datetime goes: alone and in a group alike."""
    instants = [
        datetime(1, 1, 2, 0, 0, 0, 1, tzinfo=UTC),
        datetime(2026, 1, 1, 0, 0, 0, 123456, tzinfo=timezone(timedelta(hours=5, minutes=45, seconds=7))),
        datetime(2300, 1, 1, 1, 2, 3, 999999, tzinfo=UTC),
        datetime(9999, 12, 30, 23, 59, 59, 999999, tzinfo=UTC),
    ]

    async def main() -> None:
        async with opened() as store:
            held = await asyncio.gather(*(start(store, f"r{n}") for n in range(len(instants))))
            busy = await _busy(store)
            waits = [Transition("paused", instant, (timer_wait(9),)) for instant in instants]
            await asyncio.gather(*(store.commit(commit(run, 1, wait)) for run, wait in zip(held, waits, strict=True)))
            await asyncio.gather(*busy)
            assert [(await row(store, f"r{n}")).due_at for n in range(len(instants))] == instants

    asyncio.run(main())


def test_two_commits_of_one_run_at_once(opened: Callable[[], Any]):
    """Of two different commits to one index exactly one is written, also where they wait side by side."""

    async def main() -> None:
        async with opened() as store:
            held = await start(store)
            busy = await _busy(store)
            one = store.commit(commit(held, 1))
            two = store.commit(commit(held, 2))
            answers = await asyncio.gather(one, two, return_exceptions=True)
            await asyncio.gather(*busy)
            assert [isinstance(answer, LogConflictError) for answer in answers].count(True) == 1
            assert (await row(store)).log_length in (1, 2)

    asyncio.run(main())


def test_a_locked_run_holds_up_nobody_else(postgres_url: str, opened: Callable[[], Any]):
    """While a transaction of the app holds a run, the others of its group are written; the run is when it is free."""

    async def main() -> None:
        async with opened() as store:
            held = await asyncio.gather(*(start(store, f"r{n}") for n in range(20)))
            rival = await asyncpg.connect(postgres_url.replace("+asyncpg", ""))
            async with rival.transaction():
                await rival.execute(f"SELECT FROM {store.schema}.workflow_runs WHERE run_id = 'r7' FOR UPDATE")
                tasks = [asyncio.ensure_future(store.commit(commit(run, 1))) for run in held]
                async with asyncio.timeout(5):
                    await asyncio.gather(*(task for n, task in enumerate(tasks) if n != 7))
                assert not tasks[7].done()
                renewed = await store.renew([HeldLease(f"r{n}", 1) for n in range(20)], until=at(99), now=at(1))
                assert [renewal.run_id for renewal in renewed] == [f"r{n}" for n in range(20)]
            assert await tasks[7] == Committed(released=False)
            assert (await row(store, "r7")).log_length == 1
            await rival.close()

    asyncio.run(main())


def test_a_cancelled_commit_leaves_the_group_alone(opened: Callable[[], Any]):
    """Who stops waiting for a commit doesn't keep the others from theirs, and the store works on."""

    async def main() -> None:
        async with opened() as store:
            held = await asyncio.gather(*(start(store, f"r{n}") for n in range(30)))
            tasks = [asyncio.ensure_future(store.commit(commit(run, 1))) for run in held]
            await asyncio.sleep(0)
            for task in tasks[::3]:
                task.cancel()
            answers = await asyncio.gather(*tasks, return_exceptions=True)
            assert all(answers[n] == Committed(released=False) for n in range(30) if n % 3)
            again = await asyncio.gather(*(store.commit(commit(run, 1)) for run in held))
            assert set(again) == {Committed(released=False)}

    asyncio.run(main())


def test_large_payloads_are_not_collected_without_bound(opened: Callable[[], Any], statements: list[str]):
    """Groups are bounded in size: payloads of megabytes go out a few at a time."""

    async def main() -> None:
        async with opened() as store:
            held = await asyncio.gather(*(start(store, f"r{n}") for n in range(24)))
            statements.clear()
            large = "x" * 2_000_000
            await asyncio.gather(*(store.commit(commit(run, (LogRecord(0, "{}", large),))) for run in held))
            assert 5 <= len(statements) <= 24
            assert (await store.read_log("r23"))[0].payload == large

    asyncio.run(main())


def test_creations_at_once_with_doubles(opened: Callable[[], Any]):
    """A flood of creations in which each id comes twice: each run is made once, and everyone gets its row."""

    async def main() -> None:
        async with opened() as store:
            news = [NewRun(f"r{n % 300}", "orders", None, "{}", at(0)) for n in range(600)]
            answers = await asyncio.gather(*(store.create_run(new, lease=lease(), now=at(0)) for new in news))
            assert sum(answer.created for answer in answers) == 300
            assert [answer.run.run_id for answer in answers] == [new.run_id for new in news]
            assert all((answer.claimed is not None) == answer.created for answer in answers)

    asyncio.run(main())
