"""`check_invariants`: whether a store is in a state that the contract allows, seen from outside."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime

from workflow.core.records import RunRecord
from workflow.runtime.contract import ExecutionStore, RunFilter

__all__ = ["all_runs", "broken_invariants", "check_invariants"]


async def check_invariants(store: ExecutionStore) -> None:
    """Raise an `AssertionError` that names every run which breaks an invariant of the contract, and how.

    Works on any store and changes nothing. A run may be stuck, lost or damaged: all of that shows here.
    """
    rows = [row async for row in all_runs(store)]
    broken = [f"run {row.run_id!r}: {what}" for row in rows for what in await _broken_in_store(store, row)]
    broken += await _wrong_next_due(store, rows)
    if broken:
        raise AssertionError("The store breaks its contract:\n" + "\n".join(f"- {line}" for line in broken))


async def all_runs(store: ExecutionStore, *, page: int = 200) -> AsyncIterator[RunRecord]:
    """Every row of a store, newest first, read page by page."""
    before = None
    while True:
        rows = await store.list_runs(RunFilter(before=before, limit=page))
        for row in rows:
            yield row
        if len(rows) < page:
            return
        before = (rows[-1].created_at, rows[-1].run_id)


def broken_invariants(row: RunRecord) -> list[str]:
    """What is wrong with a row by itself, in words; empty if nothing is."""
    checks = {"running": _wrong_running, "queued": _wrong_queued, "paused": _wrong_paused}
    return [*checks.get(row.status, _wrong_ended)(row), *_wrong_times(row), *_wrong_numbers(row)]


def _wrong_running(row: RunRecord) -> list[str]:
    wrong: list[str] = []
    if row.due_at is None or row.owner is None:
        wrong.append(f"running without a lease (owner {row.owner!r}, until {row.due_at})")
    if row.fence < 1 or row.started_at is None:
        wrong.append(f"running and never claimed (fence {row.fence}, started {row.started_at})")
    return wrong + _wrong_unended(row)


def _wrong_queued(row: RunRecord) -> list[str]:
    wrong = ["queued without a due time: nobody will ever find it"] if row.due_at is None else []
    return wrong + _wrong_unowned(row) + _wrong_unended(row)


def _wrong_paused(row: RunRecord) -> list[str]:
    for_mail = any(wait.mail_key is not None for wait in row.waits)
    wrong = [] if row.due_at is not None or for_mail else ["paused, and neither a time nor mail can wake it"]
    return wrong + _wrong_unowned(row) + _wrong_unended(row)


def _wrong_ended(row: RunRecord) -> list[str]:
    wrong = [] if row.due_at is None else [f"{row.status}, and due again at {row.due_at}"]
    if row.completed_at is None:
        wrong.append(f"{row.status} without completed_at")
    return wrong + _wrong_unowned(row)


def _wrong_unowned(row: RunRecord) -> list[str]:
    return [] if row.owner is None else [f"{row.status}, and still owned by {row.owner!r}"]


def _wrong_unended(row: RunRecord) -> list[str]:
    return [] if row.completed_at is None else [f"{row.status}, and completed at {row.completed_at}"]


def _wrong_times(row: RunRecord) -> list[str]:
    named: dict[str, datetime | None] = {
        "created_at": row.created_at,
        "updated_at": row.updated_at,
        "due_at": row.due_at,
        "started_at": row.started_at,
        "completed_at": row.completed_at,
    }
    return [f"{name} is not in UTC: {at!r}" for name, at in named.items() if at is not None and not _is_utc(at)]


def _is_utc(at: datetime) -> bool:
    offset = at.utcoffset()
    return offset is not None and not offset


def _wrong_numbers(row: RunRecord) -> list[str]:
    numbers = {"fence": row.fence, "log_length": row.log_length, "mail": row.mail_count, "recoveries": row.recoveries}
    return [f"{name} is {number}" for name, number in numbers.items() if number < 0]


async def _broken_in_store(store: ExecutionStore, row: RunRecord) -> list[str]:
    broken = broken_invariants(row)
    if await store.get_run(row.run_id) != row:
        broken.append("list_runs and get_run give different rows")
    indexes = [record.index for record in await store.read_log(row.run_id)]
    if indexes != list(range(row.log_length)):
        broken.append(f"log_length is {row.log_length}, and the log has the indexes {indexes}")
    return broken


async def _wrong_next_due(store: ExecutionStore, rows: list[RunRecord]) -> list[str]:
    expected = min((row.due_at for row in rows if row.due_at is not None), default=None)
    found = await store.next_due({row.workflow_id for row in rows})
    return [] if found == expected else [f"next_due says {found}, and the earliest due run says {expected}"]
