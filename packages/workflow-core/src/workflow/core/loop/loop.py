"""`DurableLoop`: an asyncio event loop in which only durable things make progress."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import sys
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from datetime import datetime
from typing import Any, NoReturn

from workflow.core.errors import HandlerError

from .callers import FROM_WAIT_FOR, find_caller
from .handle import ReadyHandle
from .refusals import refusing
from .task import DurableFuture, DurableTask, Place
from .timer import DurableTimer

__all__ = ["DurableLoop"]

logger = logging.getLogger("workflow.core")

SPIN_LIMIT = 1_000_000
"""Callbacks in one stepping after which a handler is taken to spin."""


@refusing
class DurableLoop(asyncio.AbstractEventLoop):
    """A ready queue, the run's time, and the tasks and async generators it owns.

    `start_timer` is called with each new `DurableTimer`, `cancel_timer` when one is cancelled.
    """

    def __init__(
        self,
        time: float,
        start_timer: Callable[[DurableTimer], None],
        cancel_timer: Callable[[DurableTimer], None],
    ) -> None:
        self.at: datetime | None = None
        """The instant of the event that was applied last. Few handlers ask for the time, and every step sets it."""
        self._now = time
        self.tasks: list[DurableTask] = []
        self.generators: list[AsyncGenerator[Any, Any]] = []
        self._ready: deque[ReadyHandle] = deque()
        self._cancels = False
        """Whether a task was cancelled since the loop was idle."""
        self._numbers = 0
        self._prune_at = 64
        self._main_place = Place()
        self._made_early: dict[int, DurableTask] = {}
        """Tasks that `as_completed` is about to ask for, by the identity of their coroutines."""
        self._start_timer = start_timer
        self._cancel_timer = cancel_timer
        self._failure: BaseException | None = None

    # What the engine calls

    @property
    def now(self) -> float:
        """The run's time."""
        if self.at is not None:
            self._now, self.at = self.at.timestamp(), None
        return self._now

    def run_ready(self) -> None:
        """Run callbacks until none is left. What one raises is raised, and so is what asyncio reports as a failure."""
        ready = self._ready
        left = SPIN_LIMIT
        try:
            while ready:
                handle = ready.popleft()
                callback = handle.callback
                if callback is not None:
                    handle.context.run(callback, *handle.args)
                left -= 1
                if not left:
                    self._raise_spin()
        except (HandlerError, KeyboardInterrupt):
            raise
        except BaseException as error:  # even SystemExit: it is not the host that wanted to exit
            raise HandlerError(f"A callback on the handler's loop, or a task of it, raised {error!r}.") from error
        self._cancels = False
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise HandlerError("A callback of the handler's loop failed.") from failure

    @property
    def undisturbed(self) -> bool:
        """Whether the loop will be idle as soon as the callback that is running ends, or its task waits."""
        return not self._ready and not self._cancels

    def note_cancel(self) -> None:
        """A task is being cancelled; it may be the running one, which will not wait for what it asks for next."""
        self._cancels = True

    def drop_ready(self) -> None:
        """Forget what is ready to run: the handler is being torn down."""
        self._ready.clear()

    def disown(self) -> tuple[list[DurableTask], list[AsyncGenerator[Any, Any]]]:
        """Hand over every task and async generator, for the engine to end them. New ones are owned as before."""
        tasks, self.tasks = self.tasks, []
        generators, self.generators = self.generators, []
        return tasks, generators

    def retire(self) -> None:
        """The drive is over. Without its ways back to the engine, the loop goes with the last of those who hold it: no
        work for the garbage collector."""
        self._start_timer = self._cancel_timer = _ignore

    def adopt_generator(self, generator: AsyncGenerator[Any, Any]) -> None:
        """Keep an async generator alive until the end: its `finally` must not run whenever garbage is collected."""
        self.generators.append(generator)
        if len(self.generators) > 1000:
            self.generators = [known for known in self.generators if getattr(known, "ag_frame", None) is not None]

    # What asyncio and handlers call

    def time(self) -> float:
        return self.now

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> ReadyHandle:
        handle = ReadyHandle(callback, args, context if context is not None else contextvars.copy_context())
        self._ready.append(handle)
        return handle

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> DurableTimer:
        return self.call_at(self.now + delay, callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> DurableTimer:
        timer = DurableTimer(when, callback, args, self, context)
        timer._scheduled = True  # type: ignore[attr-defined] - so that `cancel()` tells us
        self._start_timer(timer)
        return timer

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        if isinstance(handle, DurableTimer):
            self._cancel_timer(handle)

    def create_future(self) -> asyncio.Future[Any]:
        self._numbers += 1
        return DurableFuture(loop=self, number=self._numbers)

    def create_task(  # type: ignore[override]
        self,
        coro: Coroutine[Any, Any, Any],
        *,
        name: str | None = None,
        context: contextvars.Context | None = None,
        eager_start: bool | None = None,
        **unknown: Any,
    ) -> DurableTask:
        if eager_start:
            coro.close()
            raise HandlerError("Eager tasks are not supported in a handler: create the task without `eager_start`.")
        try:
            caller = find_caller(sys._getframe(1))  # pyright: ignore[reportPrivateUsage] - asyncio says who asks in no other way  # pyright: ignore[reportPrivateUsage]
        except HandlerError:
            coro.close()
            raise
        if caller is None:
            return self._make_task(coro, name, context)
        if caller is FROM_WAIT_FOR:
            return self._make_task(coro, name, context, self._current_place())
        return self._made_in_order(coro, caller)

    def _made_in_order(self, coro: Coroutine[Any, Any, Any], coroutines: Sequence[Any]) -> DurableTask:
        """Make the tasks of `as_completed` in the order in which it was given their coroutines, all with the first."""
        early = self._made_early
        if id(coro) not in early:
            for each in coroutines:
                if asyncio.iscoroutine(each) and id(each) not in early:
                    early[id(each)] = self._make_task(each, None, None)
        task = early.pop(id(coro), None)
        return task if task is not None else self._make_task(coro, None, None)

    def _make_task(
        self,
        coro: Coroutine[Any, Any, Any],
        name: str | None,
        context: contextvars.Context | None,
        place: Place | None = None,
    ) -> DurableTask:
        self._numbers += 1
        if place is None:
            place = self._current_place().child() if self._numbers > 1 else self._main_place
        name = name if name is not None else f"branch-{self._numbers}"
        task = DurableTask(coro, loop=self, name=name, context=context, number=self._numbers, place=place)
        self._own(task)
        return task

    def _current_place(self) -> Place:
        current = asyncio.current_task(self)
        return current.place if isinstance(current, DurableTask) else self._main_place

    def _own(self, task: DurableTask) -> None:
        self.tasks.append(task)
        if len(self.tasks) >= self._prune_at:
            # The main task stays first; ended ones go once their exception was looked at.
            self.tasks[1:] = [known for known in self.tasks[1:] if not known.done() or known._log_traceback]  # type: ignore[attr-defined]
            self._prune_at = max(64, 2 * len(self.tasks))

    def get_task_factory(self) -> None:
        return None

    def get_exception_handler(self) -> None:
        return None

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        self.call_exception_handler(context)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Where asyncio reports what it can't raise. Called from finalizers as well, which must not raise."""
        error = context.get("exception")
        if "future" in context or "task" in context or "asyncgen" in context:
            logger.error("%s in a workflow handler: %r", context.get("message"), error, exc_info=error)
        else:
            self._failure = error or HandlerError(str(context.get("message")))

    def _raise_spin(self) -> NoReturn:
        self._ready.clear()
        raise HandlerError(
            f"The handler ran {SPIN_LIMIT:,} callbacks without waiting for anything durable: it spins. "
            "Wait with ctx.sleep or an event instead of asyncio.sleep(0) in a loop."
        )


def _ignore(timer: DurableTimer) -> None:
    """A timer of a handler that is gone."""
