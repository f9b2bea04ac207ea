"""`skip_time`: let months of waiting pass in a moment."""

from __future__ import annotations

from collections.abc import Awaitable, Collection
from datetime import datetime, timedelta
from typing import Any, Protocol

from workflow.core.errors import InvalidArgumentError
from workflow.runtime.contract import ExecutionStore

from .clock import TestClock

__all__ = ["SweepingRuntime", "skip_time"]


_PATIENT = 100
"""For how many sweeps in a row the clock goes on by seconds."""


def _a_while(idle: int) -> timedelta:
    """How far to go on where something is due and the limits of its queue have not let it start in so many sweeps."""
    if not idle:
        return timedelta(0)
    return timedelta(seconds=2 ** min(max(idle - _PATIENT, 0), 12))


class SweepingRuntime(Protocol):
    """What `skip_time` needs of a `WorkflowRuntime`."""

    @property
    def store(self) -> ExecutionStore: ...

    @property
    def workflow_ids(self) -> Collection[str]: ...

    def sweep(self) -> Awaitable[Any]: ...


async def skip_time(
    runtime: SweepingRuntime, clock: TestClock, *, until: datetime | timedelta | None = None, max_sweeps: int = 1000
) -> datetime:
    """Sweep, jump the clock to what is due next, and so on, until every run has ended or waits for mail only.

    With `until` (a time, or how long from now) the clock goes no further than that, with everything done that is due by
    then, ticks of schedules included: for what never ends. Without it, no tick is waited for. Gives up with an error
    after `max_sweeps`. Answers the time at which it stopped. `clock` must be the runtime's own clock.
    """
    end = clock.now() + until if isinstance(until, timedelta) else until
    idle = 0
    for _ in range(max_sweeps):
        swept = await runtime.sweep()
        due = await runtime.store.next_due(runtime.workflow_ids)
        if end is not None and (tick := await _next_tick(runtime, clock.now())) is not None:
            due = tick if due is None else min(due, tick)
        if due is None or (end is not None and due > end):
            return clock.set(max(end, clock.now())) if due is not None and end is not None else clock.now()
        idle = idle + 1 if due <= clock.now() and not swept.summary.total else 0
        clock.set(max(due, clock.now() + _a_while(idle)))
    raise InvalidArgumentError(
        f"After {max_sweeps} sweeps there is still something due at {clock.now().isoformat()}. "
        "If a workflow is meant to go on forever, say with `until=` when to stop."
    )


async def _next_tick(runtime: SweepingRuntime, now: datetime) -> datetime | None:
    """When a schedule of these workflows fires next. What should have fired by now, nobody here has registered."""
    if not runtime.store.capabilities.schedules:
        return None
    rows = await runtime.store.read_schedules()
    mine = [row.due_at for row in rows if row.key.workflow_id in runtime.workflow_ids]
    return min((due_at for due_at in mine if due_at is not None and due_at > now), default=None)
