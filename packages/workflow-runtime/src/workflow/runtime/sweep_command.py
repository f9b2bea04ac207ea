"""A process that sweeps until nothing is due or its time is up, and exits: what a cron service starts.

sys.exit(run_sweep_command(runtime, host="railway", max_duration=240))
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable

from pydantic_core import to_json

from workflow.core import DefinitionError, InvalidArgumentError, StoreError

from .answers import SweepAnswer, SweepCounts, SweepDetails
from .hosting import RuntimeLike, RuntimeSource, SweepLimits, is_temporary, lease_owner, sweep_within
from .stopping import Stop

__all__ = ["EXIT_CONFIGURATION", "EXIT_FAILED", "EXIT_OK", "EXIT_TEMPORARY", "run_sweep_command", "sweep_until_done"]

EXIT_OK = 0
"""Everything that is due was done, or is left in good order for the next time."""
EXIT_FAILED = 1
"""Something that nobody foresaw: look at the log."""
EXIT_CONFIGURATION = 2
"""The app, its settings or the schema of its store are wrong: somebody has to change something."""
EXIT_TEMPORARY = 75
"""The store could not be reached: the next time may succeed."""


def run_sweep_command(
    runtime: RuntimeLike,
    *,
    host: str,
    max_duration: float,
    limits: SweepLimits | None = None,
    grace: float = 3.0,
    write: Callable[[str], object] | None = None,
) -> int:
    """Sweep, write one line of JSON, close the connections, and give the exit code.

    SIGTERM and SIGINT end it in good order: runs yield, or are handed back after `grace` seconds.
    """
    tell = write or _write
    owner = lease_owner(host)
    try:
        answer = asyncio.run(_command(RuntimeSource(runtime), owner, max_duration, limits or SweepLimits(), grace))
    except Exception as error:
        tell(_error_line(owner, error))
        return _exit_code(error)
    line = {"level": "info", "message": "sweep", **json.loads(answer.to_json())}
    tell(to_json(line).decode())
    return EXIT_OK


async def _command(
    source: RuntimeSource, owner: str, max_duration: float, limits: SweepLimits, grace: float
) -> SweepAnswer:
    stop = Stop()
    runtime = await source.get()
    try:
        with stop.on_signals():
            work = asyncio.ensure_future(sweep_until_done(source, owner, max_duration, limits, stop.asked))
            asked = asyncio.ensure_future(stop.asked.wait())
            await asyncio.wait({work, asked}, return_when=asyncio.FIRST_COMPLETED)
            asked.cancel()
            if not work.done():
                runtime.wind_down()
                await asyncio.wait({work}, timeout=grace)
                work.cancel()
            return await _outcome(work, owner)
    finally:
        await runtime.close()


async def _outcome(work: asyncio.Future[SweepAnswer], owner: str) -> SweepAnswer:
    await asyncio.wait({work})
    return SweepAnswer.of_interrupted(owner) if work.cancelled() else work.result()


async def sweep_until_done(
    source: RuntimeSource, owner: str, max_duration: float, limits: SweepLimits, stop: asyncio.Event | None = None
) -> SweepAnswer:
    """Sweep again while something may be due, nobody asks to stop, and there is time; what was done, added up."""
    time = asyncio.get_running_loop().time
    end = time() + max_duration
    total: SweepAnswer | None = None
    while True:
        # Nobody kills this process at its end: the margin comes after it, for what does not yield.
        left = end - time() + limits.margin
        answer = await sweep_within(source, owner=owner, remaining=left, limits=limits)
        total = answer if total is None else _sum(total, answer)
        done = not any(_parts(answer.summary))  # what may be left can't be had at this moment: don't spin
        stopped = stop is not None and stop.is_set()
        if done or stopped or answer.deadline_reached or not answer.remaining_may_exist:
            return total


def _parts(counts: SweepCounts) -> list[dict[str, int]]:
    return [counts.recovered, counts.ready, counts.scheduled, counts.timers]


def _sum(first: SweepAnswer, second: SweepAnswer) -> SweepAnswer:
    """Both as one: counts are added, and the end is that of the second."""
    counts = SweepCounts(
        event_count=first.summary.event_count + second.summary.event_count,
        returned_event_count=first.summary.returned_event_count + second.summary.returned_event_count,
    )
    for into, one, other in zip(_parts(counts), _parts(first.summary), _parts(second.summary), strict=True):
        into.update({kind: one.get(kind, 0) + other.get(kind, 0) for kind in sorted({*one, *other})})
    details = None
    if first.result is not None and second.result is not None:
        names = SweepDetails.model_fields
        details = SweepDetails(**{name: getattr(first.result, name) + getattr(second.result, name) for name in names})
    return second.model_copy(update={"summary": counts, "result": details})


def _error_line(owner: str, error: Exception) -> str:
    line = {
        "level": "error",
        "message": f"The sweep failed: {error}",
        "error": type(error).__name__,
        "temporary": is_temporary(error),
        "owner": owner,
    }
    return to_json(line, fallback=str).decode()


def _exit_code(error: Exception) -> int:
    if is_temporary(error):
        return EXIT_TEMPORARY
    wrong = isinstance(error, (DefinitionError, InvalidArgumentError, StoreError))
    return EXIT_CONFIGURATION if wrong else EXIT_FAILED


def _write(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
