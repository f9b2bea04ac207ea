"""Processes that die between and inside operations: the next one finds a run that it can finish.

A little workflow, written by hand against the store, stands for the engine: it records a step, waits for a signal, and
ends with it. It is killed at each boundary of each operation it needs, on a run of its own every time; then whoever
sent the signal tries again, and another process sweeps. The step must have been recorded once, and the signal once.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from workflow.core.records import ClaimedRun, LogRecord, Mail
from workflow.runtime.contract import ExecutionStore, HeldLease
from workflow.runtime.testing.crashing import CrashingStore, CrashPoint, LostConnection, SimulatedCrash, crash_points
from workflow.runtime.testing.invariants import check_invariants

from .harness import StoreSuite, store_test
from .samples import at, claim_due, commit, end, lease, new_run, pause, row, signal, signal_wait

__all__ = ["CrashingSuite"]

STEP = '{"type":"STEP"}'
PAID = '{"type":"PAID"}'


async def drive(store: ExecutionStore, claimed: ClaimedRun, now: float) -> None:
    """Go on with the little workflow from wherever its log says it is, as an engine would."""
    index = len(claimed.log)
    if not index:
        await store.commit(commit(claimed, (LogRecord(0, STEP),), now=now, until=now + 10))
        index = 1
    mail = tuple(claimed.mail)
    if not mail:
        answer = await store.commit(commit(claimed, 0, pause(signal_wait()), index=index, now=now, until=now + 10))
        if answer.released:
            return
        mail = tuple(answer.mail)
    await store.commit(_resolved(claimed, index, mail[0], now))


def _resolved(claimed: ClaimedRun, index: int, mail: Mail, now: float) -> Any:
    resolution = LogRecord(index, PAID, mail.payload)
    return commit(claimed, (resolution,), end(), index=index, now=now, consumed=(mail.seq,), seen=mail.seq)


async def start_and_go(store: ExecutionStore, run_id: str, now: float = 0) -> None:
    created = await store.create_run(new_run(run_id), lease=lease("p", now + 10), now=at(now))
    if created.claimed:
        await store.renew([HeldLease(run_id, created.claimed.run.fence)], until=at(now + 11), now=at(now))
        await drive(store, created.claimed, now)


async def deliver_and_go(store: ExecutionStore, run_id: str, now: float = 1) -> None:
    delivered = await store.deliver(run_id, signal(), lease=lease("p", now + 10), now=at(now))
    if delivered.claimed:
        await drive(store, delivered.claimed, now)


async def sweep(store: ExecutionStore, now: float) -> None:
    for claimed in await claim_due(store, now=now, until=now + 10):
        await drive(store, claimed, now)


async def started_then_paid(store: ExecutionStore, run_id: str) -> None:
    await start_and_go(store, run_id)
    await deliver_and_go(store, run_id)


async def paid_while_it_runs(store: ExecutionStore, run_id: str) -> None:
    """The signal arrives between the claim and the pause: the pause is refused, and the drive goes on."""
    created = await store.create_run(new_run(run_id), lease=lease("p", 10), now=at(0))
    assert created.claimed is not None
    await deliver_and_go(store, run_id)
    await drive(store, created.claimed, 2)


async def queued_then_swept(store: ExecutionStore, run_id: str) -> None:
    await store.create_run(new_run(run_id), lease=None, now=at(0))
    await store.deliver(run_id, signal(), lease=None, now=at(1))
    await sweep(store, 2)


Scenario = Callable[[ExecutionStore, str], Coroutine[Any, Any, None]]


async def boundaries(store: ExecutionStore, scenario: Scenario, *, fatal: bool = True) -> list[CrashPoint]:
    """All places where the scenario can die, learned from a run of it that doesn't."""
    recording = CrashingStore(store)
    await scenario(recording, "recorded")
    await assert_finished(store, "recorded")
    points = list(crash_points(recording.trace, fatal=fatal))
    assert len(points) >= 8
    return points


async def assert_finished(store: ExecutionStore, run_id: str) -> None:
    run = await row(store, run_id)
    assert (run.status, run.mail_count) == ("completed", 1)
    log = [(record.event, record.payload) for record in await store.read_log(run_id)]
    assert log == [(STEP, None), (PAID, '"ok"')]


async def survive(store: ExecutionStore, scenario: Scenario) -> None:
    """Kill the scenario at each of its boundaries; let another process clear up after it each time."""
    for point in await boundaries(store, scenario):
        run_id = f"died {point}"
        with pytest.raises(SimulatedCrash):
            await scenario(CrashingStore(store, point), run_id)
        await check_invariants(store)
        await start_and_go(store, run_id, now=3)
        await deliver_and_go(store, run_id, now=4)
        await sweep(store, 20)
        await assert_finished(store, run_id)


class CrashingSuite(StoreSuite):
    @store_test
    async def test_death_between_start_and_signal(self, store: ExecutionStore) -> None:
        """Die at any boundary of starting a run and paying for it: the next process ends it right."""
        await survive(store, started_then_paid)

    @store_test
    async def test_death_while_mail_comes(self, store: ExecutionStore) -> None:
        """Die at any boundary while mail comes to a running run: it is resolved once."""
        await survive(store, paid_while_it_runs)

    @store_test
    async def test_death_in_a_sweep(self, store: ExecutionStore) -> None:
        """Die at any boundary of queueing, delivering and sweeping: a later sweep does the rest."""
        await survive(store, queued_then_swept)

    @store_test
    async def test_lost_answers(self, store: ExecutionStore) -> None:
        """Lose the connection before or after any operation and ask again: the same run comes out."""
        for point in await boundaries(store, started_then_paid, fatal=False):
            run_id = f"lost {point}"
            await started_then_paid(Persistent(store, point), run_id)
            await check_invariants(store)
            await sweep(store, 20)  # a creation or claim whose answer was lost is taken up when its lease is over
            await deliver_and_go(store, run_id, now=21)
            await assert_finished(store, run_id)

    @store_test
    async def test_dead_owners_can_not_write(self, store: ExecutionStore) -> None:
        """Whoever comes back after its run was taken finds every operation on it refused."""
        created = await store.create_run(new_run("r"), lease=lease("p", 10), now=at(0))
        assert created.claimed is not None
        await deliver_and_go(store, "r")
        await sweep(store, 20)
        await assert_finished(store, "r")
        with pytest.raises(Exception, match="fence 1"):
            await drive(store, created.claimed, 21)
        assert list(await store.renew([HeldLease("r", 1)], until=at(99), now=at(21))) == []
        await assert_finished(store, "r")


class Persistent(CrashingStore):
    """A process that asks again where the connection fails, as every caller of a store may."""

    async def _call(self, operation: str, act: Callable[[], Any]) -> Any:
        try:
            return await super()._call(operation, act)
        except LostConnection:
            return await super()._call(operation, act)
