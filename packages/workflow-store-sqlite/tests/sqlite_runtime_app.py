"""Real processes that run workflows on one file, for the tests: `python sqlite_runtime_app.py MODE PATH ARGS...`.

The modules are imported once; each process is then a fork of this one, made before anything is opened. What steps do
goes to a journal, a file that every process appends to, so that nothing of it is lost with a process.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Awaitable, Callable, Coroutine
from datetime import timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

from workflow.core import Context, create_workflow, current_step
from workflow.runtime import ExecutionStore, RunFilter, WorkflowRuntime
from workflow.runtime.testing import CrashingStore, TestClock, check_invariants
from workflow.store.sqlite import SQLiteStore

SYNC = "NORMAL"  # a dying process takes nothing back that it has written; power cuts are no test here
STORIES = Path(__file__).parents[2] / "workflow-runtime" / "tests" / "runtime_scenarios.py"


def load_stories() -> ModuleType:
    """The stories that the runtime's own tests interrupt in one process."""
    spec = importlib.util.spec_from_file_location("runtime_scenarios", STORIES)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


class Journal:
    """Lines of JSON that survive whoever wrote them."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, *entry: Any) -> None:
        file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(file, (json.dumps(entry) + "\n").encode())
        os.close(file)

    def read(self) -> list[list[Any]]:
        return [json.loads(line) for line in self.path.read_text().splitlines()] if self.path.exists() else []


def fork(main: Callable[[], Coroutine[Any, Any, None]]) -> int:
    child = os.fork()
    if child:
        return child
    try:
        asyncio.run(main())
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        os._exit(1)


def ended(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


# A story, killed at each boundary


class KillingStore(CrashingStore):
    """Kills this process at the `fatal`-th place: inside and after each call, counted through all of them.

    To die before a call is to die after the last one, for all that others can see.
    """

    def __init__(self, store: ExecutionStore, fatal: int) -> None:
        super().__init__(store)
        self.fatal = fatal
        self.places = 0

    async def _call(self, operation: str, act: Callable[[], Awaitable[Any]]) -> Any:
        if self._at():
            # The writing thread is at it by then, or is not, or is done: each must be survived.
            asyncio.get_running_loop().call_later(random.choice([0, 0, 0.0002, 0.001]), kill)
        answer = await act()
        if self._at():
            kill()
        return answer

    def _at(self) -> bool:
        self.places += 1
        return self.places == self.fatal


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class Performance:
    """One run of a story: a process plays it and dies, another one finishes it."""

    def __init__(self, stories: ModuleType, path: Path, name: str, fatal: int) -> None:
        self.stories = stories
        self.path = path
        self.story: Any = stories.STORIES[name]
        self.fatal = fatal
        self.run_id = f"{name}-{fatal}"
        self.journal = Journal(path.with_name(f"{self.run_id}.journal"))
        self.acts = Journal(path.with_name(f"{self.run_id}.acts"))

    def stage(self, store: ExecutionStore, clock: TestClock) -> Any:
        workflow = self.story.make(self.journal.write)
        runtime = WorkflowRuntime(store, [workflow], clock=clock, telemetry=False)
        return self.stories.Stage(runtime, clock, self.run_id, self.story)

    async def play(self) -> None:
        stage = self.stage(KillingStore(SQLiteStore(self.path, synchronous=SYNC), self.fatal), TestClock())
        for number, act in enumerate(self.story.acts):
            self.acts.write(number, (stage.clock.now() - self.stories.START).total_seconds())
            await act(stage)
        await stage.runtime.close()

    async def finish(self) -> None:
        stories = self.stories
        number, seconds = self.acts.read()[-1]
        store = SQLiteStore(self.path, synchronous=SYNC)
        # The clock of the dead may have gone on within the act in which they died.
        stage = self.stage(store, TestClock(stories.START + timedelta(seconds=seconds) + stories.HOUR / 2))
        done, so_far = await self._settled(stage), len(self.journal.read())
        await stories.finish(stage, self.story.acts[number:], store)
        executed = [(step_id, attempt) for _, step_id, attempt, _ in self.journal.read()]
        assert not done & set(executed[so_far:]), "ran again though its end was in the log"
        assert all([step for step, _ in executed].count(once) <= 1 for once in self.story.once), executed
        await stories.check_end(stage.runtime, self.story, self.run_id)
        await check_invariants(store)
        await store.purge(stage.clock.now() + stories.HOUR)
        await store.close()

    async def _settled(self, stage: Any) -> set[Any]:
        exists = await stage.runtime.get_run(self.run_id) is not None
        return self.stories.settled(await stage.runtime.get_timeline(self.run_id)) if exists else set()


def crash(path: Path, *names: str) -> None:
    """Kill each story at each place, one after the other, and print at how many."""
    stories = load_stories()
    for name in names:
        fatal = 1
        while (code := ended(fork((show := Performance(stories, path, name, fatal)).play))) == -signal.SIGKILL:
            assert ended(fork(show.finish)) == 0, f"{name} was not survived at place {fatal}"
            fatal += 1
        assert code == 0, f"{name} failed without being killed (place {fatal})"
        print(json.dumps({"story": name, "deaths": fatal - 1}), flush=True)


# Many drivers


def shared_workflow(journal: Journal) -> Any:
    async def work(value: str) -> str:
        step = current_step()
        journal.write(step.run_id, step.step_id, step.attempt, os.getpid())
        await asyncio.sleep(0.001)
        return value

    @create_workflow(id="shared")
    async def shared(ctx: Context[str]) -> str:
        await ctx.step("first", work, ctx.input)
        async with asyncio.TaskGroup() as group:
            side = group.create_task(ctx.step("side", work, "-"))
            signal = await ctx.wait_for_event("go", str)
        return await ctx.step("last", work, ctx.input + side.result() + signal)

    return shared


def make_runtime(path: Path, lease: float) -> WorkflowRuntime:
    workflow = shared_workflow(Journal(path.with_name("journal")))
    return WorkflowRuntime(SQLiteStore(path, synchronous=SYNC), [workflow], lease=lease, concurrency=4, telemetry=False)


async def one_driver(path: Path, lease: float, seed: int, runs: int) -> None:
    """Start all runs (only the first one to come does), signal a part of them, and sweep until all have ended."""
    dice = random.Random(seed)
    async with make_runtime(path, lease) as runtime:
        numbers = list(range(runs))
        dice.shuffle(numbers)
        unfinished = RunFilter(status=frozenset({"queued", "running", "paused"}), limit=1)
        while numbers or await runtime.store.list_runs(unfinished):
            mine, numbers = numbers[:5], numbers[5:]
            for number in mine:
                await visit(runtime, number, dice)
            await runtime.sweep(max_ready=8)
            await asyncio.sleep(0.002)


async def visit(runtime: WorkflowRuntime, number: int, dice: random.Random) -> None:
    """Do to a run what every driver does to it: start it, and send it the one signal that it waits for."""
    run_id, drive = f"run-{number}", dice.random() < 0.5
    deliver = runtime.deliver_signal
    await runtime.start_run("shared", run_id=run_id, input=str(number), drive=drive)
    await deliver(run_id=run_id, signal_id=f"go-{number}", name="go", payload="go", drive=not drive)


def drivers(path: Path, processes: str, each: str, runs: str, victims: str = "0") -> None:
    """So many processes of so many drivers each, on one file; the first `victims` are killed on the way."""
    doomed = int(victims)
    lease = 1.0 if doomed else 30.0

    async def process(number: int) -> None:
        seeds = [number * 100 + driver for driver in range(int(each))]
        await asyncio.gather(*(one_driver(path, lease, seed, int(runs)) for seed in seeds))

    children = [fork(lambda number=number: process(number)) for number in range(int(processes))]
    journal = Journal(path.with_name("journal"))
    for victim in range(doomed):
        while len(journal.read()) < int(runs) * (victim + 1) // (doomed + 1):
            time.sleep(0.001)
        os.kill(children[victim], signal.SIGKILL)
    codes = [ended(child) for child in children]
    assert codes == [-signal.SIGKILL] * doomed + [0] * (int(processes) - doomed), codes


if __name__ == "__main__":
    globals()[sys.argv[1]](Path(sys.argv[2]), *sys.argv[3:])
