"""Running step functions on the host's loop."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import logging
import sys
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from workflow.core.errors import PayloadError, StepResultError, StepTimeoutError
from workflow.core.payload import check_size
from workflow.core.step import StepContext, set_current_step
from workflow.core.telemetry import NO_TELEMETRY
from workflow.core.types_of import is_async

from .environment import DriveEnvironment
from .operations import StepOperation
from .transactions import TransactionOperation, TransactionTry, Turn

__all__ = ["Attempt", "Completion", "StepRunner"]

logger = logging.getLogger("workflow.core")

_THREADS = sys.platform not in ("emscripten", "wasi")
_EAGER = sys.version_info >= (3, 12)
_left: set[asyncio.Task[None]] = set()
"""Steps that were cancelled and go on."""


@dataclass(slots=True)
class Completion:
    """How an attempt ended: with the JSON text and the value of a result, or with an error."""

    attempt: Attempt
    text: str = ""
    value: Any = None
    error: BaseException | None = None
    settled: bool = False
    """A database step, whose end the drive has taken over already."""
    fatal: bool = False
    """The error is the store's, not the step's: the drive can't go on."""


class Attempt:
    """One attempt of a step under way."""

    __slots__ = ("begun", "context", "cut_off", "deadline", "operation", "task", "timed_out")

    def __init__(self, operation: StepOperation, context: StepContext, deadline: datetime | None) -> None:
        self.operation = operation
        self.context = context
        self.deadline = deadline
        """When its own timeout strikes."""
        self.task: asyncio.Task[None] | None = None
        self.begun = False
        self.timed_out = False
        self.cut_off = False
        """Nobody waits for it any more."""


