"""Retry policies: what is accepted, how long they wait, and in which order they decide."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workflow.core import InvalidArgumentError, NonRetryableError, Retry, RetryAfter, StepResultError, StepTimeoutError

STEADY = Retry(max_attempts=10, initial_delay=1, backoff_rate=3, max_delay=20, jitter=False)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"max_attempts": 0}, "max_attempts must be an integer of at least 1, not 0"),
        ({"max_attempts": True}, "max_attempts"),
        ({"max_attempts": 2.0}, "max_attempts"),
        ({"max_attempts": None}, "max_attempts"),
        ({"initial_delay": -1}, "initial_delay must be a finite duration of at least 0"),
        ({"initial_delay": float("nan")}, "initial_delay"),
        ({"initial_delay": "1"}, "initial_delay must be a timedelta or a number of seconds, not str"),
        ({"max_delay": float("inf")}, "max_delay"),
        ({"max_delay": timedelta(seconds=-1)}, "max_delay"),
        ({"max_delay": 10**400}, "max_delay"),
        ({"backoff_rate": 0.5}, "backoff_rate must be a number from 1"),
        ({"backoff_rate": float("nan")}, "backoff_rate"),
        ({"backoff_rate": float("inf")}, "backoff_rate"),
        ({"backoff_rate": True}, "backoff_rate"),
        ({"backoff_rate": "2"}, "backoff_rate"),
        ({"retry_on": "ValueError"}, "retry_on must be an exception class or a tuple of them"),
        ({"retry_on": [ValueError]}, "retry_on"),
        ({"retry_on": (ValueError, int)}, "retry_on"),
        ({"give_up_on": (ValueError(),)}, "give_up_on"),
        ({"should_retry": True}, "should_retry must be a function"),
    ],
)
def test_bad_policies(options: dict[str, Any], says: str) -> None:
    """A policy that makes no sense fails where it is written."""
    with pytest.raises(InvalidArgumentError, match=says):
        Retry(**options)


def test_one_class_is_a_tuple_of_one() -> None:
    """As in an `except` clause."""
    assert Retry(retry_on=ConnectionError, give_up_on=KeyError) == Retry(  # pyright: ignore[reportArgumentType]
        retry_on=(ConnectionError,), give_up_on=(KeyError,)
    )


def test_delays_grow_to_the_longest() -> None:
    """initial_delay * backoff_rate ** (attempt - 1), at most max_delay; then no more."""
    error = ValueError()
    assert [STEADY.delay_after(n, error) for n in range(1, 12)] == [1, 3, 9, *[20] * 6, None, None]


def test_delays_take_timedeltas() -> None:
    """Durations are timedeltas or seconds, here as everywhere."""
    policy = Retry(initial_delay=timedelta(milliseconds=100), max_delay=timedelta(seconds=0.15), jitter=False)
    assert [policy.delay_after(n, ValueError()) for n in (1, 2)] == [0.1, 0.15]


@given(
    st.integers(1, 10**9),
    st.floats(0, 1e308),
    st.one_of(st.floats(1, 1e9), st.integers(1, 10**9)),
    st.floats(0, 1e308),
    st.booleans(),
)
def test_delays_stay_in_bounds(attempt: int, first: float, rate: float, longest: float, jitter: bool) -> None:
    """No number of attempts overflows, hangs or leaves the bounds: jitter gives one half to the whole of the delay."""
    policy = Retry(max_attempts=10**9 + 1, initial_delay=first, backoff_rate=rate, max_delay=longest, jitter=jitter)
    delay = policy.delay_after(attempt, ValueError())
    assert delay is not None and 0 <= delay <= longest
    plain = Retry(max_attempts=10**9 + 1, initial_delay=first, backoff_rate=rate, max_delay=longest, jitter=False)
    whole = plain.delay_after(attempt, ValueError())
    assert whole is not None
    assert (whole / 2 <= delay <= whole) if jitter else delay == whole
    if first == 0:
        assert delay == 0


def test_jitter_spreads() -> None:
    """Many runs that fail together don't come back together."""
    policy = Retry(initial_delay=10)
    assert len({policy.delay_after(1, ValueError()) for _ in range(20)}) > 10


@pytest.mark.parametrize(
    ("policy", "error", "expected"),
    [
        (STEADY, ValueError(), 1),
        (STEADY, KeyboardInterrupt(), None),
        (STEADY, NonRetryableError(), None),
        (STEADY, StepResultError("a", "PayloadError", "no"), None),
        (STEADY, StepTimeoutError("a", "StepTimeoutError", "slow"), 1),
        (STEADY, RetryAfter(7), 7),
        (STEADY, RetryAfter(timedelta(minutes=5)), 300),
        (Retry(retry_on=(KeyError,), jitter=False), KeyError(), 0.5),
        (Retry(retry_on=(LookupError,), jitter=False), KeyError(), 0.5),
        (Retry(retry_on=(KeyError,)), ValueError(), None),
        (Retry(retry_on=(KeyError,)), RetryAfter(7), 7),
        (Retry(retry_on=()), ValueError(), None),
        (Retry(give_up_on=(KeyError,)), KeyError(), None),
        (Retry(retry_on=(KeyError,), give_up_on=(KeyError,)), KeyError(), None),
        (Retry(retry_on=(NonRetryableError,)), NonRetryableError(), None),
        (Retry(should_retry=lambda error: "again" in str(error), jitter=False), ValueError("again"), 0.5),
        (Retry(should_retry=lambda error: "again" in str(error)), ValueError("no"), None),
        (Retry(give_up_on=(ValueError,), should_retry=lambda _: True), ValueError(), None),
        (Retry.none(), ValueError(), None),
        (Retry.none(), RetryAfter(7), None),
        (Retry.at_most_once(), ValueError(), None),
    ],
)
def test_order_of_decisions(policy: Retry, error: BaseException, expected: float | None) -> None:
    """Attempts, then what the step asked for, then retry_on, give_up_on, should_retry."""
    assert policy.delay_after(1, error) == expected


def test_should_retry_is_asked_last() -> None:
    """It never sees an error that is decided without it."""
    seen: list[BaseException] = []

    def ask(error: BaseException) -> bool:
        seen.append(error)
        return True

    policy = Retry(max_attempts=2, retry_on=(ValueError,), should_retry=ask)
    for attempt, error in [(2, ValueError()), (1, KeyError()), (1, NonRetryableError()), (1, RetryAfter(1))]:
        policy.delay_after(attempt, error)
    assert seen == []
    policy.delay_after(1, ValueError())
    assert len(seen) == 1


@pytest.mark.parametrize("delay", [-1, float("nan"), "5", None, True])
def test_bad_retry_after(delay: Any) -> None:
    """A bad delay is an error at once, in the step that asks for it."""
    with pytest.raises(InvalidArgumentError, match="RetryAfter delay"):
        RetryAfter(delay)


def test_retry_after_says_what_it_asks() -> None:
    """Its text is what the run shows while it waits."""
    assert "tried again after 5" in str(RetryAfter(5))
    assert str(RetryAfter(5, "rate limited")) == "rate limited"
    assert RetryAfter(timedelta(seconds=5)).delay == 5.0


def test_policies() -> None:
    """The ready-made ones."""
    assert Retry.none().max_attempts == 1 and not Retry.none().record_start
    assert Retry.at_most_once().max_attempts == 1 and Retry.at_most_once().record_start
