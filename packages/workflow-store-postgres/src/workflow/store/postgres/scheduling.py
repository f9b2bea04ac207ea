"""Schedules as a store sees them, and runs that are reopened."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from datetime import datetime
from typing import Any

from workflow.core.errors import InvalidArgumentError
from workflow.core.records import LogRecord, NewMail, NewRun, RunRecord
from workflow.runtime.contract import TICKS_KEPT
from workflow.runtime.schedules.records import ScheduleCommit, ScheduleKey, ScheduleRecord, TickRecord

from .connector import Connector, UndoError
from .creations import check_new
from .drivers import BusyError, Driver
from .rows import Row, as_json, decode, encode, identifier, maybe_utc, utc
from .statements import Statements

__all__ = ["commit_schedule", "is_reopenable", "keys_args", "reopen_args", "schedule_record", "tick_record"]

_PAUSES = (0.002, 0.005, 0.01, 0.02, 0.05)


class _StaleError(UndoError):
    """The schedule has another revision."""


class _HeldError(UndoError):
    """Another transaction holds one of the runs at this moment."""


async def commit_schedule(connector: Connector, sql: Statements, commit: ScheduleCommit) -> bool:
    """See `ExecutionStore.commit_schedule`."""
    _check(commit)
    args = _move_args(commit)
    if not commit.cancel and not commit.terminate:
        return bool(await _until_free(lambda: connector.fetch(sql.move_schedule, *args)))

    async def work(driver: Driver) -> None:
        if not await driver.fetch(sql.move_schedule, args):
            raise _StaleError
        await _stop_runs(driver, sql, commit)

    try:
        await _until_free(lambda: connector.transaction(work))
    except _StaleError:
        return False
    return True


async def _until_free(once: Callable[[], Awaitable[Any]]) -> Any:
    """Do it again for as long as another transaction is in its way."""
    pauses = iter(_PAUSES)
    while True:
        try:
            return await once()
        except (_HeldError, BusyError):
            await asyncio.sleep(next(pauses, _PAUSES[-1]))


async def _stop_runs(driver: Driver, sql: Statements, commit: ScheduleCommit) -> None:
    run_ids = list(dict.fromkeys((*commit.cancel, *commit.terminate)))
    ((held, known),) = await driver.fetch(sql.lock_runs, (run_ids,))
    if held != known:
        raise _HeldError
    mail = commit.cancel_mail
    if commit.cancel and mail is not None:
        each = dict.fromkeys(commit.cancel)
        text = (encode(mail.name), encode(mail.payload), encode(mail.key))
        rows = [(run_id, mail.kind, mail.id, *text, utc(commit.now), None, None) for run_id in each]
        await driver.fetch(sql.deliver_many, as_json(rows))
    if commit.terminate:
        await driver.fetch(sql.terminate, (list(commit.terminate), commit.now, encode(commit.termination)))


def _check(commit: ScheduleCommit) -> None:
    _key(commit.key)
    for new in commit.starts:
        check_new(new)
    for run_id in (*commit.cancel, *commit.terminate, *(tick.run_id or "" for tick in commit.ticks)):
        identifier(run_id, "run id")
    if commit.cancel and commit.cancel_mail is None:
        raise InvalidArgumentError("A commit that cancels runs needs their cancel_mail.")
    if commit.terminate and commit.termination is None:
        raise InvalidArgumentError("A commit that terminates runs needs the termination, the last event of their logs.")


def _key(key: ScheduleKey) -> tuple[str, str]:
    return identifier(key.workflow_id, "workflow id"), identifier(key.schedule_id, "schedule id")


def _move_args(commit: ScheduleCommit) -> tuple[Any, ...]:
    ticks = [
        (tick.tick_at, tick.outcome, tick.at, tick.run_id, tick.until, encode(tick.detail)) for tick in commit.ticks
    ]
    starts = {new.run_id: new for new in reversed(commit.starts)}  # of two of one id the first counts
    records = [
        (new.run_id, record.index, encode(record.event), encode(record.payload))
        for new in starts.values()
        for record in new.log
    ]
    return (
        *_key(commit.key),
        commit.expected_revision,
        commit.now,
        commit.due_at,
        commit.paused,
        encode(commit.data),
        TICKS_KEPT,
        *_columns(ticks, 6),
        *_columns([_start(new) for new in starts.values()], 12),
        *_columns(records, 4),
    )


def _start(new: NewRun) -> tuple[Any, ...]:
    ids = (new.run_id, new.workflow_id, new.workflow_version, encode(new.input), new.due_at)
    more = (new.queue, new.key, new.priority, new.expires_at, new.schedule_id)
    return (*ids, *more, encode(new.state), len(new.log))


def _columns(rows: Iterable[tuple[Any, ...]], width: int) -> list[list[Any]]:
    columns = [list(column) for column in zip(*rows, strict=True)]
    return columns or [[] for _ in range(width)]


def keys_args(keys: Collection[ScheduleKey]) -> tuple[list[str], list[str]]:
    pairs = [_key(key) for key in keys]
    return [workflow_id for workflow_id, _ in pairs], [schedule_id for _, schedule_id in pairs]


def schedule_record(row: Row) -> ScheduleRecord:
    return ScheduleRecord(
        ScheduleKey(row[0], row[1]),
        row[2],
        maybe_utc(row[3]),
        row[4],
        decode(row[5]) or "",
        utc(row[6]),
        utc(row[7]),
        tuple(row[8] or ()),
    )


def tick_record(row: Row) -> tuple[tuple[int, int], TickRecord]:
    tick = TickRecord(utc(row[2]), row[3], utc(row[4]), row[5], maybe_utc(row[6]), decode(row[7]))
    return (row[0], row[1]), tick


def reopen_args(
    run_id: str, index: int, record: LogRecord, mail: Sequence[NewMail], expires_at: datetime | None, now: datetime
) -> tuple[Any, ...]:
    identifier(run_id, "run id")
    each = {(item.kind, identifier(item.id, f"{item.kind} id")): item for item in mail}.values()
    rows = [(item.kind, item.id, encode(item.name), encode(item.payload)) for item in each]
    return (run_id, index, now, expires_at, encode(record.event), encode(record.payload), *_columns(rows, 4))


def is_reopenable(run: RunRecord | None, index: int) -> bool:
    """Whether nothing speaks against it, so that another transaction must have held the row."""
    return run is not None and run.status in ("errored", "cancelled") and run.log_length == index