class StepRunner:
    """Starts attempts as tasks of the host's loop, and collects how they end."""

    def __init__(self, run_id: str, environment: DriveEnvironment, wake: Callable[[], None]) -> None:
        self._run_id = run_id
        self._environment = environment
        self._wake = wake
        self._loop = asyncio.get_running_loop()
        self._host = contextvars.copy_context()
        self._silent = environment.telemetry is NO_TELEMETRY
        self.timed = False
        """Whether any attempt has had a timeout: looking for the next one is linear in what runs."""
        self.running: dict[str, Attempt] = {}
        self.cut_off: set[Attempt] = set()
        """Attempts that were cancelled and have not ended yet."""
        self.completed: deque[Completion] = deque()
        self.turns: list[Turn] = []
        """Transactions that are ready to commit."""

    def start(self, operation: StepOperation, now: datetime) -> None:
        """Start the next attempt of a step."""
        deadline = None if operation.timeout is None else _after(now, operation.timeout)
        self.timed = self.timed or deadline is not None
        drive_deadline = self._environment.deadline
        context = StepContext(
            run_id=self._run_id,
            step_id=operation.id,
            attempt=operation.attempt + 1,
            max_attempts=operation.retry.max_attempts,
            deadline=deadline if drive_deadline is None else min(deadline or drive_deadline, drive_deadline),
            drive_deadline=drive_deadline,
            margin=self._environment.margin,
            clock=self._environment.clock,
        )
        attempt = Attempt(operation, context, deadline)
        self.running[operation.id] = attempt
        attempt.task = self._spawn(attempt)

    def _spawn(self, attempt: Attempt) -> asyncio.Task[None]:
        # The context variables a step sees: the host's (tracing, middleware), overlaid with the handler's own.
        context = self._host.copy()
        for variable, value in attempt.operation.context.items():
            context.run(variable.set, value)
        context.run(set_current_step, attempt.context)
        loop = self._loop
        name = f"step {attempt.operation.id} of {self._run_id}"
        if _EAGER:
            # A step that never waits ends here and now, without a turn of the host's loop.
            return asyncio.Task(self._run(attempt), loop=loop, name=name, context=context, eager_start=True)  # type: ignore[call-arg]
        return asyncio.Task(self._run(attempt), loop=loop, name=name, context=context)

    async def _run(self, attempt: Attempt) -> None:
        completion = Completion(attempt)
        operation = attempt.operation
        attempt.begun = True
        try:
            if (
                self._silent
                and attempt.deadline is None
                and type(operation) is StepOperation
                and is_async(operation.fn)
            ):
                # As `_attempt`, without a coroutine between this one and the function's: what most steps are.
                result = await operation.fn(*operation.args)
                completion.text, completion.value = self._encoded(operation, result)
            elif self._silent:
                await self._attempt(attempt, completion)
            else:
                with self._environment.telemetry.step(self._run_id, attempt.context):
                    await self._attempt(attempt, completion)
        except BaseException as error:
            # Whatever it is (even `sys.exit()`), it ends this step and not the host; nobody would wait for its end
            # else.
            completion.error = error
            if isinstance(error, KeyboardInterrupt):
                self._ended(completion)
                raise
        self._ended(completion)

    async def _attempt(self, attempt: Attempt, completion: Completion) -> None:
        operation = attempt.operation
        try:
            if isinstance(operation, TransactionOperation):
                await self._transact(operation, completion)
                return
            fn = operation.fn
            result = await fn(*operation.args) if is_async(fn) else await _call_sync(fn, operation.args)
        except asyncio.CancelledError as error:
            if attempt.timed_out:
                raise self._timeout_error(attempt) from error
            raise
        completion.text, completion.value = self._encoded(operation, result)

    async def _transact(self, operation: TransactionOperation, completion: Completion) -> None:
        """Run a database step: when this returns, its end is committed, and the drive knows."""
        transactor = self._environment.transactor
        assert transactor is not None
        encode = partial(self._encoded, operation)
        attempt = TransactionTry(self._run_id, operation, encode, self._announce)
        try:
            answer = await transactor.transact(attempt)
            attempt.settle(answer)
            completion.settled = True
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            completion.fatal = error is not attempt.failure
            raise
        finally:
            attempt.settle(None)
            attempt.failure = None  # whose traceback leads back here: no cycle for the garbage collector

    def _announce(self, turn: Turn) -> None:
        self.turns.append(turn)
        self._wake()

    def _encoded(self, operation: StepOperation, result: Any) -> tuple[str, Any]:
        what = f"The result of step {operation.id!r} of run {self._run_id!r}"
        limit = self._environment.max_payload
        try:
            text, value = operation.result_type.round_trip(result, what)
            if len(text) * 4 > limit:
                check_size(text, limit, what)
        except PayloadError as error:
            raise StepResultError(operation.id, "PayloadError", str(error), operation.attempt + 1) from error
        return text, value

    def _timeout_error(self, attempt: Attempt) -> StepTimeoutError:
        operation = attempt.operation
        message = f"An attempt took longer than its timeout of {operation.timeout:g} s."
        return StepTimeoutError(operation.id, "StepTimeoutError", message, operation.attempt + 1)

    def _ended(self, completion: Completion) -> None:
        attempt = completion.attempt
        if self.running.get(attempt.operation.id) is attempt:
            del self.running[attempt.operation.id]
            if not completion.settled:
                self.completed.append(completion)
        self.cut_off.discard(attempt)
        self._wake()

    def time_out(self, now: datetime) -> None:
        """End the attempts whose own timeout is over. A function in a thread can't be stopped: it is left to itself."""
        if not self.timed:
            return
        for attempt in list(self.running.values()):
            if attempt.deadline is not None and attempt.deadline <= now and not attempt.timed_out and attempt.begun:
                attempt.timed_out = True
                attempt.context.cancelled.set()
                if attempt.task is not None:
                    attempt.task.cancel()

    def next_timeout(self) -> datetime | None:
        if not self.timed:
            return None
        return min(
            (a.deadline for a in self.running.values() if a.deadline is not None and not a.timed_out), default=None
        )

    def cut(self, operation_id: str) -> None:
        """Cancel the attempt of a step that the handler has abandoned; its end is no news."""
        attempt = self.running.pop(operation_id, None)
        if attempt is None or attempt.task is None:
            return
        attempt.cut_off = True
        attempt.context.cancelled.set()
        if not attempt.task.done():
            if attempt.begun:  # else its coroutine is never entered, and never tells of its end
                self.cut_off.add(attempt)
            attempt.task.cancel()

    async def stop(self) -> None:
        """Cancel everything under way and wait until it has ended, or it shows that it won't."""
        for operation_id in list(self.running):
            self.cut(operation_id)
        if self.cut_off:
            await self.settle_cut_off()

    async def settle_cut_off(self) -> None:
        """Wait until what was cancelled has ended. (A function in a thread is not waited for.)

        What swallows its cancellation is left to itself: the drive must come to an end. Nobody looks at its result any
        more, as if it ran in a process that has stalled.
        """
        tasks = {attempt.task: attempt for attempt in self.cut_off if attempt.task is not None}
        if not tasks:
            return
        _, left = await asyncio.wait(tasks, timeout=self._environment.grace.total_seconds())
        for task in left:
            attempt = tasks[task]
            self.cut_off.discard(attempt)
            _left.add(task)  # the loop itself holds tasks weakly
            task.add_done_callback(_left.discard)
            logger.error(
                "Step %r of run %r was cancelled and has not ended: does it catch CancelledError? It is left to "
                "itself, and may overlap with its next attempt.",
                attempt.operation.id,
                self._run_id,
            )


def _after(now: datetime, delay: float) -> datetime | None:
    """So long after now; None beyond all calendars."""
    try:
        return now + timedelta(seconds=delay)
    except OverflowError:
        return None


async def _call_sync(fn: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    if _THREADS:
        context = contextvars.copy_context()
        result = await asyncio.get_running_loop().run_in_executor(None, _in_thread, context, fn, args)
    else:
        result = fn(*args)
    return await result if inspect.isawaitable(result) else result


def _in_thread(context: contextvars.Context, fn: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    try:
        return context.run(fn, *args)
    except StopIteration as error:
        # A future can't carry a StopIteration: its waiter would hang.
        raise RuntimeError(f"A step function raised StopIteration: {error}") from error
