"""What people do with schedules: look, pause, resume, start one now, start what was missed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from itertools import islice
from typing import Any
from uuid import uuid4

from workflow.core import InvalidArgumentError, PayloadError, StoreError
from workflow.core.arguments import Duration, aware, identifier
from workflow.core.deliveries import reason_text
from workflow.runtime.results import RunResult
from workflow.runtime.schedules import interventions
from workflow.runtime.schedules.materializing import after_commit
from workflow.runtime.schedules.planning import TickInputError, first_sight
from workflow.runtime.schedules.records import ScheduleCommit, ScheduleKey, ScheduleRecord
from workflow.runtime.schedules.schedule import Registered
from workflow.runtime.schedules.views import (
    Backfill,
    ScheduleHistory,
    ScheduleInfo,
    ScheduleNotFoundError,
    read_place,
    view,
    view_tick,
    write_place,
)
from workflow.runtime.spans import count, wanted_id

from .parts import RuntimeParts

__all__ = ["Scheduling"]

_RACES = 20
_BATCH = 100
"""How many runs a backfill starts in one commit."""


class Scheduling(RuntimeParts):
    """The verbs of schedules. A schedule is named by its id, and by its workflow where two have one of that id."""

    async def list_schedules(self, *, workflow_id: str | None = None) -> tuple[ScheduleInfo, ...]:
        """All schedules that the store knows or this runtime has registered, by workflow and id."""
        wanted_id(workflow_id, "workflow_id")
        rows = {record.key: record for record in await self.store.read_schedules()}
        keys = {*rows, *self._registered_keys}
        wanted = [key for key in keys if workflow_id in (None, key.workflow_id)]
        return tuple(view(rows.get(key), self._registered_keys.get(key)) for key in sorted(wanted, key=_order))

    async def get_schedule(self, schedule_id: str, *, workflow_id: str | None = None) -> ScheduleInfo | None:
        """The schedule, or None. Raises `InvalidArgumentError` if two workflows have one of this id."""
        try:
            key = await self._schedule_key(schedule_id, workflow_id)
        except ScheduleNotFoundError:
            return None
        return self._info(key, await self._read_schedule(key))

    async def schedule_history(
        self, schedule_id: str, *, workflow_id: str | None = None, limit: int = 50, before: str | None = None
    ) -> ScheduleHistory:
        """What became of its ticks, the latest first. `before` is `next_before` of the part read last."""
        place = None if before is None else read_place(before)
        key = await self._schedule_key(schedule_id, workflow_id)
        found = await self.store.list_ticks(key, limit=count(limit, "limit", least=1) + 1, before=place)
        shown = found[:limit]
        next_before = write_place(shown[-1][0]) if len(found) > limit else None
        return ScheduleHistory(tuple(view_tick(record) for _, record in shown), next_before)

    async def pause_schedule(
        self,
        schedule_id: str,
        *,
        workflow_id: str | None = None,
        reason: str | None = None,
        now: datetime | None = None,
    ) -> ScheduleInfo:
        """Let it start nothing until it is resumed, on all hosts, through all deployments. Idempotent.

        Runs under way go on. A tick that waits for them is dropped. Raises `ScheduleNotFoundError`.
        """
        reason_text(reason, "The reason to pause")
        key = await self._schedule_key(schedule_id, workflow_id)
        at = self._budget(now, None).clock.now()
        return self._info(key, await self._move(key, at, lambda record: interventions.pause(record, at, reason)))

    async def resume_schedule(
        self, schedule_id: str, *, workflow_id: str | None = None, now: datetime | None = None
    ) -> ScheduleInfo:
        """Let it go on with its first tick after now; the ones before are not made up for. Idempotent.

        Raises `ScheduleNotFoundError`.
        """
        key = await self._schedule_key(schedule_id, workflow_id)
        at, mine = self._budget(now, None).clock.now(), self._registered_keys.get(key)
        return self._info(key, await self._move(key, at, lambda record: interventions.resume(record, at, mine)))

    async def trigger_schedule(
        self,
        schedule_id: str,
        *,
        workflow_id: str | None = None,
        trigger_id: str | None = None,
        drive: bool = True,
        max_duration: Duration | None = None,
        include_events: bool = True,
        now: datetime | None = None,
    ) -> RunResult[Any]:
        """Start a run of it now, beside its ticks, and drive it; with `drive=False` leave that to a sweep or worker.

        It starts whatever runs already and even while the schedule is paused; later ticks find it under way, as any
        run of the schedule. An `input` that is a function is called with the time of this call. Idempotent by
        `trigger_id`, where one is given. Raises `ScheduleNotFoundError`, `InvalidArgumentError` if it is not registered
        here, and `PayloadError` if its input can't be made.
        """
        key = await self._schedule_key(schedule_id, workflow_id)
        mine = self._mine(key)
        budget = self._budget(now, max_duration)
        at = budget.clock.now()
        manual = uuid4() if trigger_id is None else identifier(trigger_id, "trigger_id")
        run_id = identifier(f"{key.workflow_id}:{key.schedule_id}:manual:{manual}", "run_id")
        unless = run_id if trigger_id is not None else None
        moved = await self._move(
            key, at, lambda record: _with_input(interventions.trigger, record, at, mine, run_id), unless=unless
        )
        run = await self.store.get_run(run_id)
        if run is None:
            return RunResult("not_found", run_id, key.workflow_id)
        if moved is None:
            return self._state_result(run, run.status)
        claimed = await self._claim_one(run, at) if drive else None
        if claimed is None:
            self._bell.ring(at)
            return self._state_result(run, run.status, created=True)
        result = await self._driver.drive(claimed, self.owner, budget, keep_events=include_events)
        return replace(result, created=True)

    async def backfill(
        self,
        schedule_id: str,
        start: datetime,
        end: datetime,
        *,
        workflow_id: str | None = None,
        limit: int = 1000,
        on_progress: Callable[[int, int], object] | None = None,
        now: datetime | None = None,
    ) -> Backfill:
        """Start the runs of all its ticks from `start` to `end` (both included), whatever runs already.

        They get the run ids that their ticks have, so that those which have run are passed over, and it is safe to
        repeat this after a crash. The runs are enqueued, a hundred in one commit; sweeps and workers drive them.
        `on_progress(done, total)` is called after each commit.

        Raises `InvalidArgumentError` for an end in the future, or more than `limit` ticks (nothing is started then),
        and as `trigger_schedule` does.
        """
        key = await self._schedule_key(schedule_id, workflow_id)
        mine, at = self._mine(key), self._budget(now, None).clock.now()
        ticks = _ticks(mine, aware(start, "start"), aware(end, "end"), at, count(limit, "limit", least=1))
        for first in range(0, len(ticks), _BATCH):
            batch = ticks[first : first + _BATCH]
            await self._move(
                key, at, lambda record, batch=batch: _with_input(interventions.backfill, record, at, mine, batch)
            )
            self._bell.ring(at)
            if on_progress is not None:
                on_progress(first + len(batch), len(ticks))
        return Backfill(key.schedule_id, key.workflow_id, tuple(mine.run_id(tick) for tick in ticks))

    # Finding them

    @property
    def _registered_keys(self) -> dict[ScheduleKey, Registered]:
        return {item.key: item for item in self._schedules}

    def _info(self, key: ScheduleKey, record: ScheduleRecord | None) -> ScheduleInfo:
        return view(record, self._registered_keys.get(key))

    def _mine(self, key: ScheduleKey) -> Registered:
        mine = self._registered_keys.get(key)
        if mine is None:
            raise InvalidArgumentError(
                f"Schedule {key.schedule_id!r} of workflow {key.workflow_id!r} is not registered with this runtime, so "
                "its times and input are not known here."
            )
        return mine

    async def _schedule_key(self, schedule_id: str, workflow_id: str | None) -> ScheduleKey:
        identifier(schedule_id, "schedule_id")
        wanted_id(workflow_id, "workflow_id")
        rows = await self.store.read_schedules()
        known = {*self._registered_keys, *(record.key for record in rows)}
        found = [key for key in known if key.schedule_id == schedule_id and workflow_id in (None, key.workflow_id)]
        if not found:
            of = "" if workflow_id is None else f" of workflow {workflow_id!r}"
            ids = ", ".join(sorted({repr(key.schedule_id) for key in known})) or "none"
            raise ScheduleNotFoundError(f"There is no schedule {schedule_id!r}{of}. There are: {ids}.")
        if len(found) > 1:
            ids = ", ".join(sorted(repr(key.workflow_id) for key in found))
            raise InvalidArgumentError(f"The workflows {ids} each have a schedule {schedule_id!r}: give workflow_id=.")
        return found[0]

    async def _read_schedule(self, key: ScheduleKey) -> ScheduleRecord | None:
        return next(iter(await self.store.read_schedules([key])), None)

    # Moving them

    async def _move(
        self,
        key: ScheduleKey,
        now: datetime,
        decide: Callable[[ScheduleRecord], ScheduleCommit | None],
        *,
        unless: str | None = None,
    ) -> ScheduleRecord | None:
        """Do what is decided about the row, made now if it has to be; decided anew where somebody else moved it.

        None, and nothing is done, where there is a run of the id `unless`. That is asked after the row was read:
        whoever starts the run between the two moves the row, and the commit is refused.
        """
        for _ in range(_RACES):
            record = await self._read_schedule(key)
            if unless is not None and await self.store.get_run(unless) is not None:
                return None
            commit = first_sight(self._mine(key), now) if record is None else decide(record)
            if commit is None:
                return record
            if await self.store.commit_schedule(commit) and record is not None:
                return after_commit(record, commit)
        raise StoreError(f"Schedule {key.schedule_id!r} is moved by others all the time. Try again.")


def _order(key: ScheduleKey) -> tuple[str, str]:
    return key.workflow_id, key.schedule_id


def _with_input(make: Callable[..., ScheduleCommit], *arguments: Any) -> ScheduleCommit:
    try:
        return make(*arguments)
    except TickInputError as error:
        raise PayloadError(str(error)) from error


def _ticks(mine: Registered, start: datetime, end: datetime, now: datetime, limit: int) -> list[datetime]:
    name = mine.key.schedule_id
    if end > now:
        raise InvalidArgumentError(
            f"end is in the future ({end.isoformat()}): these ticks of {name!r} come by themselves."
        )
    if start > end:
        raise InvalidArgumentError(f"start ({start.isoformat()}) is after end ({end.isoformat()}).")
    ticks = list(islice(mine.schedule.spec.between(start, end), limit + 1))
    if len(ticks) > limit:
        raise InvalidArgumentError(
            f"Schedule {name!r} has more than {limit} ticks from {start.isoformat()} to {end.isoformat()}. Nothing was "
            "started. Give a shorter time, or a higher limit=."
        )
    return ticks
