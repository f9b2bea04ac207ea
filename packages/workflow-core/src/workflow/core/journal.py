"""Events as a store keeps them, and back.

A log record is the event's JSON without what its row already says (run, index) and without its payload, which is kept
beside it as text that nobody needs to look into: not the database, and not the engine until the handler asks.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from pydantic import TypeAdapter, ValidationError
from pydantic_core import to_json

from .errors import StoreError
from .events import ErrorInfo, Event, WorkflowEvent
from .payload import Json
from .records import LogRecord

__all__ = ["read_event", "read_events", "write_event"]

_events: TypeAdapter[list[WorkflowEvent]] = TypeAdapter(list[WorkflowEvent])
_HEAD = frozenset({"run_id", "index"})


def write_event(event: Event, index: int) -> LogRecord:
    """The record of an event."""
    field = event.payload_field
    exclude = _HEAD if field is None else _HEAD | {field}
    text = event.model_dump_json(exclude=set(exclude), exclude_none=True)
    return LogRecord(index, text, None if field is None else _payload_text(getattr(event, field)))


def read_event(run_id: str, record: LogRecord) -> Event:
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
        events = _events.validate_json(f"[{text}]")
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = records[first["loc"][0]].index if first["loc"] and isinstance(first["loc"][0], int) else "?"
        raise StoreError(
            f"The log of run {run_id!r} holds an entry (index {place}) that this version can't read: {first['msg']}. "
            "Was it written by a newer version of the package, or by somebody else?"
        ) from error
    _attach_payloads(events, records)
    return list[Event](events)


def _attach_payloads(events: Iterable[Any], records: Iterable[LogRecord]) -> None:
    for event, record in zip(events, records, strict=True):
        if record.payload is not None and event.payload_field is not None:
            payload = Json(record.payload)
            value = payload if event.payload_field != "error" else ErrorInfo.model_validate_json(record.payload)
            # The model is frozen for its users; this is still its construction.
            event.__dict__[event.payload_field] = value


def _payload_text(value: Json | ErrorInfo | None) -> str | None:
    if value is None:
        return None
    return value.text if isinstance(value, Json) else value.model_dump_json()
