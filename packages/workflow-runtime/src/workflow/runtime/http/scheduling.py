"""What the routes of schedules do."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from workflow.runtime.answers import RunResultAnswer, ScheduleAnswer, ScheduleListAnswer
from workflow.runtime.hosting import RuntimeSource
from workflow.runtime.results import RunResult
from workflow.runtime.runtime import WorkflowRuntime
from workflow.runtime.schedules.views import ScheduleNotFoundError

from .bodies import PauseBody, ResumeBody, SchedulesQuery, TriggerBody
from .messages import Answer, Request

__all__ = ["ScheduleOperations", "answer_start"]


class ScheduleOperations:
    """One method for each route of schedules, of the same name."""

    _source: RuntimeSource

    def _driving(self, body: Any) -> dict[str, Any]:
        raise NotImplementedError

    async def list_schedules(self, request: Request, schedule_id: str) -> Answer:
        query = request.query(SchedulesQuery)
        runtime = await self._source.get()
        found = await runtime.list_schedules(workflow_id=query.workflow_id) if _has_schedules(runtime) else ()
        return Answer(ScheduleListAnswer(schedules=[ScheduleAnswer.of(info) for info in found]))

    async def get_schedule(self, request: Request, schedule_id: str) -> Answer:
        query = request.query(SchedulesQuery)
        runtime = await self._with_schedules(schedule_id)
        info = await runtime.get_schedule(schedule_id, workflow_id=query.workflow_id)
        if info is None:
            raise _not_found(schedule_id)
        return Answer(ScheduleAnswer.of(info))

    async def pause_schedule(self, request: Request, schedule_id: str) -> Answer:
        body = await request.read(PauseBody, required=False)
        runtime = await self._with_schedules(schedule_id)
        info = await runtime.pause_schedule(schedule_id, workflow_id=body.workflow_id, reason=body.reason)
        return Answer(ScheduleAnswer.of(info))

    async def resume_schedule(self, request: Request, schedule_id: str) -> Answer:
        body = await request.read(ResumeBody, required=False)
        runtime = await self._with_schedules(schedule_id)
        return Answer(ScheduleAnswer.of(await runtime.resume_schedule(schedule_id, workflow_id=body.workflow_id)))

    async def trigger_schedule(self, request: Request, schedule_id: str) -> Answer:
        body = await request.read(TriggerBody, required=False)
        runtime = await self._with_schedules(schedule_id)
        result = await runtime.trigger_schedule(
            schedule_id, workflow_id=body.workflow_id, trigger_id=body.trigger_id, **self._driving(body)
        )
        return answer_start(request, result)

    async def _with_schedules(self, schedule_id: str) -> WorkflowRuntime:
        runtime = await self._source.get()
        if not _has_schedules(runtime):
            raise _not_found(schedule_id)
        return runtime


def answer_start(request: Request, result: RunResult[Any]) -> Answer:
    """The answer to a start, which says where the run is."""
    place = f"{request.scope.get('root_path', '').rstrip('/')}{request.prefix}/runs/{quote(result.run_id, safe='')}"
    status = 201 if result.created else 200
    return Answer(RunResultAnswer.of(result), status, headers={"location": quote(place, safe="/%:")})


def _has_schedules(runtime: WorkflowRuntime) -> bool:
    return runtime.store.capabilities.schedules


def _not_found(schedule_id: str) -> ScheduleNotFoundError:
    return ScheduleNotFoundError(f"There is no schedule {schedule_id!r}.")
