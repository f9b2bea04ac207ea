"""What the host adapters share: where the runtime comes from, and one sweep within what a host has left.

source = RuntimeSource(runtime_or_factory)
answer = await sweep_within(source, owner=lease_owner("lambda", request_id), remaining=55.0)
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import logging
import os
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any, cast
from uuid import uuid4

from workflow.core import DefinitionError, InvalidArgumentError, WorkflowError
from workflow.core.arguments import Duration, seconds

from .answers import SweepAnswer
from .results import SweepResult
from .runtime import WorkflowRuntime
from .spans import count

__all__ = [
    "RuntimeLike",
    "RuntimeSource",
    "SweepLimits",
    "allowance",
    "import_runtime",
    "is_temporary",
    "lease_owner",
    "sweep_within",
]

logger = logging.getLogger("workflow.hosting")

RuntimeLike = WorkflowRuntime | Callable[[], WorkflowRuntime | Awaitable[WorkflowRuntime]]
"""A runtime, or a function (sync or async) that makes it when it is first needed."""

DEFAULT_DURATION = 50.0
"""For how long a sweep goes on, in seconds, where the host does not say what it has left."""

_MAX_OWNER = 200
_UNFIT = re.compile(r"[^\x21-\x7e]+")
# What drivers of databases call an error that goes away by itself. Their classes are no dependencies of ours.
_TEMPORARY = {"OperationalError", "InterfaceError", "PoolTimeout", "TooManyConnectionsError", "CannotConnectNowError"}


class RuntimeSource:
    """The runtime of a host: an instance, or made once by a factory when it is first needed.

    A factory that fails is called again the next time. Whoever waits for it at the same time gets the same runtime.
    """

    def __init__(self, runtime: RuntimeLike) -> None:
        self._runtime = runtime if isinstance(runtime, WorkflowRuntime) else None
        self._factory = runtime if callable(runtime) else None
        self._making: asyncio.Task[WorkflowRuntime] | None = None
        if self._runtime is None and self._factory is None:
            raise DefinitionError(
                f"A host needs a WorkflowRuntime, or a function that makes one, not {type(runtime).__name__}."
            )

    async def get(self) -> WorkflowRuntime:
        """The runtime. Raises what its factory raises."""
        if self._runtime is not None:
            return self._runtime
        loop = asyncio.get_running_loop()
        # A task of a loop that is gone will never end: this loop makes its own.
        if self._making is None or self._making.get_loop() is not loop or self._failed(self._making):
            self._making = loop.create_task(self._make(), name="workflow runtime")
        # A caller that gives up must not take the others' runtime away.
        return await asyncio.shield(self._making)

    async def close(self) -> None:
        """Close the runtime if it was made here; one that was given belongs to whoever made it."""
        if self._factory is not None and self._runtime is not None:
            runtime, self._runtime, self._making = self._runtime, None, None
            await runtime.close()

    async def _make(self) -> WorkflowRuntime:
        assert self._factory is not None
        made = self._factory()
        runtime = await made if inspect.isawaitable(made) else made
        if not isinstance(runtime, WorkflowRuntime):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise DefinitionError(f"The factory of the runtime returned {runtime!r}, and not a WorkflowRuntime.")
        self._runtime = runtime
        return runtime

    @staticmethod
    def _failed(task: asyncio.Task[WorkflowRuntime]) -> bool:
        return task.done() and (task.cancelled() or task.exception() is not None)


def import_runtime(path: str) -> RuntimeLike:
    """What "package.module:name" names: a runtime, or a factory of one. Raises `DefinitionError` if it can't be had."""
    module, _, name = path.partition(":")
    if not module or not name:
        raise DefinitionError(f"{path!r} is no path of a runtime: write it as 'package.module:name'.")
    try:
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise DefinitionError(f"The runtime can't be imported from {path!r}: {error}") from error
    if not isinstance(found, WorkflowRuntime) and not callable(found):
        raise DefinitionError(f"{path!r} is neither a WorkflowRuntime nor a function that makes one, but {found!r}.")
    return cast(RuntimeLike, found)


