"""The test's side: a crew of workers that are killed and replaced, the load that they get, and what must come of it."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from workflow.core.records import Lease, NewRun, RunStatus
from workflow.runtime import ExecutionStore, RunFilter, WorkflowRuntime
from workflow.runtime.contract import ClaimLimits
from workflow.runtime.queues import Queue
from workflow.runtime.testing import all_runs, check_invariants

from .scale_app import (
    CONCURRENCY,
    NARROW,
    SLOTS,
    SLOTS_PER_KEY,
    STEPS,
    WIDE,
    Journal,
    StoreSpec,
    key_of,
    make_runtime,
    run_id_of,
)

OPEN: frozenset[RunStatus] = frozenset({"queued", "running", "paused"})
PAUSE = 0.05
"""Seconds between two looks at what is waited for."""


class Crew:
    """Workers in processes of their own."""

    def __init__(self, spec: StoreSpec, journal: Journal, size: int) -> None:
        command = [sys.executable, "-W", "error", str(Path(__file__).with_name("scale_foreman.py"))]
        self._foreman = subprocess.Popen(
            [*command, spec.text(), str(journal.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.workers = [self._ask("start") for _ in range(size)]

    def replace(self, number: int, how: signal.Signals) -> int:
        """End a worker in this way, and start another in its place. Its exit code."""
        pid = self.workers[number]
        os.kill(pid, how)
        code = self._ask(f"wait {pid}")
        self.workers[number] = self._ask("start")
        return code

    def stop(self) -> list[int]:
        """Let all of them drain, and tell their exit codes."""
        for pid in self.workers:
            os.kill(pid, signal.SIGTERM)
        return [self._ask(f"wait {pid}") for pid in self.workers]

    def close(self) -> None:
        self._foreman.communicate(timeout=60)

    def _ask(self, command: str) -> int:
        assert self._foreman.stdin is not None
        assert self._foreman.stdout is not None
        self._foreman.stdin.write(f"{command}\n")
        self._foreman.stdin.flush()
        return int(self._foreman.stdout.readline())


@dataclass
class Load:
    """So many runs of both workflows, every fourth of the limited one, and one signal for each."""

    runtime: WorkflowRuntime
    runs: int
    sent: int = 0

    def ids(self) -> list[str]:
        return [run_id_of(NARROW if number % 4 == 0 else WIDE, number) for number in range(self.runs)]

    async def start(self) -> None:
        await in_batches(self._start(run_id) for run_id in self.ids())

    async def send(self, until: int) -> None:
        """Send the signals of all runs before that one. Each is sent twice, which must make no difference."""
        await in_batches(self._send(run_id) for run_id in self.ids()[self.sent : until] for _ in range(2))
        self.sent = max(self.sent, until)

    async def _start(self, run_id: str) -> None:
        workflow_id, number = run_id.split("-")
        await self.runtime.start_run(workflow_id, run_id=run_id, input=int(number), drive=False)

    async def _send(self, run_id: str) -> None:
        await self.runtime.deliver_signal(
            run_id=run_id, signal_id=f"go {run_id}", name="go", payload="went", drive=False
        )


async def in_batches(calls: Iterable[object], size: int = 100) -> None:
    batch = []
    for call in calls:
        batch.append(call)
        if len(batch) == size:
            await asyncio.gather(*batch)
            batch = []
    await asyncio.gather(*batch)


@dataclass
class Slots:
    """What is seen of the limited queue while the workers work."""

    store: ExecutionStore
    most: int = 0
    most_of_key: int = 0
    looks: int = 0

    async def look(self) -> None:
        running = RunFilter(workflow_id=NARROW, status=frozenset({"running"}), limit=10 * SLOTS)
        rows = await self.store.list_runs(running)
        self.most = max(self.most, len(rows))
        self.most_of_key = max(self.most_of_key, *Counter(row.key for row in rows).values(), 0)
        self.looks += 1

    async def until(self, done: Callable[[], bool]) -> None:
        """Go on looking until that is so."""
        while not done():
            await self.look()
            await asyncio.sleep(PAUSE)

    async def until_all_have_ended(self) -> None:
        while await self.store.list_runs(RunFilter(status=OPEN, limit=1)):
            await self.look()
            await asyncio.sleep(PAUSE)


async def kill_under_load(
    spec: StoreSpec, folder: Path, *, runs: int, workers: int, kills: int, seconds: float
) -> None:
    """The whole scenario: start everything, kill at random as the work goes on, and see how it ends."""
    journal, chance = Journal(folder / "journal"), random.Random(8)
    async with runtime_on(spec, journal) as runtime, asyncio.timeout(seconds):
        load, slots = Load(runtime, runs), Slots(runtime.store)
        await load.start()
        await load.send(runs // 2)  # early mail, for handlers that don't wait for it yet
        crew = Crew(spec, journal, workers)
        try:
            await kill(crew, load, slots, journal, chance, kills)
            await load.send(runs)
            await slots.until_all_have_ended()
            assert crew.stop() == [0] * workers
        finally:
            crew.close()
        await check_ends(runtime.store, load.ids())
        check_journal(journal, load.ids(), kills)
        check_slots(slots, journal)
        await check_no_slot_leaked(runtime.store)
        await check_invariants(runtime.store)


@asynccontextmanager
async def runtime_on(spec: StoreSpec, journal: Journal) -> AsyncIterator[WorkflowRuntime]:
    store = spec.make()
    await store.migrate()
    async with make_runtime(store, journal) as runtime:
        yield runtime
    await store.close()


async def kill(crew: Crew, load: Load, slots: Slots, journal: Journal, chance: random.Random, kills: int) -> None:
    """Kill a worker, and now and then stop one, each time that so much of the work is done."""
    line = len(f"enter 1000000 {WIDE}-1000 first\n")
    work = load.runs * len(STEPS) * 2 * line
    for number in range(kills):
        share = work * (number + 1) * 3 // (4 * (kills + 1))
        await load.send(load.runs // 2 + load.runs * (number + 1) // (2 * kills))
        await slots.until(lambda share=share: journal.size() >= share)
        how = signal.SIGTERM if number % 4 == 3 else signal.SIGKILL
        code = crew.replace(chance.randrange(len(crew.workers)), how)
        assert code == (0 if how == signal.SIGTERM else -signal.SIGKILL)


# What must have come of it


async def check_ends(store: ExecutionStore, run_ids: list[str]) -> None:
    """Each run has ended with its own output, and its log has each end and the signal once."""
    rows = {row.run_id: row async for row in all_runs(store)}
    assert sorted(rows) == sorted(run_ids)
    for run_id, row in rows.items():
        assert (row.status, row.output) == ("completed", f'"went-{run_id.split("-")[1]}"'), row
        events = Counter(
            (event["type"], event.get("id") if event["type"] == "STEP_FINISHED" else None)
            for record in await store.read_log(run_id)
            for event in [json.loads(record.event)]
        )
        ends = [("RUN_FINISHED", None), ("SIGNAL_RESOLVED", None), *(("STEP_FINISHED", step) for step in STEPS)]
        assert {end: events[end] for end in ends} == dict.fromkeys(ends, 1), (run_id, events)


def check_journal(journal: Journal, run_ids: list[str], kills: int) -> None:
    """Every step was executed, and again only where a worker was killed in the middle of it."""
    executed = Counter((run_id, step) for what, _, run_id, step in journal.read() if what == "enter")
    assert set(executed) == {(run_id, step) for run_id in run_ids for step in STEPS}
    again = executed.total() - len(executed)
    assert again <= kills * CONCURRENCY, f"{again} executions were repeated"


def check_slots(slots: Slots, journal: Journal) -> None:
    """The limit was never exceeded, as the rows and the steps themselves tell; and it was made use of."""
    assert slots.looks > 10
    assert slots.most <= SLOTS
    assert slots.most_of_key <= SLOTS_PER_KEY
    assert most_at_once(journal) == (SLOTS, SLOTS_PER_KEY)


def most_at_once(journal: Journal) -> tuple[int, int]:
    """How many limited runs were in a step at once, and of one key.

    What a killed worker was in the middle of counts until another one has done it: its run keeps the slot.
    """
    inside, most, most_of_key = set[str](), 0, 0
    for what, _, run_id, _ in journal.read():
        if run_id.startswith(NARROW):
            (inside.add if what == "enter" else inside.discard)(run_id)
            most = max(most, len(inside))
            keys = Counter(key_of(int(each.split("-")[1])) for each in inside)
            most_of_key = max(most_of_key, *keys.values(), 0)
    return most, most_of_key


async def check_no_slot_leaked(store: ExecutionStore) -> None:
    """When all is done, as many runs as there are slots can be claimed at once."""
    now = datetime.now(UTC)
    for number in range(SLOTS + 1):
        new = NewRun(f"last-{number}", NARROW, None, "0", now, NARROW, f"key of {number}")
        await store.create_run(new, lease=None, now=now)
    queue = Queue(NARROW, SLOTS, SLOTS_PER_KEY)
    lease = Lease("inspector", now + timedelta(hours=1))
    claimed = await store.claim_queue(queue, [NARROW], lease, limits=ClaimLimits.all(2 * SLOTS), now=now)
    assert len(claimed) == SLOTS
