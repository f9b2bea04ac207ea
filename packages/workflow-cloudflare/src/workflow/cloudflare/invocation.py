"""One invocation of a Worker: a runtime of its own, within what the platform allows it.

A Worker's process serves many invocations, but their I/O must not mix: a timer or a query that was begun by one dies
with it. So each has its own runtime. That costs little (there is no connection to open), and its store counts just
this invocation's queries.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, runtime_checkable

from workflow.core import InvalidArgumentError
from workflow.runtime import WorkflowRuntime

__all__ = ["FREE_PLAN", "PAID_PLAN", "MakeRuntime", "checked_queries", "runtime_factory"]

logger = logging.getLogger("workflow.cloudflare")

MakeRuntime = Callable[[Any], WorkflowRuntime | Awaitable[WorkflowRuntime]]
"""Makes the runtime of one invocation from the Worker's `env`."""

PAID_PLAN = 1000
"""How many D1 queries an invocation may make, with Workers Paid."""
FREE_PLAN = 50
"""The same with Workers Free."""

_RESERVE = 5
"""One of so many queries is kept for the end: for what is under way to be committed and released."""


@runtime_checkable
class _Metered(Protocol):
    """What counts the queries of a store: `workflow.store.d1.Usage`. Hosts and stores don't know each other."""

    def watch(self, queries: int, act: Callable[[], None]) -> None: ...


def checked_queries(queries: int | None) -> int | None:
    if queries is not None and queries < _RESERVE:
        raise InvalidArgumentError(f"queries must be at least {_RESERVE}, not {queries}.")
    return queries


def runtime_factory(make: MakeRuntime, env: Any, queries: int | None) -> Callable[[], Awaitable[WorkflowRuntime]]:
    """A factory for `RuntimeSource`, whose runtime winds down before this invocation's queries are used up."""

    async def for_this_invocation() -> WorkflowRuntime:
        made = make(env)
        runtime = await made if inspect.isawaitable(made) else made
        if queries is not None and isinstance(runtime, WorkflowRuntime):  # pyright: ignore[reportUnnecessaryIsInstance]
            _limit(runtime, queries)
        return runtime

    return for_this_invocation


def _limit(runtime: WorkflowRuntime, queries: int) -> None:
    store: Any = runtime.store
    usage = getattr(getattr(store, "inner", store), "usage", None)  # of a store behind a codec too
    if not isinstance(usage, _Metered):
        return

    def wind_down() -> None:
        logger.info("This invocation has used most of its %d queries: it begins nothing more.", queries)
        runtime.wind_down()

    usage.watch(queries - max(1, queries // _RESERVE), wind_down)
