"""Real processes on one database file, for the tests: `python sqlite_worker.py SCENARIO PATH PROCESSES [ARGS]`.

The modules are imported once, then the processes are forked, before anything is opened, and begin together. Each prints
what it has to say as lines of JSON; the exit code counts the processes that failed.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import traceback
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any

from workflow.core.records import Commit, Lease, LogRecord, NewMail, NewRun, Transition, Wait
from workflow.runtime.contract import ClaimLimits, RunFilter
from workflow.runtime.queues import Queue
from workflow.store.sqlite.store import SQLiteStore

NOW = datetime(2030, 1, 1, tzinfo=UTC)
STEPS = 3


# A process that dies takes nothing back that it has written. Syncs to the disk are about power cuts: no test here.
SYNC = "NORMAL"


def lease(worker: int) -> Lease:
    return Lease(f"worker-{worker}", NOW + timedelta(hours=1))


def report(**said: object) -> None:
    sys.stdout.write(json.dumps(said) + "\n")
    sys.stdout.flush()


async def boot(path: str, worker: int) -> None:
    """The first process to come creates the schema; each starts a run."""
    store = SQLiteStore(path, synchronous=SYNC)
    await store.create_run(NewRun(f"run-{worker}", "w", None, "{}", NOW), lease=None, now=NOW)
    await store.check()
    await store.close()


async def drive(path: str, worker: int, limit: str = "3") -> None:
    """Take what is due, add one record, put it back, until all runs have all their records."""
    store = SQLiteStore(path, synchronous=SYNC)
    while await store.list_runs(RunFilter(status=frozenset({"queued", "running"}), limit=1)):
        claimed = await store.claim_due(["w"], lease(worker), limits=ClaimLimits.all(int(limit)), now=NOW)
        await asyncio.gather(*(_advance(store, worker, one.run.run_id, one.run.fence, len(one.log)) for one in claimed))
    await store.close()


async def _advance(store: SQLiteStore, worker: int, run_id: str, fence: int, length: int) -> None:
    record = LogRecord(length, json.dumps({"worker": worker, "fence": fence}))
    ended = length + 1 == STEPS
    transition = Transition("completed") if ended else Transition("queued", NOW)
    await store.commit(Commit(run_id, fence, length, NOW, lease(worker), (record,), transition=transition))


LIMITED = Queue("q", concurrency=3, concurrency_per_key=1)


async def queue(path: str, worker: int) -> None:
    """Take what the limits allow, look at how many run at that moment, and end them, until all runs have ended."""
    store = SQLiteStore(path, synchronous=SYNC)
    running, all_keys = 0, 0
    while await store.list_runs(RunFilter(status=frozenset({"queued", "running"}), limit=1)):
        claimed = await store.claim_queue(LIMITED, ["w"], lease(worker), limits=ClaimLimits.all(2), now=NOW)
        rows = await store.list_runs(RunFilter(status=frozenset({"running"})))
        running = max(running, len(rows))
        all_keys = max(all_keys, *(sum(row.key == other.key for row in rows) for other in rows), 0)
        for one in claimed:
            end = Transition("completed")
            await store.commit(Commit(one.run.run_id, one.run.fence, 0, NOW, lease(worker), transition=end))
    report(running=running, of_one_key=all_keys)
    await store.close()


async def deliver(path: str, worker: int, count: str) -> None:
    """Send mail to one run: some that only this process sends, and as much that all of them send."""
    store = SQLiteStore(path, synchronous=SYNC)
    mails = [NewMail("signal", f"{who}-{number}", "n", "{}") for number in range(int(count)) for who in (worker, "all")]
    outcomes = await asyncio.gather(*(store.deliver("run", mail, lease=None, now=NOW) for mail in mails))
    report(accepted=[mail.id for mail, got in zip(mails, outcomes, strict=True) if got.outcome == "accepted"])
    await store.close()


async def load(path: str, worker: int) -> None:
    """Write for ever, and say what has been answered: runs that take steps, and mail that they consume."""
    store = SQLiteStore(path, synchronous=SYNC)
    await asyncio.gather(*(_endless(store, worker, branch) for branch in range(4)))


async def _endless(store: SQLiteStore, worker: int, branch: int) -> None:
    number = 0
    while True:
        await _one_life(store, worker, f"run-{worker}-{branch}-{number}")
        number += 1


async def _one_life(store: SQLiteStore, worker: int, run_id: str) -> None:
    held = lease(worker)
    paused = Transition("paused", waits=(Wait("signal", "s", "n"),))
    ends = (LogRecord(1, "{}"), LogRecord(2, "{}"))
    await store.create_run(NewRun(run_id, "w", None, "{}", NOW), lease=held, now=NOW)
    report(run=run_id, length=0)
    first = Commit(run_id, 1, 0, NOW, held, (LogRecord(0, "{}", "x" * 2000),), transition=paused)
    await store.commit(first)
    report(run=run_id, length=1)
    await store.deliver(run_id, NewMail("signal", "m", "n", "{}"), lease=held, now=NOW)
    report(run=run_id, length=1, mail=1)
    last = Commit(run_id, 2, 1, NOW, held, ends, (1,), 1, None, Transition("completed"))
    await store.commit(last)
    report(run=run_id, length=3, mail=1)


def main(scenario: str, path: str, processes: str, *arguments: str) -> int:
    work: Callable[..., Coroutine[Any, Any, None]] = globals()[scenario]
    gate, opener = os.pipe()
    forked = [_fork(gate, opener, work, path, worker, arguments) for worker in range(int(processes))]
    os.close(opener)  # all are here: begin
    return sum(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 0 for child in forked)


def _fork(gate: int, opener: int, work: Callable[..., Coroutine[Any, Any, None]], *arguments: Any) -> int:
    child = os.fork()
    if child:
        return child
    try:
        os.close(opener)
        os.read(gate, 1)
        path, worker, more = arguments
        asyncio.run(work(path, worker, *more))
        sys.stdout.flush()
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        os._exit(1)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