def lease_owner(host: str, invocation: str | None = None) -> str:
    """The name under which an invocation holds its leases: the host, and which invocation of it, for people to find.

    Without an invocation's id of the host's own, it is the process and a random one.
    """
    parts = [host, invocation or f"{os.getpid()}:{uuid4().hex[:12]}"]
    return _UNFIT.sub("_", ":".join(parts))[:_MAX_OWNER]


@dataclass(frozen=True, slots=True)
class SweepLimits:
    """The bounds of a sweep.

    - `max_duration`: seconds. None: what the host has left, less the margin.
    - `margin`: how many seconds before the host's end the sweep is over, for the answer.
    - `include_sweep_result`: answer with the result of every run as well, for debugging.
    """

    max_scheduled_runs: int = 25
    max_timers: int = 25
    max_ready: int = 100
    max_recovered: int = 100
    max_duration: float | None = None
    margin: float = 2.0
    include_sweep_result: bool = False

    def __post_init__(self) -> None:
        for name in ("max_scheduled_runs", "max_timers", "max_ready", "max_recovered"):
            count(getattr(self, name), name)
        object.__setattr__(self, "margin", seconds(self.margin, "margin"))
        if self.max_duration is not None:
            object.__setattr__(self, "max_duration", seconds(self.max_duration, "max_duration"))
            if not self.max_duration:
                raise InvalidArgumentError("max_duration must be more than 0 seconds.")

    @classmethod
    def of(
        cls, limits: SweepLimits | None, *, max_duration: Duration | None = None, include_sweep_result: bool = False
    ) -> SweepLimits:
        """`limits`, or the usual ones, with the two that are most often asked for by themselves."""
        limits = limits or cls()
        if max_duration is not None:
            limits = replace(limits, max_duration=seconds(max_duration, "max_duration"))
        return replace(limits, include_sweep_result=True) if include_sweep_result else limits

    async def sweep(self, runtime: WorkflowRuntime, *, owner: str, max_duration: float) -> SweepResult:
        """One sweep within these bounds."""
        return await runtime.sweep(
            max_scheduled_runs=self.max_scheduled_runs,
            max_timers=self.max_timers,
            max_ready=self.max_ready,
            max_recovered=self.max_recovered,
            max_duration=max_duration,
            include_events=False,
            owner=owner,
        )


def allowance(max_duration: float | None, remaining: float | None, margin: float) -> float:
    """For how many seconds to work: what was asked for, but never more than the host has left less the margin."""
    if remaining is None:
        return DEFAULT_DURATION if max_duration is None else max_duration
    left = max(0.0, remaining - margin)
    return left if max_duration is None else min(max_duration, left)


async def sweep_within(
    source: RuntimeSource,
    *,
    owner: str,
    remaining: float | None = None,
    limits: SweepLimits | None = None,
) -> SweepAnswer:
    """Sweep once within the limits and what the host has left (seconds), and say what was done.

    Runs yield at the end of the budget. What goes on all the same is cancelled half a margin before the host's end:
    better than a killed process, whose runs others take over only when their leases have run out.
    """
    limits = limits or SweepLimits()
    time = asyncio.get_running_loop().time
    started = time()
    runtime = await source.get()
    spent = time() - started
    left = None if remaining is None else max(0.0, remaining - spent)
    duration = allowance(limits.max_duration, left, limits.margin)
    hard = asyncio.timeout(None if left is None else max(0.0, left - limits.margin / 2))
    try:
        async with hard:
            result = await limits.sweep(runtime, owner=owner, max_duration=duration)
    except TimeoutError:
        if not hard.expired():
            raise  # the store's
        logger.warning(
            "The sweep of %s did not end within the host's time, and was cancelled: the store is slow, or a workflow "
            "blocks. What it was driving was handed back, and goes on with the next sweep.",
            owner,
        )
        return SweepAnswer.of_interrupted(owner)
    return SweepAnswer.of(result, owner=owner, include_sweep_result=limits.include_sweep_result)


def is_temporary(error: BaseException) -> bool:
    """Whether the same call may well succeed later without anybody doing anything: so whether a retry helps."""
    if isinstance(error, (OSError, TimeoutError)):
        return True
    if isinstance(error, WorkflowError):
        return False
    names = {base.__name__ for base in type(error).__mro__}
    return bool(names & _TEMPORARY)
