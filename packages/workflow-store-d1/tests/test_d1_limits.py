"""What D1 would refuse or change is refused before anything is sent."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from workflow.core.errors import PayloadError, StoreError
from workflow.core.records import Commit, Lease, LogRecord, NewMail, NewRun, Transition, Wait
from workflow.runtime.schedules.records import ScheduleCommit, ScheduleKey, TickRecord
from workflow.store.d1 import D1Store

NOW = datetime(2030, 1, 1, tzinfo=UTC)
LEASE = Lease("me", NOW + timedelta(seconds=30))
MOST = D1Store.capabilities.max_payload
LARGE = "x" * (MOST + 1)

Operation = Callable[[D1Store], Coroutine[Any, Any, object]]


def create(input: str, run_id: str = "r") -> Operation:
    return lambda store: store.create_run(NewRun(run_id, "w", None, input, NOW), lease=LEASE, now=NOW)


def commit(records: tuple[LogRecord, ...] = (), **fields: Any) -> Operation:
    return lambda store: store.commit(Commit("r", 1, 0, NOW, LEASE, records, **fields))


def deliver(name: str, payload: str) -> Operation:
    return lambda store: store.deliver("r", NewMail("signal", "s", name, payload), lease=None, now=NOW)


def begin(**fields: Any) -> Operation:
    return lambda store: store.create_run(NewRun("r", "w", None, "{}", NOW, **fields), lease=None, now=NOW)


def schedule(data: str = "{}", **fields: Any) -> Operation:
    key = ScheduleKey("w", "daily")
    return lambda store: store.commit_schedule(ScheduleCommit(key, 0, NOW, NOW, False, data, **fields))


def reopen(payload: str, *mail: NewMail) -> Operation:
    return lambda store: store.reopen(
        "r", expected_index=0, record=LogRecord(0, "{}", payload), mail=mail, expires_at=None, now=NOW
    )


TOO_LARGE = {
    "input": create(LARGE),
    "input in bytes": create("é" * (MOST // 2 + 1)),
    "event": commit((LogRecord(0, LARGE),)),
    "result": commit((LogRecord(0, "{}", "{}"), LogRecord(1, "{}", LARGE))),
    "state": commit(state=LARGE),
    "output": commit(transition=Transition("completed", output=LARGE)),
    "error": commit(transition=Transition("errored", error=LARGE)),
    "waits": commit(transition=Transition("paused", None, (Wait("signal", "1", "n", detail="x" * 60_000),))),
    "signal": deliver("n", LARGE),
    "name": deliver("n" * 60_001, "{}"),
    "log at the start": begin(log=(LogRecord(0, "{}", LARGE),)),
    "state at the start": begin(state=LARGE),
    "schedule": schedule(LARGE),
    "input of a tick": schedule(starts=(NewRun("r", "w", None, LARGE, NOW),)),
    "detail of a tick": schedule(ticks=(TickRecord(NOW, "skipped", NOW, detail=LARGE),)),
    "cancel of a tick": schedule(cancel=("r",), cancel_mail=NewMail("cancel", "c", "cancel", LARGE)),
    "last event of a tick": schedule(terminate=("r",), termination=LARGE),
    "record of a reopening": reopen(LARGE),
    "mail of a reopening": reopen("{}", NewMail("signal", "s", "n", LARGE)),
}
IMPOSSIBLE = {
    "input": create('"\ud800"'),
    "id": create("{}", "\ud800"),
    "result": commit((LogRecord(0, "{}", '"\udfff"'),)),
    "signal": deliver("n", '"\ud800"'),
}


class NoDatabase:
    """A binding that must not be used."""

    def prepare(self, sql: str) -> Any:
        raise AssertionError("something was sent")

    batch = prepare


@pytest.mark.parametrize("what", TOO_LARGE)
def test_what_is_too_large_is_never_sent(what: str) -> None:
    """A payload that could make a row too large is refused with its size, the limit, and what to do instead."""
    with pytest.raises(PayloadError, match="Keep large data elsewhere"):
        asyncio.run(TOO_LARGE[what](D1Store(NoDatabase())))


@pytest.mark.parametrize("what", IMPOSSIBLE)
def test_what_javascript_would_replace_is_never_sent(what: str) -> None:
    """A lone surrogate, which would silently become another character on its way, is refused."""
    with pytest.raises(PayloadError, match="lone surrogate"):
        asyncio.run(IMPOSSIBLE[what](D1Store(NoDatabase())))


def test_the_largest_run_fits(d1_url: str) -> None:
    """A run with everything as large as it may be is within D1's limit for a row."""

    async def fill() -> None:
        store = D1Store.from_http("account", "other", "token", base_url=d1_url)
        await store.migrate()
        most = "x" * MOST
        await create(most, "x" * 200)(store)
        waits = (Wait("signal", "1", "n", detail="x" * 59_000),)
        pause = Transition("paused", None, waits, most, most)
        await store.commit(
            Commit("x" * 200, 1, 0, NOW, LEASE, (LogRecord(0, most, most),), state=most, transition=pause)
        )
        run = await store.get_run("x" * 200)
        assert run is not None
        assert (run.input, run.state, run.output, run.error, run.waits) == (most, most, most, most, waits)
        await store.close()

    asyncio.run(fill())


def test_a_long_log_in_one_commit(d1_url: str) -> None:
    """Hundreds of records, more than the parameters of a statement, are committed at once or not at all."""

    async def append() -> None:
        store = D1Store.from_http("account", "other", "token", base_url=d1_url)
        await store.migrate()
        await create("{}", "long")(store)
        records = tuple(LogRecord(index, "{}", str(index)) for index in range(500))
        calls = store.usage.calls
        await store.commit(Commit("long", 1, 0, NOW, LEASE, records))
        assert store.usage.calls == calls + 1
        assert tuple(await store.read_log("long")) == records
        more = (*(LogRecord(index, "{}") for index in range(500, 900)), LogRecord(0, "{}"))  # 0 is there already
        with pytest.raises(StoreError, match="UNIQUE"):
            await store.commit(Commit("long", 1, 500, NOW, LEASE, more))
        assert len(await store.read_log("long")) == 500
        await store.close()

    asyncio.run(append())
