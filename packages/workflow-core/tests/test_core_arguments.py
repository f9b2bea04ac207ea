"""Durations, instants, names, and deliveries: what is taken, and what is refused at the edge."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from workflow.core import HandlerError, InvalidArgumentError, PayloadError, StepContext, SystemClock, current_step
from workflow.core.arguments import aware, identifier, seconds
from workflow.core.deliveries import approval_mail, cancel_mail, signal_mail, value_text
from workflow.core.results import Approval
from workflow.core.step import CancelFlag


class Names(enum.StrEnum):
    PAID = "paid"


class OldNames(str, enum.Enum):  # noqa: UP042 - its members are shown differently, which is the point
    PAID = "paid"


class Payment(BaseModel):
    payment_id: str


@dataclass
class Point:
    at: datetime


@pytest.mark.parametrize(("value", "expected"), [(0, 0), (1.5, 1.5), (timedelta(hours=1), 3600), (1e300, 1e300)])
def test_durations(value: Any, expected: float) -> None:
    """A timedelta, or seconds."""
    assert seconds(value, "delay") == expected
    assert type(seconds(value, "delay")) is float


@pytest.mark.parametrize(
    "value", [-1, -0.001, timedelta(days=-1), math.nan, math.inf, -math.inf, True, "5", None, 10**400, -(10**400), [1]]
)
def test_bad_durations(value: Any) -> None:
    """Negative, endless or no number at all: the message names the argument."""
    with pytest.raises(InvalidArgumentError, match=r"^timeout must be a"):
        seconds(value, "timeout")


def test_instants_become_utc() -> None:
    """The same instant, in UTC."""
    berlin = datetime(2026, 7, 1, 9, tzinfo=ZoneInfo("Europe/Berlin"))
    assert aware(berlin, "when") == datetime(2026, 7, 1, 7, tzinfo=UTC)
    assert aware(berlin, "when").tzinfo is UTC


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (datetime(2026, 1, 1), "is naive: write datetime.now"),  # noqa: DTZ001
        (datetime.max.replace(tzinfo=timezone(timedelta(hours=-1))), "between the years 1 and 9999"),
        (datetime.min.replace(tzinfo=timezone(timedelta(hours=1))), "between the years 1 and 9999"),
        ("2026-01-01T00:00:00Z", "must be a datetime, not str"),
        (1767225600, "must be a datetime, not int"),
        (None, "must be a datetime, not NoneType"),
    ],
)
def test_bad_instants(value: Any, says: str) -> None:
    """Naive datetimes would mean another instant on another machine."""
    with pytest.raises(InvalidArgumentError, match=f"^when .*{says}"):
        aware(value, "when")


@pytest.mark.parametrize("value", ["a", "order:1/é", "x" * 512, "é" * 256, "日本", "a b", "#$"])
def test_names(value: str) -> None:
    """Anything that can be shown, up to 512 bytes."""
    assert identifier(value, "name") == value


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("", "must not be empty"),
        ("  ", "blank"),
        ("\u3000", "blank"),
        ("x" * 513, "513 bytes"),
        ("é" * 257, "514 bytes"),
        ("a\x00", "control characters"),
        ("a\nb", "control characters"),
        ("a\x7f", "control characters"),
        ("a\x85", "control characters"),
        ("\ud800", "lone surrogates"),
        (b"a", "must be a string, not bytes"),
        (None, "must be a string, not NoneType"),
        (5, "must be a string, not int"),
    ],
)
def test_bad_names(value: Any, says: str) -> None:
    """What can't be kept in every store, or read in a terminal, is no name."""
    with pytest.raises(InvalidArgumentError, match=f"^step id .*{says}") as refused:
        identifier(value, "step id")
    str(refused.value).encode()


def test_reserved_names() -> None:
    """Automatic ids start with a dollar sign; a name that is no id may."""
    with pytest.raises(InvalidArgumentError, match="reserved for automatic ids"):
        identifier("$sleep#1", "step id", reserved=True)
    with pytest.raises(InvalidArgumentError, match="reserved for automatic ids"):
        identifier("$é", "step id", reserved=True)
    assert identifier("$sleep#1", "event name") == "$sleep#1"


@pytest.mark.parametrize("member", [Names.PAID, OldNames.PAID])
def test_members_of_enums_are_names(member: Any) -> None:
    """They become plain strings: one of the two kinds would be shown as `OldNames.PAID` in keys made of it."""
    name = identifier(member, "name")
    assert (type(name), name, f"{name}") == (str, "paid", "paid")


