"""Events as JSON on the wire, as entries of a log, and what happens to entries of somebody else."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any, get_args

import pytest
from pydantic import ValidationError

from workflow.core import StoreError, WorkflowEvent, event_adapter
from workflow.core.errors import PayloadError, StepError, StepInterruptedError, StepResultError, StepTimeoutError
from workflow.core.events import (
    ApprovalRequested,
    ApprovalResolved,
    CancelRequested,
    Custom,
    ErrorInfo,
    Event,
    NowRecorded,
    RunCancelled,
    RunErrored,
    RunFinished,
    RunRetried,
    RunStarted,
    SignalAwaited,
    SignalResolved,
    StateDelta,
    StepFailed,
    StepFinished,
    StepRetrying,
    StepStarted,
    TimerFired,
    TimerStarted,
    UuidRecorded,
)
from workflow.core.journal import read_event, read_events, write_event
from workflow.core.payload import Json
from workflow.core.records import LogRecord

AT = datetime(2026, 1, 1, 12, 0, 0, 123456, tzinfo=UTC)
LATER = datetime(2026, 1, 2, tzinfo=UTC)
HEAD: Any = {"run_id": "r-1", "at": AT, "index": 3}
ERROR = ErrorInfo(type="Boom", message="it\x00 broke", code="error", lineage=("app.Boom", "builtins.Exception"))
META = {"who": "ann", "n": [1, None]}

EVENTS: list[Event] = [
    RunStarted(**HEAD, workflow_id="w", workflow_version="2"),
    RunFinished(**HEAD, output=Json('{"ok":true}')),
    RunErrored(**HEAD, error=ERROR),
    RunCancelled(**HEAD),
    StepStarted(**HEAD, id="a", attempt=2, meta=META),
    StepRetrying(**HEAD, id="a", attempt=2, retry_at=LATER, error=ERROR),
    StepFinished(**HEAD, id="a", attempt=2, result=Json('[1,1.0,-0.0,"\\u0000",null]')),
    StepFailed(**HEAD, id="a", attempt=3, error=ERROR),
    SignalAwaited(**HEAD, id="$event:paid#1", name="paid", until=LATER, meta=META),
    SignalResolved(**HEAD, id="$event:paid#1", name="paid", signal_id="s-1", payload=Json('{"id":"p"}')),
    ApprovalRequested(**HEAD, id="refund", title="Refund?", description="é", until=LATER, meta=META),
    ApprovalResolved(**HEAD, id="refund", payload=Json('{"approved":true,"feedback":null,"meta":null}')),
    TimerStarted(**HEAD, id="t", due_at=LATER, meta=META),
    TimerFired(**HEAD, id="t"),
    NowRecorded(**HEAD, id="n", value=AT),
    UuidRecorded(**HEAD, id="u", value="7f1b"),
    CancelRequested(**HEAD, payload=Json('"enough"')),
    StateDelta(**HEAD, delta=({"op": "add", "path": "/a", "value": None},)),
    Custom(**HEAD, name="progress", value=Json('{"done":1}')),
    RunRetried(**HEAD, voided=(1, 2), reason="repaired", error=ErrorInfo(type="ValueError", message="no")),
]
NAMES = [type(event).__name__ for event in EVENTS]


def test_every_type_of_event_is_here() -> None:
    """The tests of this file cover the whole union, whose discriminators are those that the documentation names."""
    union = get_args(get_args(WorkflowEvent)[0])
    assert {type(event) for event in EVENTS} == set(union)
    assert len({event.model_fields["type"].default for event in union}) == 20


@pytest.mark.parametrize("event", EVENTS, ids=NAMES)
def test_wire_round_trip(event: Event) -> None:
    """An event is itself again after JSON, and its type says which it is."""
    text = event.model_dump_json()
    again = event_adapter.validate_json(text)
    assert type(again) is type(event)
    assert again == event
    assert again.model_dump_json() == text
    assert event_adapter.validate_python(json.loads(text)) == event
    assert event_adapter.dump_json(again).decode() == text


@pytest.mark.parametrize("event", EVENTS, ids=NAMES)
def test_journal_round_trip(event: Event) -> None:
    """An entry has no run, index or payload in its text; together with its row it is the event again."""
    record = write_event(event, 3)
    kept = json.loads(record.event)
    assert not kept.keys() & {"run_id", "index", event.payload_field}
    assert (record.payload is not None) is (event.payload_field is not None)
    again = read_event("r-1", record)
    expected = event if event.row_field is None else event.model_copy(update={event.row_field: None})
    assert again == expected


def test_how_a_run_ended_is_not_written_twice() -> None:
    """Output and error are in the run's row; the log only says that the run ended."""
    for event in EVENTS[1:3]:
        record = write_event(event, 0)
        assert record.payload is None
        assert json.loads(record.event).keys() == {"type", "at"}


def test_json_null_survives() -> None:
    """A step that returned None, and a signal without payload, have a payload: null."""
    finished = StepFinished(**HEAD, id="a", result=Json("null"))
    assert event_adapter.validate_json(finished.model_dump_json()) == finished
    assert write_event(finished, 3).payload == "null"
    assert read_event("r-1", write_event(finished, 3)) == finished
    assert CancelRequested(**HEAD).reason is None


