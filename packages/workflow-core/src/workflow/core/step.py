"""`current_step()`: what a step function may know about itself."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from .arguments import Duration, seconds
from .clock import Clock
from .errors import HandlerError

__all__ = ["CancelFlag", "StepContext", "current_step"]


class CancelFlag:
    """Set when nobody waits for the step any more. Like an event that can only be polled, from any thread."""

    __slots__ = ("_set",)

    def __init__(self) -> None:
        self._set = False

    def set(self) -> None:
        self._set = True

    def is_set(self) -> bool:
        return self._set

    __bool__ = is_set

    def __repr__(self) -> str:
        return f"<CancelFlag {'set' if self._set else 'clear'}>"


@dataclass(slots=True, eq=False)
class StepContext:
    """One attempt of one step."""

    run_id: str
    step_id: str
    attempt: int
    """From 1."""
    max_attempts: int
    deadline: datetime | None
    """When its timeout or the host's budget is up, whichever is first; None without both."""
    drive_deadline: datetime | None = field(repr=False)
    margin: timedelta = field(repr=False)
    clock: Clock = field(repr=False)
    cancelled: CancelFlag = field(default_factory=CancelFlag)
    """For sync functions, which can't be interrupted: set when the step has timed out or was cancelled."""

    @property
    def idempotency_key(self) -> str:
        """`{run_id}:{step_id}`: the same for every attempt and every replay. Give it to the systems you call."""
        return f"{self.run_id}:{self.step_id}"

    def time_remaining(self) -> timedelta | None:
        """How much is left until `deadline`, at least zero; None without one."""
        return None if self.deadline is None else max(self.deadline - self.clock.now(), timedelta(0))

    def should_yield(self, min_remaining: Duration | None = None) -> bool:
        """Whether the attempt should come to an end: it is cancelled, or less than `min_remaining` is left."""
        margin = seconds(self.margin if min_remaining is None else min_remaining, "min_remaining")
        remaining = self.time_remaining()
        return self.cancelled.is_set() or (remaining is not None and remaining.total_seconds() <= margin)


_current: ContextVar[StepContext] = ContextVar("workflow_current_step")


def current_step() -> StepContext:
    """The step that is running here. Raises `HandlerError` outside of a step function."""
    try:
        return _current.get()
    except LookupError:
        raise HandlerError(
            "current_step() was called outside a step: it works in functions that run through ctx.step."
        ) from None


set_current_step: Callable[[StepContext], object] = _current.set
"""Make it the current step of this context (for the engine)."""
