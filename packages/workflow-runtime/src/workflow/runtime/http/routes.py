"""The table of routes: what the app dispatches by, and what its OpenAPI document is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import BaseModel

from workflow.runtime.answers import (
    RunAnswer,
    RunPageAnswer,
    RunResultAnswer,
    ScheduleAnswer,
    ScheduleListAnswer,
    SweepAnswer,
    TimelineAnswer,
)

from .bodies import (
    ApproveBody,
    CancelBody,
    EventsQuery,
    ListQuery,
    PauseBody,
    Query,
    ResumeBody,
    RetryBody,
    SchedulesQuery,
    SignalBody,
    StartBody,
    StreamQuery,
    SweepBody,
    TriggerBody,
)

__all__ = ["ROUTES", "Match", "Route", "find_route"]


Answers = Mapping[int, tuple[str, type[BaseModel] | None]]
"""For each status of success, what it means and what comes with it."""


@dataclass(frozen=True, kw_only=True)
class Route:
    """One operation. `name` is the method of `Operations` that does it."""

    name: str
    method: str
    path: str
    summary: str
    body: type[BaseModel] | None = None
    body_required: bool = True
    query: type[Query] | None = None
    answers: Answers
    problems: tuple[int, ...] = ()
    for_sweeps: bool = False
    """A sweep token will do."""

    @property
    def parts(self) -> list[str]:
        return self.path.strip("/").split("/")

    @property
    def id_name(self) -> str | None:
        """What the id in its path is called, if it has one: as the second part."""
        return next((part.strip("{}") for part in self.parts if _is_id(part)), None)


_STARTED = {201: ("The run was created.", RunResultAnswer), 200: ("There was a run of this id.", RunResultAnswer)}
_DRIVEN = {200: ("What became of the run.", RunResultAnswer)}
_SCHEDULE = {200: ("The schedule.", ScheduleAnswer)}

ROUTES: tuple[Route, ...] = (
    Route(
        name="start_run",
        method="POST",
        path="/runs",
        summary="Start a run",
        body=StartBody,
        answers=_STARTED,
        problems=(404, 409),
    ),
    Route(
        name="list_runs",
        method="GET",
        path="/runs",
        summary="List runs, newest first",
        query=ListQuery,
        answers={200: ("A page of runs.", RunPageAnswer)},
    ),
    Route(
        name="get_run",
        method="GET",
        path="/runs/{run_id}",
        summary="Get a run",
        answers={200: ("The run.", RunAnswer)},
        problems=(404,),
    ),
    Route(
        name="get_timeline",
        method="GET",
        path="/runs/{run_id}/timeline",
        summary="Get the logged events of a run",
        query=EventsQuery,
        answers={200: ("Events, in order.", TimelineAnswer)},
        problems=(404,),
    ),
    Route(
        name="stream_events",
        method="GET",
        path="/runs/{run_id}/stream",
        summary="Follow the events of a run (server-sent events)",
        query=StreamQuery,
        answers={
            200: ("Events as they are committed, until the run ends.", None),
            204: ("There will be no more.", None),
        },
        problems=(404,),
    ),
    Route(
        name="deliver_signal",
        method="POST",
        path="/runs/{run_id}/signals",
        summary="Deliver a signal",
        body=SignalBody,
        answers=_DRIVEN,
        problems=(404, 409),
    ),
    Route(
        name="deliver_approval",
        method="POST",
        path="/runs/{run_id}/approvals",
        summary="Deliver a decision on an approval",
        body=ApproveBody,
        answers=_DRIVEN,
        problems=(404, 409),
    ),
    Route(
        name="cancel_run",
        method="POST",
        path="/runs/{run_id}/cancel",
        summary="Cancel a run",
        body=CancelBody,
        body_required=False,
        answers=_DRIVEN,
        problems=(404,),
    ),
    Route(
        name="retry_run",
        method="POST",
        path="/runs/{run_id}/retry",
        summary="Let a run that has failed go on",
        body=RetryBody,
        body_required=False,
        answers=_DRIVEN,
        problems=(404, 409),
    ),
    Route(
        name="list_schedules",
        method="GET",
        path="/schedules",
        summary="List schedules",
        query=SchedulesQuery,
        answers={200: ("All schedules.", ScheduleListAnswer)},
    ),
    Route(
        name="get_schedule",
        method="GET",
        path="/schedules/{schedule_id}",
        summary="Get a schedule",
        query=SchedulesQuery,
        answers=_SCHEDULE,
        problems=(404,),
    ),
    Route(
        name="pause_schedule",
        method="POST",
        path="/schedules/{schedule_id}/pause",
        summary="Pause a schedule",
        body=PauseBody,
        body_required=False,
        answers=_SCHEDULE,
        problems=(404,),
    ),
    Route(
        name="resume_schedule",
        method="POST",
        path="/schedules/{schedule_id}/resume",
        summary="Resume a schedule",
        body=ResumeBody,
        body_required=False,
        answers=_SCHEDULE,
        problems=(404,),
    ),
    Route(
        name="trigger_schedule",
        method="POST",
        path="/schedules/{schedule_id}/trigger",
        summary="Start a run of a schedule now",
        body=TriggerBody,
        body_required=False,
        answers=_STARTED,
        problems=(404,),
    ),
    Route(
        name="sweep",
        method="POST",
        path="/sweep",
        summary="Do what is due",
        body=SweepBody,
        body_required=False,
        answers={200: ("What the sweep did.", SweepAnswer)},
        for_sweeps=True,
    ),
    Route(
        name="get_openapi",
        method="GET",
        path="/openapi.json",
        summary="This document",
        answers={200: ("An OpenAPI 3.1 document.", None)},
    ),
)


@dataclass(frozen=True, slots=True)
class Match:
    """What a path comes to: the route for the method if there is one, the methods that there are, the id in it."""

    route: Route | None
    methods: tuple[str, ...]
    id: str | None


def find_route(method: str, segments: list[str] | None) -> Match:
    """The route of a path, whose segments are decoded."""
    fitting = [route for route in ROUTES if segments is not None and _fits(route.parts, segments)]
    wanted = "GET" if method == "HEAD" else method
    found = next((route for route in fitting if route.method == wanted), None)
    id = segments[1] if segments and fitting and fitting[0].id_name is not None else None
    return Match(found, tuple(route.method for route in fitting), id)


def _fits(parts: list[str], segments: list[str]) -> bool:
    return len(parts) == len(segments) and all(
        part == segment or (_is_id(part) and segment != "") for part, segment in zip(parts, segments, strict=True)
    )


def _is_id(part: str) -> bool:
    return part.startswith("{")
