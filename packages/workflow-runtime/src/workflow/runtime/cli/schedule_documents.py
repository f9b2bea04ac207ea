"""The JSON documents of `workflow schedules`, and what `doctor` says about schedules."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, ConfigDict

from workflow.runtime.answers import ScheduleAnswer, ScheduleListAnswer
from workflow.runtime.runtime import WorkflowRuntime
from workflow.runtime.schedules.views import ScheduleInfo

from .words import length, local

__all__ = [
    "BackfillAnswer",
    "ScheduleAnswer",
    "ScheduleDocument",
    "ScheduleListAnswer",
    "ScheduleProblem",
    "TickAnswer",
    "schedule_problems",
]


class _Answer(BaseModel):
    model_config = ConfigDict(from_attributes=True)


class TickAnswer(_Answer):
    """What became of a tick, or of all from `tick_at` to `until`."""

    tick_at: datetime
    outcome: str
    at: datetime
    run_id: str | None = None
    until: datetime | None = None
    detail: str | None = None


class ScheduleDocument(_Answer):
    """`schedules show`: the latest ticks first. `next_before` goes on with the history, as `--before`."""

    schedule: ScheduleAnswer
    history: list[TickAnswer]
    next_before: str | None = None


class BackfillAnswer(_Answer):
    """`schedules backfill`."""

    schedule_id: str
    workflow_id: str
    run_ids: list[str]


class ScheduleProblem(_Answer):
    """What somebody may want to know about a schedule. `wrong`: it should not be so."""

    schedule_id: str
    workflow_id: str
    code: str
    summary: str
    wrong: bool = False


async def schedule_problems(runtime: WorkflowRuntime) -> list[ScheduleProblem]:
    """Schedules that don't fire: by somebody's wish, for want of a process that has them, or of one that looks."""
    if not runtime.store.capabilities.schedules:
        return []
    now = runtime.clock.now()
    found: list[ScheduleProblem] = []
    for info in await runtime.list_schedules():
        problem = _problem(info, now)
        if problem is not None:
            code, summary, wrong = problem
            found.append(
                ScheduleProblem(
                    schedule_id=info.id, workflow_id=info.workflow_id, code=code, summary=summary, wrong=wrong
                )
            )
    return found


def _problem(info: ScheduleInfo, now: datetime) -> tuple[str, str, bool] | None:
    if info.paused:
        reason = "" if info.pause_reason is None else f": {info.pause_reason}"
        return "paused", f"Paused since {local(info.paused_at)}{reason}.", False
    if not info.registered:
        return "unregistered", "Not registered with this app: no process of it starts its runs.", False
    if info.superseded:
        return "superseded", f"Other processes go by another version of it ({info.spec}).", False
    if info.next_at is not None and info.is_overdue(now):
        late = length(now - info.next_at)
        return "overdue", f"Due for {late}, and nobody looks: start a worker, or see why the sweeps don't come.", True
    return None
