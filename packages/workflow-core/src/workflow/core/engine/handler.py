"""The handler as a task of the deterministic loop: starting it, running it, and tearing it down."""

from __future__ import annotations

import contextvars
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from typing import Any

from ..loop import DurableTask, run_until_idle, stepping
from .session import Session
from .suspension import Suspension

__all__ = ["HandlerTask"]

logger = logging.getLogger("workflow.core")

_PATIENCE = 100
_undying: list[Any] = []
"""Coroutines that can't be ended, because they catch everything and wait again. Kept, so that the garbage collector
doesn't try it once more."""


class HandlerTask:
    """The main task of a run, with a fresh context of its own: nothing of the host's leaks in."""

    def __init__(self, session: Session, handler: Callable[[Any], Awaitable[Any]], ctx: Any) -> None:
        self._session = session
        self._loop = session.loop
        with stepping(self._loop):
            context = contextvars.Context()
            coroutine: Coroutine[Any, Any, Any] = context.run(handler, ctx)  # type: ignore[assignment]
            self.main: DurableTask = self._loop.create_task(coroutine, name=f"run {session.run.run_id}", context=context)
        session.main = self.main

    @property
    def done(self) -> bool:
        return self.main.done()

    def run(self) -> None:
        run_until_idle(self._loop)

    def result(self) -> Any:
        """What the handler returned; raises what it raised."""
        return self.main.result()

    def tear_down(self) -> None:
        """End every task and async generator where it stands, without telling user code that anything failed.

        What is still running when the handler has ended, or when the run pauses, gets a `Suspension`: not an exception
        that `except Exception` sees. Nothing it does any more counts: primitives called now never come back.
        """
        self._session.closing = True
        with stepping(self._loop):
            self._loop.drop_ready()
            for task in reversed(self._loop.tasks):
                if not task.done():
                    _end_task(task)
            for generator in self._loop.generators:
                if generator.ag_frame is not None:
                    _end_coroutine(_closing(generator))
            self._loop.drop_ready()
        self._report_unseen()
        self._loop.tasks.clear()
        self._loop.generators.clear()

    def _report_unseen(self) -> None:
        """Log the errors of branches that nobody awaited, once the run has ended; forget them when it only pauses."""
        ended = self.main.done()
        for task in self._loop.tasks:
            if task is self.main or not task.done() or not getattr(task, "_log_traceback", False):
                continue
            error = None if task.cancelled() else task.exception()
            if ended and error is not None:
                logger.error(
                    "Branch %r of run %r failed, and its error was never looked at.",
                    task.get_name(),
                    self._session.run.run_id,
                    exc_info=error,
                )


def _end_task(task: DurableTask) -> None:
    task._log_destroy_pending = False  # type: ignore[attr-defined] - it stays pending on purpose
    _end_coroutine(task.get_coro())


def _end_coroutine(coroutine: Any) -> None:
    """Throw the suspension in until the coroutine ends; it may swallow it and wait again, but not for ever."""
    for _ in range(_PATIENCE):
        try:
            coroutine.throw(Suspension())
        except (Suspension, StopIteration, GeneratorExit):
            return
        except RuntimeError as error:
            if "already executing" in str(error) or "already running" in str(error):
                break
            logger.debug("While a handler was torn down: %r", error, exc_info=error)
            return
        except BaseException as error:
            # Its own cleanup failed; the run pauses all the same.
            logger.debug("While a handler was torn down: %r", error, exc_info=error)
            return
    _undying.append(coroutine)
    logger.error("A workflow handler catches BaseException in a loop and can't be torn down: %r. %s", coroutine, Suspension())


async def _closing(generator: AsyncGenerator[Any, Any]) -> None:
    try:
        await generator.athrow(Suspension())
    except (Suspension, StopAsyncIteration):
        pass

