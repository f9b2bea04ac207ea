"""Errors: what they are, what they say, and that copying one is no surprise."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest

import workflow.core as core
from workflow.core import (
    EventTimeoutError,
    InvalidArgumentError,
    LeaseLostError,
    LogConflictError,
    NonRetryableError,
    PayloadError,
    RetryAfter,
    RunNotFoundError,
    StepError,
    StepInterruptedError,
    StepResultError,
    StepTimeoutError,
    WorkflowError,
)
from workflow.core.events import ErrorInfo

CLASSES = [value for value in vars(core).values() if isinstance(value, type) and issubclass(value, WorkflowError)]

EXAMPLES: list[WorkflowError] = [
    StepError("charge", "Boom", "it broke", 3, lineage=("app.Boom", "builtins.Exception")),
    StepTimeoutError("charge", "StepTimeoutError", "too long"),
    StepInterruptedError("charge", "StepInterruptedError", "died", 1),
    StepResultError("charge", "PayloadError", "no", 1),
    EventTimeoutError("$event:paid#1", "paid"),
    RunNotFoundError("r\ud800"),
    LeaseLostError("r", 3),
    LogConflictError("r", 1, 2),
    RetryAfter(5, "later"),
    NonRetryableError("never"),
    PayloadError("X"),
]


def test_all_errors_are_exported_with_codes_of_their_own() -> None:
    """A code is what machines tell errors by: none is used twice, none changes by accident."""
    codes = [kind.code for kind in CLASSES]
    assert len(CLASSES) == 21
    assert sorted(codes) == sorted(set(codes))
    assert {"step_failed", "step_timeout", "event_timeout", "nondeterminism", "payload", "version"} <= set(codes)
    assert all(kind.__doc__ for kind in CLASSES)


@pytest.mark.parametrize(
    ("kind", "also"),
    [
        (StepTimeoutError, TimeoutError),
        (EventTimeoutError, TimeoutError),
        (InvalidArgumentError, ValueError),
        (RunNotFoundError, LookupError),
        (StepResultError, PayloadError),
        (StepTimeoutError, StepError),
        (StepInterruptedError, StepError),
    ],
)
def test_errors_are_what_python_code_expects(kind: type[Exception], also: type[Exception]) -> None:
    """`except TimeoutError` and the like work as in any asyncio code."""
    assert issubclass(kind, also)


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_errors_can_be_copied_and_pickled(error: WorkflowError) -> None:
    """A step may run code in a pool of processes, which sends errors back by pickle."""
    for again in (copy.copy(error), pickle.loads(pickle.dumps(error))):
        assert type(again) is type(error)
        assert str(again) == str(error)
        assert again.args == error.args
        assert vars(again) == vars(error)


def test_subclasses_with_constructors_of_their_own() -> None:
    """The same for errors of users."""

    class OutOfStockError(NonRetryableError):
        def __init__(self, sku: str, left: int) -> None:
            super().__init__(f"{sku}: {left}")
            self.sku = sku

    again = copy.copy(OutOfStockError("a", 1))
    assert (str(again), again.sku) == ("a: 1", "a")


def test_step_error_texts() -> None:
    """The text says which step failed how, and after how many attempts."""
    assert str(EXAMPLES[0]) == "Step 'charge' failed after 3 attempts: Boom: it broke"
    assert str(EXAMPLES[1]) == "Step 'charge' failed after 1 attempt: StepTimeoutError: too long"
    assert "'paid'" in str(EXAMPLES[4])
    assert "\\ud800" in str(EXAMPLES[5])


class BaseError(Exception):
    pass


class DerivedError(BaseError, KeyError):
    class NestedError(ValueError):
        pass


@pytest.mark.parametrize(
    ("raised", "asked", "expected"),
    [
        (DerivedError("x"), DerivedError, True),
        (DerivedError("x"), BaseError, True),
        (DerivedError("x"), LookupError, True),
        (DerivedError("x"), ValueError, False),
        (DerivedError.NestedError(), DerivedError.NestedError, True),
        (DerivedError.NestedError(), DerivedError, False),
        (TimeoutError(), OSError, True),
        (WorkflowError(), NonRetryableError, False),
    ],
)
def test_is_type_live_and_on_replay(raised: BaseException, asked: type[Exception], expected: bool) -> None:
    """`is_type` asks what `isinstance` would have asked of the original, which replay no longer has."""
    info = ErrorInfo.of(raised)
    live = info.as_step_error("a", 1)
    replayed = ErrorInfo.model_validate_json(info.model_dump_json()).as_step_error("a", 1)
    assert isinstance(raised, asked) is expected
    assert live.is_type(asked) is expected
    assert replayed.is_type(asked) is expected
    assert str(live) == str(replayed)


def test_errors_of_the_same_name_are_told_apart() -> None:
    """Qualified names are compared: two modules may each have an `ApiError`."""

    def make() -> Any:
        class ApiError(Exception):
            pass

        return ApiError

    first, second = make(), type("ApiError", (Exception,), {"__module__": "elsewhere"})
    assert ErrorInfo.of(first()).as_step_error("a", 1).is_type(first)
    assert not ErrorInfo.of(first()).as_step_error("a", 1).is_type(second)
