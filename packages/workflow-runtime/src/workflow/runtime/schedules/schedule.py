"""`Schedule`: what a user writes to have a workflow started again and again."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import KW_ONLY, dataclass
from datetime import datetime, timedelta
from inspect import iscoroutinefunction
from typing import Any, Literal, get_args

from workflow.core import DefinitionError
from workflow.core.arguments import MAX_IDENTIFIER, Duration, identifier
from workflow.core.records import NewRun
from workflow.runtime.spans import count, span

from .records import ScheduleKey
from .spec import Spec

__all__ = ["Overlap", "Registered", "Schedule", "checked_schedules", "instant_text"]

Overlap = Literal["skip", "allow", "buffer_one", "cancel_previous", "terminate_previous"]

_MOST_CAUGHT_UP = 10_000
_ROOM = 48
"""What a run's id has behind the ids of its workflow and schedule, at most."""


@dataclass(frozen=True, eq=False)
class Schedule:
    """Starts a run of its workflow at every tick of `spec`. Give it to `Registration(schedules=[...])`.

    - `input`: the input of the runs, or a function that makes it of the tick's time (an aware datetime in UTC). It must
      fit the workflow's input; a tick for which it doesn't starts no run, and its history says why.
    - `overlap`: what happens at a tick while a run of this schedule has not ended. `"skip"`: nothing; `"allow"`: both
      run; `"buffer_one"`: one tick waits for the end of the run; `"cancel_previous"`: the run is asked to cancel, and
      the tick waits for its end; `"terminate_previous"`: the run is ended at once, without a chance to clean up.
    - `catch_up`: which ticks that nobody was there for are made up for: at most the last so many (a whole number), or
      all that are no older than that (a timedelta). The others are `missed`.
    - `enabled`: False stops it, with a deployment; `runtime.pause_schedule` does without.
    - `jitter`: each tick's run starts a while after it, between nothing and so long: the same on every host, another
      for every tick.

    Raises `DefinitionError` or `InvalidArgumentError` for what can't be meant.
    """

    id: str
    spec: Spec
    _: KW_ONLY
    input: Any | Callable[[datetime], Any] = None
    overlap: Overlap = "skip"
    catch_up: int | timedelta = 1
    enabled: bool = True
    jitter: Duration | None = None

    def __post_init__(self) -> None:
        identifier(self.id, "schedule id")
        if not isinstance(self.spec, Spec):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise DefinitionError(
                f"Schedule {self.id!r}: write its spec as cron('0 9 * * *') or every.minutes(15), not {self.spec!r}."
            )
        if self.overlap not in get_args(Overlap):
            known = ", ".join(get_args(Overlap))
            raise DefinitionError(f"Schedule {self.id!r}: overlap is one of {known}, not {self.overlap!r}.")
        if iscoroutinefunction(self.input):
            raise DefinitionError(f"Schedule {self.id!r}: input must not be async. Do what it does in a step.")
        if not isinstance(self.enabled, bool):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise DefinitionError(f"Schedule {self.id!r}: enabled is True or False, not {self.enabled!r}.")
        _check_catch_up(self)
        _check_jitter(self)

    @property
    def identity(self) -> str:
        """What a change of means a changed schedule: the ticks that it has."""
        return self.spec.text if self.enabled else f"disabled: {self.spec.text}"


def _check_catch_up(schedule: Schedule) -> None:
    name = f"catch_up of schedule {schedule.id!r}"
    if isinstance(schedule.catch_up, timedelta):
        if not span(schedule.catch_up, name):
            raise DefinitionError(f"{name} must be longer than nothing: every tick is seen a little late.")
        return
    if count(schedule.catch_up, name, least=1) > _MOST_CAUGHT_UP:
        raise DefinitionError(f"{name} is at most {_MOST_CAUGHT_UP} ticks. Give a timedelta, or use runtime.backfill.")


def _check_jitter(schedule: Schedule) -> None:
    if schedule.jitter is None:
        return
    jitter = span(schedule.jitter, f"jitter of schedule {schedule.id!r}")
    gap = schedule.spec.shortest_gap()
    if jitter > gap:
        raise DefinitionError(
            f"jitter of schedule {schedule.id!r} is {jitter}, longer than the time between two ticks ({gap})."
        )


@dataclass(frozen=True)
class Registered:
    """A schedule of a workflow of this process."""

    key: ScheduleKey
    schedule: Schedule
    make_run: Callable[[datetime, str, datetime], NewRun]
    """From the tick, the run's id and now. Raises `TickInputError` for an input that can't be had."""

    def fires_at(self, tick: datetime) -> datetime:
        """When the tick's run starts: a fixed part of the jitter later, which only the tick decides."""
        if self.schedule.jitter is None:
            return tick
        digest = hashlib.sha256(self.run_id(tick).encode()).digest()
        share = int.from_bytes(digest[:8]) / 2**64
        return tick + span(self.schedule.jitter, "jitter") * share

    def run_id(self, tick: datetime) -> str:
        """The same on every host: whoever comes second finds the run there."""
        return f"{self.key.workflow_id}:{self.key.schedule_id}:{instant_text(tick)}"


def instant_text(at: datetime) -> str:
    """An instant in UTC as ISO 8601: 2026-11-22T10:15:00Z."""
    return at.isoformat().replace("+00:00", "Z")


def checked_schedules(workflow_id: str, schedules: Iterable[Any]) -> tuple[Schedule, ...]:
    """The schedules of one workflow. Raises `DefinitionError` where two have one id, or something is no schedule."""
    if not isinstance(schedules, Iterable):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise DefinitionError(f"schedules of workflow {workflow_id!r} is a list of schedules, not {schedules!r}.")
    found: dict[str, Schedule] = {}
    for schedule in schedules:
        if not isinstance(schedule, Schedule):
            raise DefinitionError(
                f"schedules of workflow {workflow_id!r}: {schedule!r} is no Schedule. "
                "Write Schedule('id', every.minutes(15))."
            )
        if schedule.id in found:
            raise DefinitionError(f"Workflow {workflow_id!r} has two schedules {schedule.id!r}: give each its own id.")
        if len(f"{workflow_id}{schedule.id}".encode()) + _ROOM > MAX_IDENTIFIER:
            raise DefinitionError(f"The ids of workflow {workflow_id!r} and its schedule {schedule.id!r} are too long.")
        found[schedule.id] = schedule
    return tuple(found.values())
