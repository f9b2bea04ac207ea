"""`InMemoryRunStore`, where it is more than the contract: atomic without a lock, and never shared by reference.

What every store does is tested by the store suite of `workflow.runtime.testing`, which `MemoryStore` passes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import pytest

from workflow.core.errors import LeaseLostError
from workflow.core.memory import InMemoryRunStore
from workflow.core.records import ClaimedRun, Commit, Lease, LogRecord, NewMail, NewRun, Transition, Wait

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LEASE = Lease("ann", NOW + timedelta(seconds=30))
MAIL = NewMail("signal", "s1", "paid", '"ok"')

T = TypeVar("T")


def at_once(operation: Coroutine[Any, Any, T]) -> T:
    """The result of an operation that never lets anything else run."""
    try:
        operation.send(None)
    except StopIteration as done:
        return done.value
    operation.close()
    pytest.fail("the operation waited for something")


def started(store: InMemoryRunStore, run_id: str = "r") -> ClaimedRun:
    claimed = at_once(store.create_run(NewRun(run_id, "orders", None, "{}", NOW), lease=LEASE, now=NOW)).claimed
    assert claimed is not None
    return claimed


def commit(index: int, count: int = 1, **fields: Any) -> Commit:
    records = tuple(LogRecord(n, "{}") for n in range(index, index + count))
    return Commit("r", fields.pop("fence", 1), index, NOW, LEASE, records, **fields)


def test_operations_never_wait() -> None:
    """Each operation is done when it is first stepped: on one loop nothing can come between its parts."""
    store = InMemoryRunStore()
    started(store)
    at_once(store.deliver("r", MAIL, lease=LEASE, now=NOW))
    at_once(store.commit(commit(0, transition=Transition("queued", NOW), consumed=(1,), seen_mail=1)))
    at_once(store.claim_run("r", LEASE, now=NOW))
    at_once(store.commit(commit(1, fence=2, transition=Transition("completed"))))
    run = at_once(store.get_run("r"))
    assert run is not None
    assert run.status == "completed"
    assert len(at_once(store.read_log("r"))) == 2


def test_a_row_is_a_snapshot() -> None:
    """A row, a log and an inbox that were handed out stay as they were when the run moves on."""
    store = InMemoryRunStore()
    claimed = started(store)
    at_once(store.commit(commit(0, state="[1]")))
    log = at_once(store.read_log("r"))
    at_once(store.deliver("r", MAIL, lease=None, now=NOW))
    at_once(store.commit(commit(1, 3, state="[2]", consumed=(1,))))
    assert (claimed.run.log_length, claimed.run.state, claimed.log, claimed.mail) == (0, None, (), ())
    assert [record.index for record in log] == [0]


def test_a_row_is_a_copy() -> None:
    """Nobody changes the store by changing what it handed out, which type checkers forbid anyway."""
    store = InMemoryRunStore()
    run = started(store).run
    run.status = "completed"  # type: ignore[misc]
    kept = at_once(store.get_run("r"))
    assert kept is not None and kept.status == "running"


def test_two_stores_are_apart() -> None:
    """What is in one store is not in another one."""
    one, other = InMemoryRunStore(), InMemoryRunStore()
    started(one)
    assert at_once(other.get_run("r")) is None


def test_a_refused_commit_leaves_no_trace() -> None:
    """All checks come before the first change: log, state, mail and lease are untouched by a refusal."""
    store = InMemoryRunStore()
    started(store)
    at_once(store.deliver("r", MAIL, lease=None, now=NOW))
    before = at_once(store.get_run("r"))
    with pytest.raises(LeaseLostError):
        at_once(store.commit(commit(0, 5, fence=7, state="[9]", consumed=(1,), transition=Transition("completed"))))
    assert at_once(store.get_run("r")) == before
    assert len(at_once(store.commit(commit(0))).mail) == 1


def test_news_is_found_without_reading_old_mail() -> None:
    """A commit looks only at mail after what was seen, however much is buffered before."""
    store = InMemoryRunStore()
    started(store)
    for number in range(100):
        at_once(store.deliver("r", NewMail("signal", f"s{number}", "later", "{}"), lease=None, now=NOW))
    wait = Wait("signal", "w", "paid")
    refused = at_once(store.commit(commit(0, seen_mail=98, transition=Transition("paused", None, (wait,)))))
    assert (refused.released, [mail.seq for mail in refused.mail]) == (False, [99, 100])
    assert at_once(store.commit(commit(1, seen_mail=100))).mail == ()


def test_it_works_on_any_loop() -> None:
    """The store holds nothing of an event loop: it may be used on one after the other."""
    store = InMemoryRunStore()
    started(store)
    assert asyncio.run(store.get_run("r")) == asyncio.run(store.get_run("r"))
