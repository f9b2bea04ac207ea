"""The parameters of commits, and what an answer, or the lack of one, means."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from workflow.core.errors import InvalidArgumentError, LeaseLostError, LogConflictError
from workflow.core.records import ENDED, Commit, Committed, Mail, RunRecord, Transition

from .rows import Row, encode, identifier, mail_from_arrays, maybe_utc, utc, wait_keys, waits_text

__all__ = [
    "GOES_ON",
    "RELEASED",
    "answer_from_row",
    "append_args",
    "check_commit",
    "commit_args",
    "commit_row",
    "finish_args",
    "is_short",
    "outcome_of",
    "size_of",
]

GOES_ON, RELEASED = Committed(False), Committed(True)


def check_commit(commit: Commit) -> None:
    """Refuse what no statement could write."""
    identifier(commit.run_id, "run id")
    records = commit.records
    first = commit.expected_index
    if records and (records[0].index != first or records[-1].index != first + len(records) - 1):
        raise InvalidArgumentError(f"The records of a commit to run {commit.run_id!r} do not begin at index {first}.")


def size_of(commit: Commit) -> int:
    """About how many characters it writes, without looking at short ones."""
    size = len(commit.state or "")
    for record in commit.records:
        size += len(record.event) + len(record.payload or "")
    return size


def is_short(commit: Commit) -> bool:
    """Whether one of the short statements does it."""
    if commit.consumed or not 1 <= len(commit.records) <= 2:
        return False
    return commit.transition is None or commit.transition.status in ENDED


def append_args(commit: Commit) -> list[Any]:
    return _short_args(commit, (commit.lease.until,))


def finish_args(commit: Commit, transition: Transition) -> list[Any]:
    status, _, *ending = _move(transition)
    return _short_args(commit, (status, *ending))


def _short_args(commit: Commit, changes: Sequence[Any]) -> list[Any]:
    args = [commit.run_id, commit.fence, commit.expected_index, commit.now, encode(commit.state), *changes]
    for record in commit.records:
        args += (encode(record.event), encode(record.payload))
    return args


def commit_args(commit: Commit) -> tuple[Any, ...]:
    """For the statement for one."""
    records = commit.records
    moved = (None,) * 7 if commit.transition is None else _move(commit.transition)
    events, payloads = [encode(record.event) for record in records], [encode(record.payload) for record in records]
    return (*_asked(commit), *moved, events, payloads)


def commit_row(commit: Commit) -> tuple[Any, ...]:
    """For the statement for many. What is not there at its end is null."""
    records = [(encode(record.event), encode(record.payload)) for record in commit.records]
    transition = commit.transition
    return (*_asked(commit), records) if transition is None else (*_asked(commit), records, *_move(transition))


def _asked(commit: Commit) -> tuple[Any, ...]:
    consumed = commit.consumed
    return (
        commit.run_id,
        commit.fence,
        commit.expected_index,
        len(commit.records),
        utc(commit.now),
        utc(commit.lease.until),
        commit.seen_mail,
        "{" + ",".join(map(str, consumed)) + "}" if consumed else None,
        encode(commit.state),
    )


def _move(transition: Transition) -> tuple[Any, ...]:
    waits = transition.waits
    return (
        transition.status,
        maybe_utc(transition.due_at),
        None if waits is None else waits_text(waits),
        None if waits is None else wait_keys(waits),
        encode(transition.output),
        encode(transition.error),
        transition.recoveries,
    )


def answer_from_row(row: Row) -> Committed | None:
    """The answer of a commit that was applied; None where there is news that its snapshot did not show."""
    released, unread = row[1], row[2]
    if not unread:
        return RELEASED if released else GOES_ON
    mail = mail_from_arrays(row[3:9])
    return Committed(released, mail) if len(mail) == unread else None


def outcome_of(commit: Commit, run: RunRecord | None, mail: tuple[Mail, ...]) -> Committed | Exception | None:
    """What became of a commit that a statement did not apply, by the row and its mail as they are now.

    None: nothing speaks against it, so another transaction held the row at that moment.
    """
    if run is None or run.fence != commit.fence:
        return LeaseLostError(commit.run_id, commit.fence)
    if run.status == "running" and run.log_length == commit.expected_index:
        return None
    if _has_applied(commit, run, mail):
        return news(run, mail)
    if run.status != "running":
        return LeaseLostError(commit.run_id, commit.fence)
    return LogConflictError(commit.run_id, commit.expected_index, run.log_length)


def news(run: RunRecord, mail: tuple[Mail, ...]) -> Committed:
    return Committed(run.status != "running", () if run.status in ENDED else mail)


def _has_applied(commit: Commit, run: RunRecord, mail: tuple[Mail, ...]) -> bool:
    """Whether this very commit left the run as it is: an earlier try, whose answer was lost."""
    if run.log_length != commit.expected_index + len(commit.records):
        return False
    transition = commit.transition
    if transition is None:
        return run.status == "running"
    if transition.status == "paused" and run.status == "running":
        return bool(mail)  # the pause was refused for it
    # Awaited mail makes a paused run ready, which doesn't undo the commit that paused it.
    return run.status == transition.status or (transition.status == "paused" and run.status == "queued")