def test_payload_is_kept_as_it_is() -> None:
    """Nothing looks into a payload on its way through the journal, however it is spelled."""
    text = '{ "big": 123456789012345678901234567890, "e": 1e2 }'
    record = write_event(StepFinished(**HEAD, id="a", result=Json(text)), 0)
    assert record.payload == text
    event = read_event("r", record)
    assert isinstance(event, StepFinished) and event.result.text == text


def test_long_logs_are_read_in_order() -> None:
    """All entries of a run are parsed together; run and index come from their rows."""
    records = [write_event(event, index) for index, event in enumerate(EVENTS)]
    events = read_events('odd "id" \\', records)
    assert [event.index for event in events] == list(range(len(EVENTS)))
    assert {event.run_id for event in events} == {'odd "id" \\'}
    assert read_events("r", []) == []


def test_unknown_fields_are_ignored() -> None:
    """A newer version may say more about an event."""
    text = '{"type":"TIMER_FIRED","at":"2026-01-01T00:00:00Z","id":"t","since_version_9":{"x":1}}'
    assert read_event("r", LogRecord(0, text)) == TimerFired(
        run_id="r", index=0, at=datetime(2026, 1, 1, tzinfo=UTC), id="t"
    )
    error = ErrorInfo.model_validate_json('{"type":"E","message":"m","notes":[]}')
    assert error == ErrorInfo(type="E", message="m")


@pytest.mark.parametrize(
    "record",
    [
        LogRecord(7, '{"type":"FROM_THE_FUTURE","at":"2026-01-01T00:00:00Z"}'),
        LogRecord(7, '{"at":"2026-01-01T00:00:00Z"}'),
        LogRecord(7, '{"type":"TIMER_FIRED","id":"t"}'),
        LogRecord(7, '{"type":"TIMER_FIRED","id":"t","at":"yesterday"}'),
        LogRecord(7, ""),
        LogRecord(7, "{}"),
        LogRecord(7, "null"),
        LogRecord(7, "[1]"),
        LogRecord(7, '{"type":'),
        LogRecord(7, '{"type":"TIMER_FIRED","id":"t","at":"2026-01-01T00:00:00Z"},{"type":"RUN_CANCELLED"}'),
        LogRecord(7, write_event(TimerFired(at=AT, id="t"), 0).event * 2),
        LogRecord(7, write_event(EVENTS[7], 0).event, '{"type":'),
        LogRecord(7, write_event(EVENTS[7], 0).event, '{"message":"no type"}'),
    ],
)
def test_unreadable_entries(record: LogRecord) -> None:
    """Damage, foreign data and the future are store errors that say where, alone and among good entries."""
    good = write_event(EVENTS[0], 6)
    for records in ([record], [good, record], [good, record, good]):
        with pytest.raises(
            StoreError, match=r"The log of run 'r' holds an entry \(index 7\) that this version can't read"
        ):
            read_events("r", records)


def test_events_are_frozen() -> None:
    """Observers share events, so none can change what another sees."""
    with pytest.raises(ValidationError):
        EVENTS[0].run_id = "other"


def test_views_of_events() -> None:
    """Names that the API uses for what is `id` in the log."""
    assert StepStarted(**HEAD, id="a").step_id == "a"
    assert ApprovalRequested(**HEAD, id="a", title="t").approval_id == "a"
    resolved = ApprovalResolved(**HEAD, id="a", payload=Json('{"approved":false}'))
    assert (resolved.approval_id, resolved.approved) == ("a", False)
    assert CancelRequested(**HEAD, payload=Json('"why"')).reason == "why"
    with pytest.raises(PayloadError, match="the decision on approval 'a' is not one"):
        _ = ApprovalResolved(**HEAD, id="a", payload=Json('{"approved":"yes"}')).approved


class OddError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


@pytest.mark.parametrize("error", [ValueError("a\ud800b\x00"), OddError(), ValueError("x" * 100_000), KeyError("k")])
def test_any_exception_becomes_data(error: BaseException) -> None:
    """Whatever its text is like, a failure can be recorded."""
    info = ErrorInfo.of(error)
    again = ErrorInfo.model_validate_json(info.model_dump_json())
    assert again == info
    assert len(info.message) < 9000
    assert f"{type(error).__module__}.{type(error).__qualname__}" in info.lineage


def test_given_messages_are_made_writable_too() -> None:
    """A message that the engine takes from an exception is no better than its text."""
    info = ErrorInfo.of(ValueError(), "a\ud800" + "x" * 9000)
    assert info.message.startswith("a\\ud800xx") and len(info.message) < 8100
    info.model_dump_json()


@pytest.mark.parametrize("kind", [StepTimeoutError, StepInterruptedError, StepResultError, StepError])
def test_step_errors_keep_their_class(kind: type[StepError]) -> None:
    """What the handler sees on replay is of the class that it saw live."""
    info = ErrorInfo.of(kind("a", "Boom", "it broke", 2), "it broke")
    error = ErrorInfo.model_validate_json(info.model_dump_json()).as_step_error("a", 2)
    assert type(error) is kind
    assert error.is_type(kind) and error.is_type(StepError) and error.is_type(Exception)
    assert (error.step_id, error.message, error.attempts) == ("a", "it broke", 2)
