"""Stepping the deterministic loop from inside a task of the host's loop."""

from __future__ import annotations

import asyncio
import sys
from asyncio import events, tasks
from collections.abc import Generator
from contextlib import contextmanager

from .loop import DurableLoop
from .task import DurableTask

__all__ = ["as_current", "run_until_idle", "stepping"]


class stepping:  # noqa: N801 - used as a function, in `with`
    """Make `loop` the running one, and put the host's loop and its current task back in the end.

    The current task must be left as well as the running loop swapped: from Python 3.14 on a thread has one current
    task, and tasks of our loop would otherwise fail to start, silently. The hooks keep async generators of the handler
    from ending on the host's loop.
    """

    __slots__ = ("_hooks", "_host", "_loop", "_task")

    def __init__(self, loop: DurableLoop) -> None:
        self._loop = loop

    def __enter__(self) -> None:
        host = self._host = events._get_running_loop()  # type: ignore[attr-defined]
        task = self._task = asyncio.current_task(host) if host is not None else None
        self._hooks = sys.get_asyncgen_hooks()
        if task is not None:
            tasks._leave_task(host, task)  # type: ignore[attr-defined]
        events._set_running_loop(self._loop)
        sys.set_asyncgen_hooks(firstiter=self._loop.adopt_generator, finalizer=None)

    def __exit__(self, *exc: object) -> None:
        sys.set_asyncgen_hooks(*self._hooks)
        events._set_running_loop(self._host)
        if self._task is not None:
            tasks._enter_task(self._host, self._task)  # type: ignore[attr-defined]


@contextmanager
def as_current(loop: DurableLoop, task: DurableTask) -> Generator[None]:
    """While `loop` is stepped by hand, make `task` the current one: timeouts and task groups ask for it."""
    tasks._enter_task(loop, task)  # type: ignore[attr-defined]
    try:
        yield
    finally:
        tasks._leave_task(loop, task)  # type: ignore[attr-defined]


def run_until_idle(loop: DurableLoop) -> None:
    """Run what is ready until nothing is."""
    # As `with stepping(loop)`, without its calls: this is done for each event.
    host = events._get_running_loop()  # type: ignore[attr-defined]
    task = tasks.current_task(host) if host is not None else None
    hooks = sys.get_asyncgen_hooks()
    if task is not None:
        tasks._leave_task(host, task)  # type: ignore[attr-defined]
    events._set_running_loop(loop)
    sys.set_asyncgen_hooks(loop.adopt_generator, None)
    try:
        loop.run_ready()
    finally:
        sys.set_asyncgen_hooks(*hooks)
        events._set_running_loop(host)
        if task is not None:
            tasks._enter_task(host, task)  # type: ignore[attr-defined]
