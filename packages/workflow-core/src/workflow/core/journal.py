"""Events as a store keeps them, and back.

A log record is the event's JSON without what its row already says (run, index) and without its payload, which is kept
beside it as text that nobody needs to look into: not the database, and not the engine until the handler asks.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import cache
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError
from pydantic_core import to_json

from .errors import StoreError
from .events import ErrorInfo, Event, WorkflowEvent
from .payload import Json
from .records import LogRecord

__all__ = [
    "Result",
    "read_event",
    "read_events",
    "read_history",
    "standing",
    "write_event",
    "write_finished",
    "write_result",
]


_RESULTS = re.compile(
    r'^(?:\{"at":"(.{19,26}Z)","id":"([^"\\\x00-\x1f\ud800-\udfff]*)",'
    r'"attempt":(?:0|[1-9][0-9]*),"type":"STEP_FINISHED"\}|.*)$',
    re.MULTILINE,
)
"""Of entries, one a line: the instant and the id of each that is as `write_result` writes it, where the id needs no
escapes. A long log is made of them, and a parser takes twice as long over it."""


class Result:
    """A `StepFinished` as replay needs it. There is one for each step of a long log, and a model costs several times
    as much to make."""

    __slots__ = ("at", "id", "index", "text")
    type: Literal["STEP_FINISHED"] = "STEP_FINISHED"

    def __init__(self, id: str, at: datetime, index: int, text: str) -> None:
        self.id = id
        self.at = at
        self.index = index
        self.text = text


def write_event(event: Event, index: int) -> LogRecord:
    """The record of an event."""
    field = event.payload_field
    text = event.model_dump_json(exclude=_left_out(field, event.row_field), exclude_none=True)
    return LogRecord(index, text, None if field is None else _payload_text(getattr(event, field)))


def write_result(index: int, at: datetime, id: str, attempt: int, text: str) -> LogRecord:
    """The record of a `StepFinished`, which need not be made for that: it is what a run writes most."""
    entry = {"at": at, "id": id, "attempt": attempt, "type": "STEP_FINISHED"}
    return LogRecord(index, to_json(entry).decode(), text)


def write_finished(index: int, at: datetime) -> LogRecord:
    """The record of a `RunFinished`, alike."""
    return LogRecord(index, to_json({"at": at, "type": "RUN_FINISHED"}).decode())


def read_event(run_id: str, record: LogRecord) -> Event:
    """The event of one record, as `read_events`."""
    return read_events(run_id, (record,))[0]


def read_events(run_id: str, records: Sequence[LogRecord]) -> list[Event]:
    """The events of a run's records. All are parsed in one go, which is what makes long logs cheap.

    Raises `StoreError` for a record that no version of this package has written.
    """
    if not records:
        return []
    head = '{"run_id":' + to_json(run_id).decode() + ',"index":'
    text = ",".join([f"{head}{record.index},{record.event[1:]}" for record in records])
    try:
        events = _log().validate_json(f"[{text}]")
        _attach_payloads(events, records)
    except ValueError as error:  # ValidationError is one, and so is a record that holds two events
        raise _unreadable(run_id, records, error) from error
    return list[Event](events)


def read_history(run_id: str, records: Sequence[LogRecord]) -> list[Event | Result]:
    """The events of a run's records that stand, for replay.

    Results of steps, exactly as `write_result` writes them, are not validated. Raises `StoreError` as `read_events`
    does, which has to judge whatever is not exactly so.
    """
    found = _RESULTS.findall("\n".join([record.event for record in records]))
    if len(found) != len(records):  # a line break, which this package does not write
        return standing(read_events(run_id, records))
    history: list[Any] = []
    others: list[int] = []
    instant = datetime.fromisoformat
    try:
        for record, (at, id) in zip(records, found, strict=True):
            text = record.payload
            if at and text is not None:
                history.append(Result(id, instant(at), record.index, text))
            else:
                others.append(len(history))
                history.append(record)
    except ValueError:  # what looks like an instant is none
        return standing(read_events(run_id, records))
    for position, event in zip(others, read_events(run_id, [history[place] for place in others]), strict=True):
        history[position] = event
    return standing(history) if others else history


def standing(events: Iterable[Any]) -> list[Any]:
    """The events that count: without those that a retry of the run has voided, and without the retries."""
    events = [*events]
    retries = [event for event in events if event.type == "RUN_RETRIED"]
    if not retries:
        return events
    gone = {index for retry in retries for index in (*retry.voided, retry.index)}
    return [event for event in events if event.index not in gone]


@cache
def _log() -> TypeAdapter[list[WorkflowEvent]]:
    return TypeAdapter(list[WorkflowEvent])


@cache
def _left_out(*fields: str | None) -> set[str]:
    """What a record's text has no need of: the store's row says it, or it is the payload."""
    return {"run_id", "index", *(field for field in fields if field is not None)}


def _attach_payloads(events: Sequence[Any], records: Iterable[LogRecord]) -> None:
    for event, record in zip(events, records, strict=True):
        if record.payload is not None and event.payload_field is not None:
            payload = Json(record.payload)
            value = payload if event.payload_field != "error" else ErrorInfo.model_validate_json(record.payload)
            # The model is frozen for its users; this is still its construction.
            event.__dict__[event.payload_field] = value


def _unreadable(run_id: str, records: Sequence[LogRecord], error: ValueError) -> StoreError:
    """What to say about a log: which of its records is the first that can't be read, found by trying each alone."""
    if len(records) > 1:
        for record in records:
            try:
                read_event(run_id, record)
            except StoreError as found:
                return found
    reason = (
        error.errors(include_url=False, include_input=False)[0]["msg"] if isinstance(error, ValidationError) else error
    )
    return StoreError(
        f"The log of run {run_id!r} holds an entry (index {records[0].index}) that this version can't read: {reason}. "
        "Was it written by a newer version of the package, or by somebody else?"
    )


def _payload_text(value: Json | ErrorInfo | None) -> str | None:
    if value is None:
        return None
    return value.text if isinstance(value, Json) else value.model_dump_json()
