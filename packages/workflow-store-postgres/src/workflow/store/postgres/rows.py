"""Records as columns and back.

Payloads are opaque text, and any text must come back as it went in. Postgres' `text` can't hold NUL, nor UTF-8 a lone
surrogate. Such a text is stored escaped behind a mark; all others are stored as they are, so that `psql` shows them and
`payload::jsonb` works on them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, cast

from pydantic_core import to_json

from workflow.core.errors import InvalidArgumentError, PayloadError
from workflow.core.records import LogRecord, Mail, MailKind, RunRecord, Wait

__all__ = [
    "LOG",
    "MAIL",
    "REST",
    "RUN_COLUMNS",
    "WIDTH",
    "Row",
    "as_json",
    "decode",
    "encode",
    "identifier",
    "log_from_arrays",
    "mail_from_arrays",
    "maybe_utc",
    "run_record",
    "utc",
    "wait_keys",
    "waits_text",
]

Row = Sequence[Any]

RUN_COLUMNS = (
    "run_id",
    "workflow_id",
    "workflow_version",
    "status",
    "input",
    "created_at",
    "updated_at",
    "due_at",
    "started_at",
    "completed_at",
    "output",
    "error",
    "waits",
    "state",
    "fence",
    "owner",
    "log_length",
    "mail_count",
    "recoveries",
    "queue",
    "key",
    "priority",
    "expires_at",
    "schedule_id",
)
"""In the order of the fields of `RunRecord`."""

WIDTH = len(RUN_COLUMNS)
"""Where in a row what belongs to a run begins: its mail, as six arrays, and its log, as two."""
MAIL = slice(WIDTH, WIDTH + 6)
LOG = slice(WIDTH + 6, WIDTH + 8)
REST = WIDTH + 8

_MARK = "\x01"


def encode(text: str | None) -> str | None:
    """A payload as a value for a `text` column. The common case costs two scans in C."""
    if text is None or (text.isascii() and "\0" not in text and not text.startswith(_MARK)):
        return text
    if "\0" in text or text.startswith(_MARK) or not _is_utf8(text):
        return _MARK + json.dumps(text)
    return text


def decode(value: str | None) -> str | None:
    """What `encode` was given."""
    if value is None or not value.startswith(_MARK):
        return value
    return json.loads(value[1:])


def as_json(rows: Iterable[Sequence[Any]]) -> tuple[str, int]:
    """Rows as two parameters: one JSON text, of an array for each, and how many they are.

    Drivers look at each element of an array that they send, and at its type, which costs more than all else that a
    group commit does. The texts have been through `encode`: JSON, and `jsonb`, hold whatever a `text` column can. The
    instants have been through `utc`: of other time zones the JSON would have the minutes only.
    """
    each = list(rows)
    return to_json(each).decode(), len(each)


def identifier(value: str, what: str) -> str:
    """An id as it is. One that no column can hold is refused: escaped, it would not be found by other clients."""
    if value.isascii() and "\0" not in value:
        return value
    if "\0" in value or not _is_utf8(value):
        raise InvalidArgumentError(f"The {what} {value!r} has a NUL or a lone surrogate, which Postgres can't hold.")
    return value


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def run_record(row: Row) -> RunRecord:
    """A row that begins with `RUN_COLUMNS`."""
    return RunRecord(
        row[0],
        row[1],
        row[2],
        row[3],
        cast("str", decode(row[4])),
        utc(row[5]),
        utc(row[6]),
        maybe_utc(row[7]),
        maybe_utc(row[8]),
        maybe_utc(row[9]),
        decode(row[10]),
        decode(row[11]),
        waits_from_text(row[12]),
        decode(row[13]),
        row[14],
        row[15],
        row[16],
        row[17],
        row[18],
        row[19],
        row[20],
        row[21],
        maybe_utc(row[22]),
        row[23],
    )


def utc(at: datetime) -> datetime:
    """An instant in UTC, whatever the time zone of the session or of the caller is."""
    return at if at.tzinfo is UTC else at.astimezone(UTC)


def maybe_utc(at: datetime | None) -> datetime | None:
    """`utc` of an instant, if it is one."""
    return at if at is None or at.tzinfo is UTC else at.astimezone(UTC)


def log_from_arrays(events: Sequence[str] | None, payloads: Sequence[str | None] | None) -> tuple[LogRecord, ...]:
    """A whole log from two arrays in the order of its index, which has no gaps."""
    if events is None or payloads is None:
        return ()
    assert len(events) == len(payloads)
    columns = cast("Iterable[str]", _decoded(events)), _decoded(payloads)
    return tuple(map(LogRecord, range(len(events)), *columns))


def _decoded(values: Sequence[str | None]) -> Iterable[str | None]:
    """`decode` of a column. Nearly none holds anything to decode, which is found out at once: it would come first."""
    return map(decode, values) if min(filter(None, values), default="~").startswith(_MARK) else values


def log_record(index: int, event: str, payload: str | None) -> LogRecord:
    return LogRecord(index, cast("str", decode(event)), decode(payload))


def mail_from_arrays(arrays: Row) -> tuple[Mail, ...]:
    """Mail from the arrays `seq`, `kind`, `id`, `name`, `payload`, `sent_at`; all None where there is none."""
    if arrays[0] is None:
        return ()
    return tuple([_mail(*fields) for fields in zip(*arrays, strict=True)])


def _mail(seq: int, kind: MailKind, id: str, name: str, payload: str, sent_at: datetime) -> Mail:
    return Mail(kind, id, cast("str", decode(name)), cast("str", decode(payload)), seq, utc(sent_at))


_plain = json.JSONEncoder(separators=(",", ":")).encode


def waits_text(waits: tuple[Wait, ...]) -> str | None:
    """Waits as JSON text, for `waits_from_text` and for people. No statement parses it."""
    if not waits:
        return None
    try:
        return encode(_plain([_wait_fields(wait) for wait in waits]))
    except (TypeError, ValueError, RecursionError) as error:
        raise PayloadError(f"The meta of a wait can't be written as JSON: {error}. Give plain JSON values.") from error


def _wait_fields(wait: Wait) -> dict[str, Any]:
    until = None if wait.until is None else wait.until.astimezone(UTC).isoformat()
    fields = {"name": wait.name, "until": until, "detail": wait.detail, "meta": wait.meta}
    return {"kind": wait.kind, "id": wait.id, **{key: value for key, value in fields.items() if value is not None}}


def waits_from_text(text: str | None) -> tuple[Wait, ...]:
    if text is None:
        return ()
    return tuple(_wait(fields) for fields in cast("list[dict[str, Any]]", json.loads(text)))


def _wait(fields: dict[str, Any]) -> Wait:
    get = fields.get
    until = get("until")
    at = None if until is None else datetime.fromisoformat(until)
    return Wait(fields["kind"], fields["id"], get("name"), at, get("detail"), get("meta"))


def wait_keys(waits: tuple[Wait, ...]) -> str:
    """The keys of the mail that would resolve one of the waits, as the text of a Postgres array.

    As text because group commits send one value for each run, and an array of arrays would have to be rectangular.
    """
    keys = [cast("str", encode(key)) for wait in waits if (key := wait.mail_key) is not None]
    if not keys:
        return "{}"
    quoted = ('"' + key.replace("\\", "\\\\").replace('"', '\\"') + '"' for key in keys)
    return "{" + ",".join(quoted) + "}"
