"""When a failed step is tried again."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from typing import cast

from .arguments import Duration, seconds
from .errors import InvalidArgumentError, NonRetryableError, StepResultError, WorkflowError

__all__ = ["Retry", "RetryAfter"]


class RetryAfter(WorkflowError):  # noqa: N818 - reads as what it asks for
    """Raise it in a step to choose the delay before the next attempt (seconds or a timedelta).

    The policy's `max_attempts` still bounds the attempts.
    """

    code = "retry_after"

    def __init__(self, delay: Duration, message: str = "") -> None:
        super().__init__(message or f"The step asked to be tried again after {delay}.")
        self.delay = seconds(delay, "RetryAfter delay")


@dataclass(frozen=True)
class Retry:
    """A retry policy: up to `max_attempts` in all, with exponential backoff.

    The delay after attempt k is `initial_delay * backoff_rate ** (k - 1)`, at most `max_delay` (seconds or timedeltas);
    with `jitter` a random share of it between one half and the whole, so that many runs don't knock together.

    An error is retried if it is an instance of `retry_on`, not of `give_up_on`, and `should_retry(error)` (if given) is
    true. A step may raise `RetryAfter(delay)` to choose the delay, and `NonRetryableError` to give up, whatever the
    policy says; `max_attempts` counts in any case, and a result that can't be recorded is never tried again.
    A step without a policy (none of its own, none of its workflow) is tried once.
    """

    max_attempts: int = 3
    initial_delay: Duration = 0.5
    backoff_rate: float = 2.0
    max_delay: Duration = 60.0
    jitter: bool = True
    retry_on: tuple[type[BaseException], ...] = (Exception,)
    give_up_on: tuple[type[BaseException], ...] = ()
    should_retry: Callable[[BaseException], bool] | None = None
    _: KW_ONLY
    record_start: bool = False
    """Record each attempt before it starts, and never repeat one that was interrupted: see `at_most_once`."""

    def __post_init__(self) -> None:
        if isinstance(self.max_attempts, bool) or not isinstance(self.max_attempts, int) or self.max_attempts < 1:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidArgumentError(f"max_attempts must be an integer of at least 1, not {self.max_attempts!r}.")
        _check_rate(self.backoff_rate)
        seconds(self.initial_delay, "initial_delay")
        seconds(self.max_delay, "max_delay")
        if self.should_retry is not None and not callable(self.should_retry):
            raise InvalidArgumentError(f"should_retry must be a function of the error, not {self.should_retry!r}.")
        for name in ("retry_on", "give_up_on"):
            object.__setattr__(self, name, _error_types(getattr(self, name), name))

    @classmethod
    def none(cls) -> Retry:
        """One attempt: errors are final. A crash still leads to another attempt."""
        return cls(max_attempts=1)

    @classmethod
    def at_most_once(cls) -> Retry:
        """One attempt, ever, at the price of one more commit before it starts.

        If the process dies in the middle, the step is not tried again: the handler gets `StepInterruptedError`.
        """
        return cls(max_attempts=1, record_start=True)

    def delay_after(self, attempt: int, error: BaseException) -> float | None:
        """Seconds until the next attempt, after attempt number `attempt` failed with `error`; None to give up."""
        if attempt >= self.max_attempts or isinstance(error, (NonRetryableError, StepResultError)):
            return None
        if isinstance(error, RetryAfter):
            return error.delay
        if not isinstance(error, self.retry_on) or isinstance(error, self.give_up_on):
            return None
        if self.should_retry is not None and not self.should_retry(error):
            return None
        return self._backoff(attempt)

    def _backoff(self, attempt: int) -> float:
        first, longest = seconds(self.initial_delay, "initial_delay"), seconds(self.max_delay, "max_delay")
        try:
            # As floats: an integer rate would be raised to any power, for ever.
            delay = min(first * float(self.backoff_rate) ** (attempt - 1), longest)
        except OverflowError:
            delay = longest if first else 0.0
        return delay * random.uniform(0.5, 1.0) if self.jitter else delay


def _check_rate(rate: object) -> None:
    if isinstance(rate, bool) or not isinstance(rate, (int, float)) or not 1 <= rate <= 1e9:
        raise InvalidArgumentError(f"backoff_rate must be a number from 1 to 1e9, not {rate!r}.")


def _error_types(value: object, name: str) -> tuple[type[BaseException], ...]:
    types = cast("tuple[object, ...]", value) if isinstance(value, tuple) else (value,)
    errors = tuple(item for item in types if isinstance(item, type) and issubclass(item, BaseException))
    if len(errors) != len(types):
        raise InvalidArgumentError(f"{name} must be an exception class or a tuple of them, not {value!r}.")
    return errors
