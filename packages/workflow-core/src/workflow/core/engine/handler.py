"""The handler as a task of the deterministic loop: starting it, running it, and tearing it down."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from typing import Any

from workflow.core.errors import HandlerError
from workflow.core.loop import DurableTask, as_current, run_until_idle, stepping

from .session import Session
from .suspension import Suspension
from .unawaited import close_unawaited

__all__ = ["HandlerTask"]

logger = logging.getLogger("workflow.core")

_FOREIGN = ("attached to a different loop", "bound to a different event loop")
_NOT_OURS = (
    "The handler waited for something of another event loop ({}). Only durable things make progress in a handler: "
    "do real I/O in a function, run with `await ctx.step(id, function, ...)`, and make locks and queues in the handler."
)
_PATIENCE = 100
_undying: list[Any] = []
"""What can't be ended, because it catches everything and waits again. Kept, so that the garbage collector
doesn't try it once more."""


class HandlerTask:
    """The main task of a run, with a fresh context of its own: nothing of the host's leaks in."""

    def __init__(self, session: Session, handler: Callable[[Any], Awaitable[Any]], ctx: Any) -> None:
        self._session = session
        self._loop = session.loop
        with stepping(self._loop):
            context = contextvars.Context()
            coroutine: Coroutine[Any, Any, Any] = context.run(handler, ctx)  # type: ignore[assignment]
            self.main: DurableTask = self._loop.create_task(
                coroutine, name=f"run {session.run.run_id}", context=context
            )
        session.main = self.main

    @property
    def done(self) -> bool:
        return self.main.done()

    def run(self) -> None:
        run_until_idle(self._loop)

    def result(self) -> Any:
        """What the handler returned; raises what it raised, which is an `Exception` or `asyncio.CancelledError`."""
        try:
            return self.main.result()
        except asyncio.CancelledError:
            raise
        except Exception as error:
            if isinstance(error, RuntimeError) and any(words in str(error) for words in _FOREIGN):
                raise HandlerError(_NOT_OURS.format(error)) from error
            raise
        except BaseException as error:
            raise HandlerError(f"The handler raised {error!r}, which is not an Exception.") from error

    def tear_down(self) -> None:
        """End every task and async generator where it stands, without telling user code that anything failed.

        What is still running when the handler has ended, or when the run pauses, gets a `Suspension`: not an exception
        that `except Exception` sees. Nothing it does any more counts: primitives called now never come back.
        """
        self._session.closing = True
        ended: list[DurableTask] = []
        with stepping(self._loop):
            for _ in range(_PATIENCE):  # cleaning up may create tasks, which are ended too
                self._loop.drop_ready()
                tasks, generators = self._loop.disown()
                if not tasks and not generators:
                    break
                self._end(tasks, generators)
                ended += tasks
            else:
                _give_up(self._loop.disown())
        self._report_unseen(ended)

    def _end(self, tasks: list[DurableTask], generators: list[AsyncGenerator[Any, Any]]) -> None:
        """The newest first: what is waited for ends after what waits for it."""
        pausing = not self.main.done()
        for task in reversed(tasks):
            if not task.done():
                if pausing:
                    close_unawaited(task.get_coro())
                task._log_destroy_pending = False  # type: ignore[attr-defined] - it stays pending on purpose
                with as_current(self._loop, task):
                    _end_coroutine(task.get_coro())
        for generator in generators:
            with as_current(self._loop, self.main):
                _end_generator(generator)

    def _report_unseen(self, tasks: list[DurableTask]) -> None:
        """Log the errors of branches that nobody awaited, once the run has ended; forget them when it only pauses."""
        ended = self.main.done()
        for task in tasks:
            if not task.done() or not getattr(task, "_log_traceback", False):
                continue
            error = None if task.cancelled() else task.exception()  # which counts as having looked at it
            if ended and error is not None and task is not self.main:
                logger.error(
                    "Branch %r of run %r failed, and its error was never looked at.",
                    task.get_name(),
                    self._session.run.run_id,
                    exc_info=error,
                )


def _end_coroutine(coroutine: Any) -> None:
    """Throw the suspension in until the coroutine ends; it may swallow it and wait again, but not for ever."""
    for _ in range(_PATIENCE):
        try:
            coroutine.throw(Suspension())
        except (Suspension, StopIteration, GeneratorExit):
            return
        except BaseException as error:
            # Its own cleanup failed; the run pauses all the same.
            logger.debug("While a handler was torn down: %r", error, exc_info=error)
            return
    _give_up(coroutine)


def _end_generator(generator: Any) -> None:
    """As `_end_coroutine`, for an async generator that somebody has begun to iterate."""
    if generator.ag_frame is None:
        return
    closing = _closing(generator)
    try:
        closing.send(None)
    except StopIteration:
        return
    _end_coroutine(closing)


async def _closing(generator: Any) -> None:
    for _ in range(_PATIENCE):  # it may swallow the suspension and yield once more
        if generator.ag_frame is None:
            return
        try:
            await generator.athrow(Suspension())
        except (Suspension, StopAsyncIteration, GeneratorExit):
            continue
        except BaseException as error:
            logger.debug("While a handler was torn down: %r", error, exc_info=error)
            if generator.ag_running:
                break
    if generator.ag_frame is not None:
        _give_up(generator)


def _give_up(what: Any) -> None:
    _undying.append(what)
    logger.error(
        "A workflow handler catches BaseException in a loop and can't be torn down: %r. %s", what, Suspension()
    )
