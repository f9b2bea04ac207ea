"""What is stored comes back as it was: text, names and instants of every kind."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from workflow.core.records import Lease, NewMail, NewRun, Transition, Wait
from workflow.runtime.contract import ExecutionStore, HeldLease, RunFilter

from .harness import StoreSuite, store_test
from .samples import (
    ANYTHING,
    T0,
    at,
    claim,
    commit,
    create,
    pause,
    record,
    row,
    signal,
    snapshot,
    start,
    timer_wait,
)

__all__ = ["ValuesSuite"]

TEXTS = {
    "empty": "",
    "not JSON": "{not json",
    "blank": " \t\r\n ",
    "escaped NUL": '"a\\u0000b"',
    "escaped lone surrogate": '"\\ud800"',
    "emoji": '"👩‍👩‍👧‍👦 é é ß İ ﷺ 𝄞"',
    "quotes": """'";--$$ $1 :x ? %s %(x)s {0} \\ \\' \\u""",
    "line ends": "a\nb\r\nc\rd\u2028e\x0b\x1b",
    "huge number": "1" * 400,
}
"""Payloads are opaque: nothing may parse, trim, normalize or shorten them."""

_MEGABYTE = 1_000_000

NAMES = (
    "'; DROP TABLE runs; --",
    '"quoted" `ticks` [brackets]',
    "100%_done",
    "back\\slash\\",
    "$1 :name ?1 %(x)s {y}",
    "Größe/ключ/鍵/🔑",
    "e\u0301",
    "é",
    " spaced ",
    "spaced",
    "CASE",
    "case",
    "null",
    "x" * 200,
)
"""Ids and names are data, and no two of these are the same."""


class ValuesSuite(StoreSuite):
    @store_test
    async def test_payloads_come_back(self, store: ExecutionStore) -> None:
        """Input, state, output, error, events, payloads and mail are returned exactly as they were given."""
        large = "é" * (min(_MEGABYTE, store.capabilities.max_payload) // 2)
        for run_id, text in {**TEXTS, "large": large}.items():
            claimed = await start(store, run_id, input=text)
            await store.deliver(run_id, signal(payload=text), lease=None, now=at(1))
            await store.commit(commit(claimed, (record(0, text), record(1, "")), state=text))
            again = await claim(store, run_id, now=100)
            assert (again.run.input, again.run.state) == (text, text)
            assert [(entry.event, entry.payload) for entry in again.log] == [
                ('{"type":"E0"}', text),
                (record(1).event, ""),
            ]
            assert [mail.payload for mail in again.mail] == [text]
            assert tuple(await store.read_log(run_id)) == tuple(again.log)
            await store.commit(commit(again, 0, Transition("errored", output=text, error=text), seen=1))
            run = await row(store, run_id)
            assert (run.input, run.state, run.output, run.error) == (text,) * 4

    @store_test
    async def test_absent_payloads_stay_absent(self, store: ExecutionStore) -> None:
        """None and an empty text are two things, in records, state, output and version."""
        claimed = await start(store)
        await store.commit(commit(claimed, (record(0, None), record(1, "")), state=""))
        assert [entry.payload for entry in await store.read_log("r")] == [None, ""]
        await store.commit(commit(claimed, 0, Transition("completed", output=""), index=2))
        run = await row(store)
        assert (run.state, run.output, run.error, run.workflow_version) == ("", "", None, None)

    @store_test
    async def test_impossible_text_is_never_changed(self, store: ExecutionStore) -> None:
        """What JSON text never holds, a raw NUL or a lone surrogate, comes back unchanged or is refused as a whole."""
        for number, text in enumerate(('"a\x00b"', "\x00", '"\ud800"')):
            claimed = await start(store, f"r{number}")
            before = await snapshot(store)
            try:
                await store.commit(commit(claimed, (record(0, "[]"), record(1, text)), state=text))
            except Exception:
                assert await snapshot(store) == before
            else:
                assert [entry.payload for entry in await store.read_log(f"r{number}")] == ["[]", text]
                assert (await row(store, f"r{number}")).state == text

    @store_test
    async def test_ids_and_names_are_data(self, store: ExecutionStore) -> None:
        """No run id, workflow id, version, owner, mail id or name is ever taken for SQL, a pattern, or another's."""
        for name in NAMES:
            new = NewRun(name, f"workflow {name}", name, "{}", T0)
            assert (await store.create_run(new, lease=Lease(name, at(30)), now=T0)).created
        for name in NAMES:
            run = await row(store, name)
            assert (run.run_id, run.workflow_id, run.workflow_version) == (name, f"workflow {name}", name)
            assert run.owner == name
            mail = NewMail("signal", name, name, "{}")
            assert (await store.deliver(name, mail, lease=None, now=T0)).outcome == "accepted"
            assert (await store.deliver(name, mail, lease=None, now=T0)).outcome == "duplicate"
            (renewed,) = await store.renew([HeldLease(name, 1)], until=at(60), now=T0)
            assert (renewed.run_id, renewed.mail_count) == (name, 1)
            waits = (Wait("signal", name, f"{name}!", None, name, {name: name, "\x00": [name, 1.5, None]}),)
            asked = commit(await row(store, name), (record(0, name),), Transition("paused", None, waits), owner=name)
            assert (await store.commit(asked)).released
            assert (await row(store, name)).waits == waits
            wake = NewMail("signal", f"{name}2", f"{name}!", "{}")
            assert (await store.deliver(name, wake, lease=None, now=T0)).awaited is True

    @store_test
    async def test_ids_and_names_as_filters(self, store: ExecutionStore) -> None:
        """Whatever an id is made of, a filter, a cursor, a claim and a purge by it mean exactly that one."""
        for name in NAMES:
            await create(store, name, workflow_id=name)
        in_order = sorted(NAMES, reverse=True)
        assert [run.run_id for run in await store.list_runs(RunFilter())] == in_order
        for number, name in enumerate(in_order):
            assert [run.run_id for run in await store.list_runs(RunFilter(workflow_id=name))] == [name]
            following = await store.list_runs(RunFilter(before=(T0, name), limit=1))
            assert [run.run_id for run in following] == in_order[number + 1 : number + 2]
            assert await store.next_due([name]) == T0
            (found,) = await store.claim_due([name], Lease(name, at(30)), limits=ANYTHING, now=T0)
            assert (found.run.run_id, found.run.owner) == (name, name)
            await store.commit(commit(found, 1, Transition("completed"), now=1))
            assert await store.purge(at(2), workflow_id=name) == 1

    @store_test
    async def test_instants_are_exact(self, store: ExecutionStore) -> None:
        """Every instant is kept to the microsecond, and is aware and in UTC when it comes back."""
        odd = datetime(2026, 3, 29, 1, 59, 59, 999999, tzinfo=UTC)  # a second before clocks change in Europe
        later = odd.replace(microsecond=999998, second=58)
        created = await store.create_run(NewRun("r", "orders", None, "{}", odd), lease=None, now=later)
        assert (created.run.due_at, created.run.created_at) == (odd, later)
        claimed = await store.claim_run("r", Lease("ann", odd), now=odd)
        assert claimed is not None
        assert (claimed.run.started_at, claimed.run.due_at) == (odd, odd)
        await store.deliver("r", signal(), lease=None, now=later)
        assert [mail.sent_at for mail in (await store.commit(commit(claimed, 1))).mail] == [later]
        for run in ((await row(store)), *await store.list_runs(RunFilter())):
            assert run.created_at.tzinfo is not None
            assert run.created_at.utcoffset() == T0.utcoffset()

    @store_test
    async def test_instants_of_every_time(self, store: ExecutionStore) -> None:
        """Due times from before 1970 to the year 9999 are kept, compared and ordered right."""
        instants = (
            datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
            datetime(2038, 1, 19, 3, 14, 8, tzinfo=UTC),
            datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
            datetime(1900, 1, 1, 0, 0, 0, 1, tzinfo=UTC),
        )
        for number, due in enumerate(instants):
            await store.create_run(NewRun(f"r{number}", "orders", None, "{}", due), lease=None, now=T0)
            assert (await row(store, f"r{number}")).due_at == due
            assert await store.next_due(["orders"]) == due
        found = await store.claim_due(["orders"], Lease("ann", instants[0]), limits=ANYTHING, now=T0)
        assert [claimed.run.run_id for claimed in found] == ["r3", "r2"]

    @store_test
    async def test_waits_come_back(self, store: ExecutionStore) -> None:
        """The waits of a paused run are kept in their order, with every field, whichever of them are absent."""
        meta: dict[str, Any] = {"nested": {"list": [1, 2.5, "x", None, True, {}], "é\x00": "👍"}, "big": 2**53, "": ""}
        waits = (
            timer_wait(99.000001),
            Wait("signal", "b", "name", at(98), "detail", meta),
            Wait("signal", "a", "", None, "", {}),
            Wait("approval", "a1", "Title"),
        )
        await store.commit(commit(await start(store), 1, pause(*waits)))
        run = await row(store)
        assert run.waits == waits
        assert json.dumps([wait.meta for wait in run.waits]) == json.dumps([wait.meta for wait in waits])
        assert (await claim(store, now=98)).run.waits == waits
