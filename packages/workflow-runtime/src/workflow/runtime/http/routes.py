"""The table of routes: what the app dispatches by, and what its OpenAPI document is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import BaseModel

from workflow.runtime.answers import RunAnswer, RunPageAnswer, RunResultAnswer, SweepAnswer, TimelineAnswer

from .bodies import (
    ApproveBody,
    CancelBody,
    EventsQuery,
    ListQuery,
    Query,
    SignalBody,
    StartBody,
    StreamQuery,
    SweepBody,
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


_DRIVEN = {200: ("What became of the run.", RunResultAnswer)}

ROUTES: tuple[Route, ...] = (
    Route(
        name="start_run",
        method="POST",
        path="/runs",
        summary="Start a run",
        body=StartBody,
        answers={201: ("The run was created.", RunResultAnswer), 200: ("There was a run of this id.", RunResultAnswer)},
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
    """What a path comes to: the route for the method if there is one, the methods that there are, the run's id."""

    route: Route | None
    methods: tuple[str, ...]
    run_id: str | None


def find_route(method: str, segments: list[str] | None) -> Match:
    """The route of a path, whose segments are decoded."""
    fitting = [route for route in ROUTES if segments is not None and _fits(route.parts, segments)]
    wanted = "GET" if method == "HEAD" else method
    found = next((route for route in fitting if route.method == wanted), None)
    run_id = segments[1] if segments and fitting and "{run_id}" in fitting[0].parts else None
    return Match(found, tuple(route.method for route in fitting), run_id)


def _fits(parts: list[str], segments: list[str]) -> bool:
    return len(parts) == len(segments) and all(
        part == segment or (part == "{run_id}" and segment != "") for part, segment in zip(parts, segments, strict=True)
    )
