"""The parameters of creations, and what an answer means."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from workflow.core.errors import InvalidArgumentError
from workflow.core.records import ClaimedRun, CreatedRun, Lease, NewRun, RunRecord

from .groups import Again
from .rows import WIDTH, Row, encode, identifier, maybe_utc, run_record, utc

__all__ = ["Creation", "check_new", "created", "creation_args", "is_plain", "whole_args"]

Creation = tuple[NewRun, Lease | None, datetime]

_LARGEST_PRIORITY = 2**31 - 1


def check_new(new: NewRun) -> None:
    """Refuse what no statement could write."""
    identifier(new.run_id, "run id")
    identifier(new.workflow_id, "workflow id")
    identifier(new.workflow_version or "", "workflow version")
    identifier(new.queue or "", "queue name")
    identifier(new.key or "", "key")
    identifier(new.schedule_id or "", "schedule id")
    if abs(new.priority) > _LARGEST_PRIORITY:
        raise InvalidArgumentError(f"The priority {new.priority} of run {new.run_id!r} is too far from 0.")


def is_plain(new: NewRun) -> bool:
    """Whether it begins with nothing and replaces nothing, as nearly all do."""
    return not new.log and new.state is None and not new.replace_unstarted


def creation_args(creation: Creation) -> tuple[Any, ...]:
    new, lease, now = creation
    claim = (None, None) if lease is None else (lease.owner, utc(lease.until))
    more = (new.queue, new.key, new.priority, maybe_utc(new.expires_at), new.schedule_id)
    times = (utc(now), utc(new.due_at))
    return (new.run_id, new.workflow_id, new.workflow_version, encode(new.input), *times, *claim, *more)


def whole_args(creation: Creation) -> tuple[Any, ...]:
    new = creation[0]
    events = [encode(record.event) for record in new.log]
    payloads = [encode(record.payload) for record in new.log]
    return (*creation_args(creation), encode(new.state), new.replace_unstarted, events, payloads)


def created(creation: Creation, row: Row) -> CreatedRun | type[Again]:
    new, lease, _ = creation
    if not row[1]:
        # There is one of this id; if it isn't shown, it was committed while ours was waiting for it.
        run = run_record(row[2 : 2 + WIDTH]) if row[2] is not None else None
        if run is None or (_is_replaceable(new, run) and not row[2 + WIDTH]):
            return Again
        return CreatedRun(run, created=False)
    run = _new_record(creation)
    return CreatedRun(run, created=True, claimed=None if lease is None else ClaimedRun(run, new.log, (), "queued"))


def _is_replaceable(new: NewRun, run: RunRecord) -> bool:
    """Whether it was to be replaced: if it wasn't, another transaction held it."""
    return new.replace_unstarted and run.workflow_id == new.workflow_id and run.status == "queued" and run.fence == 0


def _new_record(creation: Creation) -> RunRecord:
    new, lease, now = creation
    now = utc(now)
    fields: dict[str, Any] = {"status": "queued", "due_at": utc(new.due_at)}
    if lease is not None:
        until = utc(lease.until)
        fields = {"status": "running", "due_at": until, "started_at": now, "fence": 1, "owner": lease.owner}
    return RunRecord(
        run_id=new.run_id,
        workflow_id=new.workflow_id,
        workflow_version=new.workflow_version,
        input=new.input,
        created_at=now,
        updated_at=now,
        state=new.state,
        log_length=len(new.log),
        queue=new.queue,
        key=new.key,
        priority=new.priority,
        expires_at=maybe_utc(new.expires_at),
        schedule_id=new.schedule_id,
        **fields,
    )