@given(st.text())
def test_any_text_is_a_name_or_refused(value: str) -> None:
    """Never another error, and what is taken can be encoded."""
    try:
        assert identifier(value, "name").encode() != b""
    except InvalidArgumentError as refused:
        str(refused).encode()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        ({"a": [1, 1.0]}, '{"a":[1,1.0]}'),
        (Payment(payment_id="p"), '{"payment_id":"p"}'),
        (Point(datetime(2026, 1, 1, tzinfo=UTC)), '{"at":"2026-01-01T00:00:00Z"}'),
        ((1, 2), "[1,2]"),
        (datetime(2026, 1, 1, tzinfo=UTC), '"2026-01-01T00:00:00Z"'),
        (Names.PAID, '"paid"'),
    ],
)
def test_payloads_that_know_their_type(value: Any, text: str) -> None:
    """Plain JSON, or one value of a type that pydantic knows."""
    assert value_text(value, "The payload") == text


@pytest.mark.parametrize(
    "value", [object(), [Payment(payment_id="p")], {1: 2}, math.nan, "\ud800", type("S", (str,), {})("x")]
)
def test_payloads_that_do_not(value: Any) -> None:
    """Refused to the sender, so that the run never sees them."""
    with pytest.raises(PayloadError, match="The payload of signal 'paid'"):
        signal_mail("s-1", "paid", value)


def test_signals() -> None:
    """Ids and names are checked; members of enums become strings."""
    mail = signal_mail("s-1", Names.PAID, {"a": 1})
    assert (mail.kind, mail.id, mail.name, mail.payload) == ("signal", "s-1", "paid", '{"a":1}')
    assert type(mail.name) is str
    for arguments in (("", "paid"), ("s-1", ""), ("s\n", "paid"), (5, "paid")):
        with pytest.raises(InvalidArgumentError):
            signal_mail(*arguments, None)  # pyright: ignore[reportArgumentType]


def test_decisions() -> None:
    """A decision is True or False: `approved="no"` must not approve."""
    mail = approval_mail("refund", False, "é", {"by": "ann"})
    assert mail.payload == '{"approved":false,"feedback":"é","meta":{"by":"ann"}}'
    for wrong in ("no", 0, 1, None):
        with pytest.raises(InvalidArgumentError, match="approved must be a bool"):
            approval_mail("refund", wrong, None, None)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgumentError, match="feedback must be a str or None"):
        approval_mail("refund", True, 5, None)  # type: ignore[arg-type]
    with pytest.raises(PayloadError):
        approval_mail("refund", True, None, {"at": datetime.now(UTC)})


def test_recorded_decisions() -> None:
    """Read back as they were given; what is no decision is an error of ours."""
    assert Approval.from_decision("a", {"approved": True, "feedback": "ok"}) == Approval("a", True, "ok", None)
    for wrong in ({}, {"approved": 1}, None, []):
        with pytest.raises(PayloadError, match="approval 'a' is not one"):
            Approval.from_decision("a", wrong)


def test_cancel_requests() -> None:
    """The reason is a text or nothing."""
    assert cancel_mail(None).payload == "null"
    assert cancel_mail("a\x00").payload == '"a\\u0000"'
    with pytest.raises(InvalidArgumentError, match="reason must be a str"):
        cancel_mail(5)  # type: ignore[arg-type]
    with pytest.raises(PayloadError, match="The reason to cancel"):
        cancel_mail("\ud800")


def test_step_context() -> None:
    """What a step may know about itself."""
    now = datetime.now(UTC)
    context = StepContext("r", "a", 1, 3, now + timedelta(hours=1), None, timedelta(seconds=5), SystemClock())
    remaining = context.time_remaining()
    assert context.idempotency_key == "r:a"
    assert remaining is not None and timedelta(minutes=59) < remaining <= timedelta(hours=1)
    assert not context.should_yield()
    assert context.should_yield(timedelta(hours=2)) and context.should_yield(1e300)
    context.cancelled.set()
    assert context.should_yield() and context.cancelled
    late = StepContext("r", "a", 1, 3, now - timedelta(hours=1), None, timedelta(0), SystemClock())
    assert late.time_remaining() == timedelta(0) and late.should_yield()
    free = StepContext("r", "a", 1, 3, None, None, timedelta(0), SystemClock())
    assert free.time_remaining() is None and not free.should_yield()


def test_outside_of_a_step() -> None:
    """`current_step()` says where it works; a flag says what it is."""
    with pytest.raises(HandlerError, match=r"run through ctx\.step"):
        current_step()
    assert repr(CancelFlag()) == "<CancelFlag clear>"
