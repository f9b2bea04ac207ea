"""What is done to each system, in a process of its own. Each measure answers plain numbers."""

from __future__ import annotations

import resource
import statistics
import time
from collections.abc import Awaitable, Callable, Coroutine
from itertools import pairwise
from typing import Any

from bench.database import Counters, counters
from bench.sizes import Sizes
from bench.system import System

from workflow.runtime.cli.collecting import relax_garbage_collection

__all__ = ["MEASURES", "step_cost"]

Numbers = dict[str, Any]
WARM = 0.5
STEPS = 5
_PROBE = 40
_EDGE = 50


async def speed(system: System, sizes: Sizes) -> Numbers:
    """One at a time, many at once, with the CPU of this process and the most memory it ever had."""
    await _open(system)
    before = _peak_mb()
    await _warm_up(system)
    single = {str(steps): await _latency(system, steps, sizes.single) for steps in sizes.lengths}
    at_once = {str(count): await _throughput(system, count) for count in sizes.at_once}
    await system.close()
    return {"single_ms": single, "at_once": at_once, "memory_mb": {"opened": before, "peak": _peak_mb()}}


async def _open(system: System) -> None:
    """Open it, in a process that is a worker and nothing else: the same for each system (see docs/worker.md)."""
    await system.open()
    relax_garbage_collection()


async def _warm_up(system: System) -> None:
    """For so many seconds: statements are prepared, the server's processes have their caches."""
    until = time.perf_counter() + WARM
    while time.perf_counter() < until:
        await system.run(STEPS)


async def _latency(system: System, steps: int, runs: int) -> float:
    times: list[float] = []
    for _ in range(runs):
        began = time.perf_counter()
        await system.run(steps)
        times.append(time.perf_counter() - began)
    return statistics.median(times) * 1e3


async def _throughput(system: System, count: int) -> Numbers:
    began, cpu = time.perf_counter(), time.process_time()
    await system.run_all(count, STEPS)
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    return {"per_second": count / seconds, "cpu_ms": cpu / count * 1e3}


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


async def counts(system: System, sizes: Sizes) -> Numbers:
    """Statements and transactions a run. What opening and closing alone cost is taken off."""

    async def single() -> None:
        for _ in range(sizes.counted):
            await system.run(STEPS)

    async def many() -> None:
        await system.run_all(sizes.counted_at_once, STEPS)

    async def nothing() -> None:
        return

    await _counted(system, single)  # the tables, and what is only done once
    idle = await _counted(system, nothing)
    return {
        "single": _each(await _counted(system, single) - idle, sizes.counted),
        "at_once_counts": _each(await _counted(system, many) - idle, sizes.counted_at_once),
    }


async def _counted(system: System, work: Callable[[], Awaitable[None]]) -> Counters:
    before = await counters(system.target)
    await system.open()
    await work()
    await system.close()
    return await counters(system.target) - before


def _each(total: Counters, runs: int) -> Numbers:
    return {"statements": total.statements / runs, "transactions": total.transactions / runs}


async def sleepers(system: System, sizes: Sizes) -> Numbers:
    """From the moment when all of them are due until the last one has ended, the worker having waited for it."""
    await _open(system)
    began = time.perf_counter()
    probe = min(_PROBE, sizes.sleepers)
    await system.park(probe, time.time() + 3600)
    each = (time.perf_counter() - began) / probe
    for margin in (1.5, 3.0, 6.0):
        due = time.time() + 1 + margin * each * sizes.sleepers
        await system.park(sizes.sleepers, due)
        if (late := time.time() > due) is False:
            break
        await system.awake(sizes.sleepers)
    cpu = time.process_time()
    await system.awake(sizes.sleepers)
    seconds = time.time() - due
    cpu = time.process_time() - cpu
    await system.close()
    if late:
        raise RuntimeError("The sleepers could not be parked before they were due.")
    return {"per_second": sizes.sleepers / seconds, "cpu_ms": cpu / sizes.sleepers * 1e3}


async def long_runs(system: System, sizes: Sizes) -> Numbers:
    """What a step costs early and late in a long run, and going on after so many steps."""
    await _open(system)
    resumes: dict[str, float] = {}
    steps: Numbers = {}
    for length in sizes.histories:
        steps = step_cost(await system.prepare(length))
        resumes[str(length)] = await _resumes(system, sizes)
    await system.close()
    return {"resume_ms": resumes, "step_ms": steps}


async def _resumes(system: System, sizes: Sizes) -> float:
    times: list[float] = []
    while len(times) < sizes.resumes and sum(times) < sizes.patience:
        await system.before_resume()
        began = time.perf_counter()
        told = await system.resume()
        times.append(time.perf_counter() - began if told is None else told)
    return statistics.median(times) * 1e3


def step_cost(marks: list[float]) -> dict[str, float]:
    """Milliseconds from step to step: near the 10th, and at the end of the run."""
    gaps = [(later - earlier) * 1e3 for earlier, later in pairwise(marks)]
    edge = min(_EDGE, len(gaps) // 3)
    return {"early": statistics.median(gaps[5 : 5 + edge]), "late": statistics.median(gaps[-edge:])}


MEASURES: dict[str, Callable[[System, Sizes], Coroutine[Any, Any, Numbers]]] = {
    "speed": speed,
    "counts": counts,
    "sleepers": sleepers,
    "long_runs": long_runs,
}
