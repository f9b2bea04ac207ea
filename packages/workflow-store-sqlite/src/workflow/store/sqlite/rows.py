"""Records as columns and back: instants as integers, waits as JSON, lists of ids as one bound parameter."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from workflow.core.errors import PayloadError
from workflow.core.records import LogRecord, Mail, RunRecord, Wait

from .executor import Row

__all__ = [
    "MAIL_COLUMNS",
    "RUN_COLUMNS",
    "awaited_keys",
    "decode_id",
    "from_micros",
    "held_list",
    "id_list",
    "instant_column",
    "log_records",
    "mail_key",
    "mail_of",
    "maybe_from_micros",
    "maybe_micros",
    "micros",
    "number_list",
    "pair_list",
    "queue_key",
    "run_record",
    "waits_text",
]


def instant_column(name: str, value: str = "") -> str:
    """The SQL that reads an instant, as digits: as a number it would be rounded where numbers are JavaScript's.

    A statement that orders by this column has to qualify its name, or else it orders by the digits.
    """
    return f"CAST({value or name} AS TEXT) AS {name}"


_INSTANT_COLUMNS = ", ".join(
    instant_column(name) for name in ("created_at", "updated_at", "due_at", "started_at", "completed_at")
)
RUN_COLUMNS = (
    f"run_id, workflow_id, workflow_version, status, input, {_INSTANT_COLUMNS}, "
    "output, error, waits, state, fence, owner, log_length, mail_count, recoveries, "
    f"queue, queue_key, priority, {instant_column('expires_at')}, schedule_id"
)
"""In the order of the fields of `RunRecord`."""
_INSTANTS = (*range(5, 10), 22)
_WAITS = 12
_KEY = 20

MAIL_COLUMNS = f"kind, id, name, payload, seq, {instant_column('sent_at')}"
"""In the order of the fields of `Mail`."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EXACT = 2**53
_NO_WAITS = "[]"


def micros(at: datetime) -> int | str:
    """An instant as it is bound: microseconds since 1970-01-01 UTC, exactly. `at` is aware.

    Beyond 2**53, from the year 2255, it is text: an INTEGER column takes and compares that as the number it is.
    """
    since = at - _EPOCH
    count = (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds
    return count if -_EXACT < count < _EXACT else str(count)


def maybe_micros(at: datetime | None) -> int | str | None:
    return None if at is None else micros(at)


def from_micros(value: int | str) -> datetime:
    return _EPOCH + timedelta(microseconds=int(value))


def maybe_from_micros(value: int | str | None) -> datetime | None:
    return None if value is None else from_micros(value)


def run_record(row: Row) -> RunRecord:
    """A row of `RUN_COLUMNS`."""
    values: list[Any] = list(row)
    for column in _INSTANTS:
        values[column] = maybe_from_micros(values[column])
    values[_KEY] = values[_KEY][1:] if values[_KEY] else None
    values[_WAITS] = () if values[_WAITS] == _NO_WAITS else _waits(values[_WAITS])
    return RunRecord(*values)


def queue_key(key: str | None) -> str:
    """A run's key as its column holds it."""
    return "" if key is None else f"={key}"


def log_records(rows: Iterable[Row]) -> tuple[LogRecord, ...]:
    """Rows of `idx, event, payload`."""
    return tuple([LogRecord(*row) for row in rows])


def mail_of(rows: Iterable[Row]) -> tuple[Mail, ...]:
    """Rows of `MAIL_COLUMNS`."""
    return tuple([Mail(kind, id_, name, payload, seq, from_micros(at)) for kind, id_, name, payload, seq, at in rows])


def waits_text(waits: tuple[Wait, ...]) -> str:
    """Waits as JSON text, for `_waits`. No statement parses it."""
    if not waits:
        return _NO_WAITS
    try:
        return json.dumps([_wait_fields(wait) for wait in waits], separators=(",", ":"))
    except (TypeError, ValueError, RecursionError) as error:
        raise PayloadError(f"The meta of a wait can't be written as JSON: {error}. Give plain JSON values.") from error


def _wait_fields(wait: Wait) -> list[Any]:
    return [wait.kind, wait.id, wait.name, maybe_micros(wait.until), wait.detail, wait.meta]


def _waits(text: str) -> tuple[Wait, ...]:
    listed = cast("list[list[Any]]", json.loads(text))
    return tuple(Wait(kind, id_, name, maybe_from_micros(until), *rest) for kind, id_, name, until, *rest in listed)


def mail_key(key: str) -> str:
    """A mail's key as `awaited_keys` holds it: a line of ASCII, whatever the name of a signal holds."""
    return f"\n{json.dumps(key)}\n"


def awaited_keys(waits: tuple[Wait, ...]) -> str:
    """The keys of the mail that would resolve one of the waits, so that `instr(awaits, key)` finds it.

    Each is JSON on a line of its own. JSON text has no raw line breaks, so no key can look like a part of another.
    """
    keys = [json.dumps(key) for wait in waits if (key := wait.mail_key) is not None]
    return "\n" + "\n".join(keys) + "\n" if keys else ""


def id_list(ids: Iterable[str]) -> str:
    """Ids as one parameter, for `json_each(?)` and `decode_id`. Repetitions are dropped."""
    return json.dumps([_encode_id(id_) for id_ in dict.fromkeys(ids)], ensure_ascii=False)


def number_list(numbers: Iterable[int]) -> str:
    """Integers as one parameter, for `json_each(?)`."""
    return json.dumps(list(numbers))


def held_list(held: Iterable[tuple[str, int]]) -> str:
    """Pairs of an id and a number as one parameter, for `json_each(?)`, `json_extract` and `decode_id`."""
    return json.dumps([(_encode_id(id_), number) for id_, number in held], ensure_ascii=False)


def pair_list(pairs: Iterable[tuple[str, str]]) -> str:
    """Pairs of ids as one parameter, for `json_each(?)`, `json_extract` and `decode_id`."""
    return json.dumps([(_encode_id(one), _encode_id(two)) for one, two in pairs], ensure_ascii=False)


def _encode_id(id_: str) -> str:
    return id_.replace("%", "%25").replace("\0", "%00")


def decode_id(value: str) -> str:
    """The SQL that undoes what lists of ids do to a NUL: SQLite's JSON functions would cut the text there."""
    return f"replace(replace({value}, '%00', char(0)), '%25', '%')"
