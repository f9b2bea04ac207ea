"""`scheduled()`: a Cron Trigger sweeps once."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from workflow.core.arguments import Duration
from workflow.runtime.answers import SweepAnswer
from workflow.runtime.hosting import RuntimeSource, SweepLimits, lease_owner, sweep_within

from .invocation import PAID_PLAN, MakeRuntime, checked_queries, runtime_factory

__all__ = ["ScheduledHandler", "create_scheduled_handler"]

logger = logging.getLogger("workflow.cloudflare")

ScheduledHandler = Callable[[Any, Any, Any], Awaitable[SweepAnswer]]

_DURATION = 50.0
"""Seconds. A trigger can fire every minute: so sweeps don't pile up."""


def create_scheduled_handler(
    runtime: MakeRuntime,
    *,
    limits: SweepLimits | None = None,
    max_duration: Duration | None = None,
    include_sweep_result: bool = False,
    queries: int | None = PAID_PLAN,
) -> ScheduledHandler:
    """A handler for `scheduled(controller, env, ctx)`: it sweeps once, and answers what was done.

    - `runtime(env)` makes the runtime of an invocation, sync or async.
    - `limits`: the bounds of the sweep; 50 seconds unless they say otherwise. `max_duration` (seconds or a timedelta)
      and `include_sweep_result` (answer with the result of every run, for debugging) can be given by themselves.
    - `queries`: how many D1 queries an invocation may make. The sweep ends before they are used up, drives yield, and
      the next trigger goes on. None: they are not counted.

    It raises where the store can't be reached or its schema is not there, so that the platform shows a failed
    invocation. What goes wrong with one run is that run's result.
    """
    checked_queries(queries)
    bounds = SweepLimits.of(limits, max_duration=max_duration, include_sweep_result=include_sweep_result)
    if bounds.max_duration is None:
        bounds = replace(bounds, max_duration=_DURATION)

    async def scheduled(controller: Any, env: Any, ctx: Any) -> SweepAnswer:
        source = RuntimeSource(runtime_factory(runtime, env, queries))
        try:
            answer = await sweep_within(source, owner=lease_owner("cloudflare"), limits=bounds)
        finally:
            await source.close()
        logger.info("Swept for the trigger %r: %s", _cron(controller), answer.to_json())
        return answer

    return scheduled


def _cron(controller: Any) -> str:
    """The trigger's expression, for the log; a test may pass no controller."""
    return str(getattr(controller, "cron", ""))
