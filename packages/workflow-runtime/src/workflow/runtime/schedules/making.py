"""The schedules that a process has registered, and the runs that their ticks start."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from workflow.core import DefinitionError, InvalidArgumentError, PayloadError, Workflow
from workflow.core.payload import check_size
from workflow.core.records import NewRun
from workflow.runtime.codec import CodecStore
from workflow.runtime.contract import ExecutionStore
from workflow.runtime.placing import Placement, place
from workflow.runtime.registry import Registry

from .planning import TickInputError
from .records import ScheduleKey
from .schedule import Registered, Schedule

__all__ = ["registered_schedules"]


def registered_schedules(registry: Registry, store: ExecutionStore) -> tuple[Registered, ...]:
    """All schedules of a registry. Raises `InvalidArgumentError` where the store can't do them."""
    found = tuple(
        _registered(registry, store, registration.workflow_id, schedule)
        for registration in registry.registrations
        for schedule in registration.schedules
    )
    if found and not store.capabilities.schedules:
        raise InvalidArgumentError(
            f"{type(store).__name__} can't do schedules (capabilities.schedules), and {_names(found)} is registered. "
            "Use a store that can, or let a cron service call start_run."
        )
    _check_run_ids(found)
    return found


def _names(found: Sequence[Registered]) -> str:
    return ", ".join(repr(item.key.schedule_id) for item in found)


def _check_run_ids(found: Sequence[Registered]) -> None:
    """Two schedules must not name their runs alike: the second one's would be taken for started."""
    prefixes: dict[str, ScheduleKey] = {}
    for item in found:
        prefix = f"{item.key.workflow_id}:{item.key.schedule_id}"
        if prefix in prefixes:
            raise DefinitionError(
                f"{prefixes[prefix]} and {item.key} would give their runs the same ids. Rename one of the schedules."
            )
        prefixes[prefix] = item.key


def _registered(registry: Registry, store: ExecutionStore, workflow_id: str, schedule: Schedule) -> Registered:
    def make_run(tick: datetime, run_id: str, now: datetime) -> NewRun:
        workflow = registry.find(workflow_id)
        if workflow is None:
            raise DefinitionError(f"Workflow {workflow_id!r} is not registered with this runtime.")
        text, value = _input(workflow, schedule, tick, store.capabilities.max_payload)
        new = NewRun(run_id, workflow_id, workflow.version, text, due_at=now, schedule_id=schedule.id)
        if isinstance(store, CodecStore):
            _check_encoded(store, new)
        try:
            return place(registry, new, value, Placement())
        except Exception as error:  # the key is a function of the app's
            raise TickInputError(f"No key or queue for it: {type(error).__name__}: {error}") from error

    return Registered(ScheduleKey(workflow_id, schedule.id), schedule, make_run)


def _check_encoded(store: CodecStore, new: NewRun) -> None:
    """What the store refuses when it has encoded it would be refused at every look, and hold the schedule up."""
    try:
        store.check_input(new)
    except PayloadError as error:
        raise TickInputError(str(error)) from error


def _input(workflow: Workflow[Any, Any], schedule: Schedule, tick: datetime, limit: int) -> tuple[str, Any]:
    """The input of a tick's run: as text, and as the handler will see it."""
    what = f"The input of schedule {schedule.id!r}"
    try:
        value = schedule.input(tick) if callable(schedule.input) else schedule.input
        text, value = workflow.input_type.coerce(value, what)
        check_size(text, limit, what)
    except PayloadError as error:
        raise TickInputError(str(error)) from error
    except Exception as error:
        raise TickInputError(f"{what} can't be made: {type(error).__name__}: {error}") from error
    return text, value
