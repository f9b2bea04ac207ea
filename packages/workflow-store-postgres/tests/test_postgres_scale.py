"""Four worker processes, thousands of runs, and everything dies in turn. Nothing is lost, and nothing is doubled.

WORKFLOW_TEST_SCALE_RUNS says how many runs (2,000).
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from workflow.core.errors import LeaseLostError
from workflow.core.records import ClaimedRun, Lease
from workflow.runtime import WorkflowRuntime
from workflow.runtime.testing.invariants import check_invariants
from workflow.runtime.testing.suite.samples import commit, end
from workflow.store.postgres import StoreUnavailableError
from workflow.store.postgres.testing import EmbeddedServer

from .postgres_scale_app import NARROW, TABLES, runtime_on

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

RUNS = int(os.environ.get("WORKFLOW_TEST_SCALE_RUNS", "2000"))
WORKERS = 4
GONE = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError)


class Workers:
    """Processes that serve, each replaced at once when it is killed."""

    def __init__(self, url: str) -> None:
        self._command = [sys.executable, str(Path(__file__).with_name("postgres_scale_app.py")), url]
        self._processes = [self._start() for _ in range(WORKERS)]

    def _start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(self._command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)

    def kill(self, number: int) -> None:
        process = self._processes[number % WORKERS]
        assert process.poll() is None, process.communicate()[1].decode()
        process.kill()
        process.communicate()
        self._processes[number % WORKERS] = self._start()

    def end(self) -> None:
        """Tell all to stop, and see that they do so in good order, or die of it where they are only just starting."""
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            _, errors = process.communicate(timeout=30)
            assert process.returncode in (0, -signal.SIGTERM), errors.decode()

    def abandon(self) -> None:
        for process in self._processes:
            process.kill()
            process.communicate()


class Scene:
    """The server, the workers, and what the test knows of both."""

    def __init__(self, server: EmbeddedServer, runtime: WorkflowRuntime, workers: Workers) -> None:
        self.server = server
        self.runtime = runtime
        self.workers = workers
        self.random = random.Random(5)
        self.done: list[str] = []
        self.most_narrow = 0
        self._links: list[Any] = []

    async def asked(self, sql: str, *args: Any) -> Any:
        """An answer of the database, which may be away for a while."""
        while True:
            try:
                return await self._ask(sql, *args)
            except GONE:
                await asyncio.sleep(0.05)

    async def _ask(self, sql: str, *args: Any) -> Any:
        url = self.server.url.replace("+asyncpg", "")
        link = self._links.pop() if self._links else await asyncpg.connect(url, timeout=10)
        try:
            answer = await link.fetch(sql, *args)
        except BaseException:
            link.terminate()
            raise
        self._links.append(link)
        return answer

    async def leave(self) -> None:
        while self._links:
            await self._links.pop().close()

    # -- What happens to the system

    async def kill_a_worker(self) -> None:
        self.workers.kill(self.random.randrange(WORKERS))

    async def kill_all_workers(self) -> None:
        for number in range(WORKERS):
            self.workers.kill(number)

    async def terminate_backends(self) -> None:
        await self.asked(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() AND random() < 0.5"
        )

    async def kill_a_backend(self) -> None:
        """As the kernel does when there is no memory: the server ends all others, and recovers."""
        found = await self.asked(
            "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
        )
        if found:
            os.kill(self.random.choice(found)[0], signal.SIGKILL)

    async def crash_the_server(self) -> None:
        await asyncio.to_thread(self.server.stop, signal.SIGQUIT)
        await asyncio.to_thread(self.server.start)

    async def catastrophes(self) -> None:
        """One after another, as the work goes on: each when some more of the runs have ended."""
        plan: list[Callable[[], Awaitable[None]]] = [
            self.kill_a_worker, self.terminate_backends, self.kill_a_backend, self.kill_a_worker, self.crash_the_server,
            self.kill_a_worker, self.terminate_backends, self.kill_all_workers, self.kill_a_worker,
            self.crash_the_server, self.kill_a_backend, self.kill_a_worker,
        ]  # fmt: skip
        for number, happens in enumerate(plan, 1):
            await self.until_ended(RUNS * number // (len(plan) + 1))
            await happens()
            self.done.append(happens.__name__)

    async def until_ended(self, wanted: int) -> None:
        while True:
            (row,) = await self.asked("SELECT count(*) FROM workflow_runs WHERE completed_at IS NOT NULL")
            if row[0] >= wanted:
                return
            await asyncio.sleep(0.05)

    async def watch(self) -> None:
        """The limited queue, as a bystander sees it."""
        sql = "SELECT count(*) FROM workflow_runs WHERE queue = $1 AND status = 'running'"
        while True:
            (row,) = await self.asked(sql, NARROW.name)
            self.most_narrow = max(self.most_narrow, row[0])
            await asyncio.sleep(0.02)

    # -- What the app does

    async def start_all(self) -> None:
        await self._each(self._start, list(range(RUNS)))

    async def signal_all(self) -> None:
        """Each run gets its signal, some of them twice, and in no order: before the run asks for it, or long after."""
        numbers = [*range(RUNS), *range(0, RUNS, 3)]
        self.random.shuffle(numbers)
        await self._each(self._signal, numbers)

    async def _start(self, number: int) -> None:
        queue = NARROW.name if number % 5 == 0 else None
        await self.runtime.start_run("journey", run_id=f"r{number}", input=number, queue=queue, drive=False)

    async def _signal(self, number: int) -> None:
        kind = (
            await self.runtime.deliver_signal(
                run_id=f"r{number}", signal_id="go", name="go", payload=number, drive=False
            )
        ).kind
        assert kind not in ("not_found", "errored")

    async def _each(self, act: Callable[[int], Awaitable[None]], numbers: list[int]) -> None:
        places = asyncio.Semaphore(40)

        async def one(number: int) -> None:
            async with places:
                while True:
                    try:
                        return await act(number)
                    except StoreUnavailableError:
                        await asyncio.sleep(0.1)

        await asyncio.gather(*(one(number) for number in numbers))

    async def haunt(self) -> list[ClaimedRun]:
        """Claims of a process that then freezes: others take the runs when its leases have run out."""
        store = self.runtime.store
        zombies: list[ClaimedRun] = []
        for number in range(0, RUNS, max(RUNS // 15, 1)):
            now = self.runtime.clock.now()
            owned = Lease("zombie", now)
            claimed = await store.claim_run(f"r{number}", owned, now=now, force=True)
            zombies += [] if claimed is None else [claimed]
        return zombies


def test_nothing_is_lost_and_nothing_is_done_twice():
    """2,000 runs with steps, timers, signals, timeouts and bookings, under kills of everything, end as they should."""
    with EmbeddedServer(max_connections="100") as server:
        asyncio.run(_live_through_it(server))


async def _live_through_it(server: EmbeddedServer) -> None:
    async with runtime_on(server.url, connections=8) as runtime:
        await runtime.migrate()
        async with runtime.store.engine.begin() as connection:
            for statement in TABLES.strip().split(";")[:-1]:
                await connection.exec_driver_sql(statement)
        workers = Workers(server.url)
        try:
            scene = Scene(server, runtime, workers)
            async with asyncio.timeout(240):
                watching = asyncio.create_task(scene.watch())
                started = asyncio.create_task(scene.start_all())
                happening = asyncio.create_task(scene.catastrophes())
                await started
                zombies = await scene.haunt()
                await scene.signal_all()
                await happening
                await scene.until_ended(RUNS)
                watching.cancel()
            workers.end()
        except BaseException:
            workers.abandon()
            raise
        try:
            await _check(scene, zombies)
        finally:
            await scene.leave()


async def _check(scene: Scene, zombies: list[ClaimedRun]) -> None:
    assert len(scene.done) == 12
    assert 0 < scene.most_narrow <= (NARROW.concurrency or 0)
    statuses = await scene.asked("SELECT status, count(*) FROM workflow_runs GROUP BY status")
    assert [tuple(row) for row in statuses] == [("completed", RUNS)]
    await _check_side_effects(scene)
    before = await scene.asked("SELECT * FROM workflow_runs ORDER BY run_id")
    assert zombies
    for zombie in zombies:
        with pytest.raises(LeaseLostError):
            await scene.runtime.store.commit(commit(zombie, 3, end()))
    assert await scene.asked("SELECT * FROM workflow_runs ORDER BY run_id") == before
    await check_invariants(scene.runtime.store)


async def _check_side_effects(scene: Scene) -> None:
    """What was committed against what was executed."""
    # Each step has one result in the log of its run, and each signal was taken in once.
    results = await scene.asked(
        """SELECT l.run_id, e.step_id, l.payload::bigint FROM workflow_log l,
            LATERAL (SELECT l.event::json ->> 'id' AS step_id, l.event::json ->> 'type' AS type) e
        WHERE e.type = 'STEP_FINISHED'"""
    )
    committed = {(run_id, step): n for run_id, step, n in results}
    assert len(results) == len(committed) == 3 * RUNS
    resolved = """SELECT count(*), count(DISTINCT run_id) FROM workflow_log
        WHERE event::json ->> 'type' = 'SIGNAL_RESOLVED' AND payload IS NOT NULL AND event::json ->> 'name' = 'go'"""
    (signals,) = await scene.asked(resolved)
    assert tuple(signals) == (RUNS, RUNS)
    # A result is that of an execution of this step of this run; the run's output is made of these very results.
    executions = await scene.asked("SELECT n, run_id, step FROM executions")
    made = {(run_id, step, n) for n, run_id, step in executions}
    steps = {(run_id, step, n) for (run_id, step), n in committed.items() if step != "book"}
    assert steps <= made
    outputs = await scene.asked(
        "SELECT run_id, output::json ->> 0, output::json ->> 1, output::json ->> 2 FROM workflow_runs"
    )
    for run_id, first, second, booked in outputs:
        assert (int(first), int(second)) == (committed[run_id, "first"], committed[run_id, "second"])
        assert run_id == f"r{booked}"
    # What a transaction wrote is there once for each run, although every process that wrote it may have died.
    ledger = await scene.asked("SELECT run_id, amount FROM ledger ORDER BY amount")
    assert [tuple(row) for row in ledger] == [(f"r{number}", number) for number in range(RUNS)]
    # Beyond that, only what was under way when something died was done again: four workers with 24 runs each.
    again = len(executions) - len(steps)
    assert again <= len(scene.done) * WORKERS * 24 // 2
    later = [(run_id, step) for n, run_id, step in executions if n > committed[run_id, step]]
    assert len(later) <= again
    print(f"\n{RUNS} runs; {again} executions again, {len(later)} of them after the one that counts")
