"""Every error of our own, under `WorkflowError`.

An error says what happened, to which run, step or name, and what to do about it. `code` is a stable,
machine-readable word for each class: it ends up in `Run.error.code`, in logs and in HTTP answers.
"""

from __future__ import annotations

from typing import Any, ClassVar

__all__ = [
    "DefinitionError",
    "EventTimeoutError",
    "HandlerError",
    "InvalidArgumentError",
    "LeaseLostError",
    "LogConflictError",
    "MiddlewareError",
    "NonDeterminismError",
    "NonRetryableError",
    "PayloadError",
    "PoisonedRunError",
    "RunNotFoundError",
    "StepError",
    "StepInterruptedError",
    "StepResultError",
    "StepTimeoutError",
    "StoreError",
    "StoreUnavailableError",
    "WorkflowError",
    "WorkflowVersionError",
]


class WorkflowError(Exception):
    """Base of all errors raised by this library."""

    code: ClassVar[str] = "workflow_error"

    def __reduce__(self) -> tuple[Any, ...]:
        # Constructors take what happened, not the text, so an error is copied without calling one: steps may run in a
        # pool of processes, which sends errors back by pickle.
        return _remake, (type(self), self.args), self.__dict__


class DefinitionError(WorkflowError):
    """A workflow, middleware or registration is written wrongly. Raised where it is written."""

    code = "definition"


class InvalidArgumentError(WorkflowError, ValueError):
    """An argument has a value that can't be used: a naive datetime, a bad or repeated id, a negative delay."""

    code = "invalid_argument"


class HandlerError(WorkflowError):
    """The handler did something a durable handler can't do: real I/O, threads, spinning, waiting for nothing."""

    code = "handler"


class MiddlewareError(WorkflowError):
    """A middleware broke its contract, or a field that the handler's context declares was not given."""

    code = "middleware"


class PayloadError(WorkflowError):
    """A value can't be stored as JSON and read back unchanged, or stored data does not fit its type."""

    code = "payload"


class NonDeterminismError(WorkflowError):
    """The handler asked for something else than what the log of the run holds.

    The run is left as it is (paused as blocked, with this reason) and goes on with a deploy that matches its log.
    """

    code = "nondeterminism"


class WorkflowVersionError(WorkflowError):
    """This process does not have the workflow, or the version of it, that a run belongs to."""

    code = "version"


class RunNotFoundError(WorkflowError, LookupError):
    """There is no run of this id in the store."""

    code = "run_not_found"

    def __init__(self, run_id: str) -> None:
        super().__init__(f"There is no run {run_id!r} in the store. Start it first, or check the id.")
        self.run_id = run_id


class StoreError(WorkflowError):
    """The store can't be used as it is: missing, foreign, newer or damaged schema, or it is closed."""

    code = "store"


class StoreUnavailableError(StoreError, ConnectionError):
    """The store could not be reached, or was busy, for longer than it tries; a little later it may answer again.

    Unless the message says that nothing was written, what was asked for may have happened: each operation's docstring
    says what its repetition does then.
    """

    code = "store_unavailable"


class PoisonedRunError(WorkflowError):
    """The run was given up: owner after owner died or stalled while driving it."""

    code = "max_recoveries"


class LeaseLostError(WorkflowError):
    """Another owner has claimed the run since: this drive's commits are refused and nothing was written."""

    code = "lease_lost"

    def __init__(self, run_id: str, fence: int) -> None:
        super().__init__(
            f"The lease on run {run_id!r} (fence {fence}) is gone: another owner has claimed the run, or it has ended. "
            "Nothing was written; the other owner goes on."
        )
        self.run_id = run_id
        self.fence = fence


class LogConflictError(WorkflowError):
    """The log of the run has already grown past the index at which a commit wanted to append."""

    code = "log_conflict"

    def __init__(self, run_id: str, expected_index: int, actual_index: int) -> None:
        super().__init__(
            f"The log of run {run_id!r} is at index {actual_index}, not at {expected_index}: nothing was written. "
            "Claim the run again and replay it."
        )
        self.run_id = run_id
        self.expected_index = expected_index
        self.actual_index = actual_index


class StepError(WorkflowError):
    """A step has failed for good. The handler sees the same error live and on replay.

    `error_type` is the name of the original exception's class, `message` its text, `attempts` how often it was tried.
    The original exception is `__cause__` when the step failed in this very drive, and is gone on replay:
    use `is_type` to tell errors apart, which works in both.
    """

    code = "step_failed"

    def __init__(
        self, step_id: str, error_type: str, message: str, attempts: int = 1, *, lineage: tuple[str, ...] = ()
    ) -> None:
        tries = "1 attempt" if attempts == 1 else f"{attempts} attempts"
        super().__init__(f"Step {step_id!r} failed after {tries}: {error_type}: {message}")
        self.step_id = step_id
        self.error_type = error_type
        self.message = message
        self.attempts = attempts
        self.lineage = lineage

    def is_type(self, error: type[BaseException]) -> bool:
        """Whether the original error was an instance of `error`, compared by qualified class names."""
        return qualified_name(error) in self.lineage


class StepTimeoutError(StepError, TimeoutError):
    """Each attempt of a step took longer than its `timeout`; also what a retry policy sees of one that did."""

    code = "step_timeout"


class StepInterruptedError(StepError):
    """An attempt of an at-most-once step was started, and its process died before the end was recorded.

    It may or may not have taken effect, and is not tried again: find out what happened, then compensate or go on.
    """

    code = "step_interrupted"


class StepResultError(StepError, PayloadError):
    """What a step returned can't be recorded. Never retried: the step has run, and would return the same again."""

    code = "step_result"


class EventTimeoutError(WorkflowError, TimeoutError):
    """The time of a `wait_for_event` or an `approve` was up before what it waits for came."""

    code = "event_timeout"

    def __init__(self, wait_id: str, name: str) -> None:
        super().__init__(f"The time to wait for {name!r} (operation {wait_id!r}) is up.")
        self.wait_id = wait_id
        self.name = name


class NonRetryableError(WorkflowError):
    """Raise it (or a subclass) in a step to fail the step at once, whatever its retry policy says."""

    code = "non_retryable"


def _remake(kind: type[WorkflowError], args: tuple[Any, ...]) -> WorkflowError:
    error = kind.__new__(kind, *args)
    error.args = args
    return error


def qualified_name(error: type[BaseException]) -> str:
    """`module.QualName` of an exception class, as recorded in logs."""
    return f"{error.__module__}.{error.__qualname__}"
