"""D1's limits, looked at before anything is sent: what it would refuse or change is refused here, with a reason.

A row has at most 2 MB, and the row of a run holds four payloads (input, state, output, error) with what it waits for.
So a payload may have 480 kB: then no run can ever get a row that D1 would refuse half-way through its life.
"""

from __future__ import annotations

from collections.abc import Sequence

from workflow.core.errors import PayloadError
from workflow.core.records import Commit, LogRecord, NewMail, NewRun
from workflow.runtime.schedules.records import ScheduleCommit
from workflow.store.sqlite import Batch
from workflow.store.sqlite.rows import awaited_keys, waits_text

__all__ = [
    "MAX_PAYLOAD",
    "check_commit",
    "check_mail",
    "check_new_run",
    "check_records",
    "check_schedule",
    "check_text",
]

MAX_PAYLOAD = 480_000
_MAX_WAITS = 60_000

_ADVICE = "Keep large data elsewhere (R2, KV), and pass its key."


def size(text: str) -> int:
    """Bytes of UTF-8. Raises `PayloadError` for a lone surrogate, which JavaScript would replace on the way."""
    if text.isascii():
        return len(text)
    try:
        return len(text.encode())
    except UnicodeEncodeError as error:
        raise PayloadError(f"A text with a lone surrogate can't be stored: {error}. Nothing was written.") from error


def check_text(statements: Batch) -> None:
    """Refuse what no statement may bind."""
    for _, values in statements:
        for value in values:
            if isinstance(value, str):
                size(value)


def _check(what: str, text: str | None, most: int = MAX_PAYLOAD) -> None:
    if text is not None and (found := size(text)) > most:
        raise PayloadError(f"{what} has {found} bytes, and D1 takes at most {most} of them. {_ADVICE}")


def check_new_run(new: NewRun) -> None:
    _check(f"The input of run {new.run_id!r}", new.input)
    _check(f"The state of run {new.run_id!r}", new.state)
    check_records(f"of run {new.run_id!r}", new.log)


def check_records(of_run: str, records: Sequence[LogRecord]) -> None:
    for record in records:
        _check(f"Log record {record.index} {of_run}", record.event)
        _check(f"The payload of log record {record.index} {of_run}", record.payload)


def check_schedule(commit: ScheduleCommit) -> None:
    _check(f"The data of schedule {commit.key.schedule_id!r}", commit.data)
    for new in commit.starts:
        check_new_run(new)
    if commit.cancel_mail is not None:
        check_mail(commit.cancel[0] if commit.cancel else "", commit.cancel_mail)
    _check(f"The last event of what schedule {commit.key.schedule_id!r} ends", commit.termination)
    for tick in commit.ticks:
        _check(f"The detail of a tick of schedule {commit.key.schedule_id!r}", tick.detail)


def check_mail(run_id: str, mail: NewMail) -> None:
    _check(f"The payload of {mail.kind} {mail.id!r} for run {run_id!r}", mail.payload)
    _check(f"The name of {mail.kind} {mail.id!r} for run {run_id!r}", mail.name, _MAX_WAITS)


def check_commit(commit: Commit) -> None:
    of_run = f"of run {commit.run_id!r}"
    check_records(of_run, commit.records)
    _check(f"The state {of_run}", commit.state)
    if commit.transition is not None:
        _check(f"The output {of_run}", commit.transition.output)
        _check(f"The error {of_run}", commit.transition.error)
        waits = commit.transition.waits or ()
        _check(f"What the run {commit.run_id!r} waits for", waits_text(waits) + awaited_keys(waits), _MAX_WAITS)
