"""What the routes do: requests into calls of the runtime, and results into answers."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any

from workflow.core import InvalidArgumentError
from workflow.core.arguments import identifier
from workflow.runtime.answers import RunAnswer, RunPageAnswer, RunResultAnswer, TimelineAnswer
from workflow.runtime.cursor import decode_cursor
from workflow.runtime.hosting import RuntimeSource, SweepLimits, allowance, lease_owner, sweep_within
from workflow.runtime.results import RunResult
from workflow.runtime.runtime import WorkflowRuntime

from .bodies import (
    ApproveBody,
    CancelBody,
    EventsQuery,
    ListQuery,
    RetryBody,
    SignalBody,
    StartBody,
    StreamQuery,
    SweepBody,
)
from .messages import Answer, Request
from .openapi import document
from .problems import Problem
from .scheduling import ScheduleOperations, answer_start
from .sse import EventStream

__all__ = ["Operations", "Settings", "answer_delivery"]


@dataclass(frozen=True, slots=True)
class Settings:
    """What an app was set to. See `WorkflowHTTP`."""

    max_duration: float | None
    limits: SweepLimits
    remaining: Callable[[], float | None]
    host: str
    max_stream: float | None
    heartbeat: float

    def budget(self) -> float:
        """For how long a request may drive a run."""
        return allowance(self.max_duration, self.remaining(), self.limits.margin)


class Operations(ScheduleOperations):
    """One method for each route, of the same name."""

    def __init__(self, source: RuntimeSource, settings: Settings) -> None:
        self._source = source
        self._settings = settings

    def find(self, name: str) -> Callable[[Request, str], Awaitable[Answer | EventStream]]:
        return getattr(self, name)

    async def start_run(self, request: Request, run_id: str) -> Answer:
        body = await request.read(StartBody)
        runtime = await self._source.get()
        if body.workflow_id not in runtime.workflow_ids:
            raise Problem(404, "unknown_workflow", f"There is no workflow {body.workflow_id!r} here.")
        try:
            result = await runtime.start_run(
                body.workflow_id,
                run_id=body.run_id,
                input=body.input,
                delay=body.delay,
                queue=body.queue,
                key=body.key,
                priority=body.priority,
                timeout=body.timeout,
                **self._driving(body),
            )
        except InvalidArgumentError as error:
            await _refuse_foreign(runtime, body)
            raise error
        return answer_start(request, result)

    async def list_runs(self, request: Request, run_id: str) -> Answer:
        query = request.query(ListQuery)
        if query.cursor is not None:
            _check_cursor(query.cursor)
        runtime = await self._source.get()
        return Answer(RunPageAnswer.of(await runtime.list_runs(**dict(query))))

    async def get_run(self, request: Request, run_id: str) -> Answer:
        run = await (await self._source.get()).get_run(run_id)
        if run is None:
            raise _not_found(run_id)
        return Answer(RunAnswer.of(run))

    async def get_timeline(self, request: Request, run_id: str) -> Answer:
        query = request.query(EventsQuery)
        runtime = await self._source.get()
        events = await runtime.get_timeline(run_id, after=query.after, limit=query.limit)
        return Answer(TimelineAnswer.of(events, query.limit))

    async def stream_events(self, request: Request, run_id: str) -> Answer | EventStream:
        query = request.query(StreamQuery)
        after = _last_event(request, query.after)
        runtime = await self._source.get()
        run = await runtime.get_run(run_id)
        if run is None:
            raise _not_found(run_id)
        # A browser's EventSource comes back after the end, for ever, unless it is told that there is nothing.
        if run.ended and not await runtime.get_timeline(run_id, after=after, limit=1):
            return Answer(None, 204)
        if request.method == "HEAD":
            return Answer(None, 200)
        remaining = self._settings.remaining()
        limit = self._settings.max_stream
        if remaining is not None:
            limit = allowance(limit, remaining, self._settings.limits.margin)
        return EventStream(runtime.stream(run_id, after=after), heartbeat=self._settings.heartbeat, max_duration=limit)

    async def deliver_signal(self, request: Request, run_id: str) -> Answer:
        body = await request.read(SignalBody)
        runtime = await self._source.get()
        result = await runtime.deliver_signal(
            run_id=run_id, signal_id=body.signal_id, name=body.name, payload=body.payload, **self._driving(body)
        )
        return answer_delivery(result)

    async def deliver_approval(self, request: Request, run_id: str) -> Answer:
        body = await request.read(ApproveBody)
        runtime = await self._source.get()
        result = await runtime.deliver_approval(
            run_id=run_id,
            approval_id=body.approval_id,
            approved=body.approved,
            feedback=body.feedback,
            meta=body.meta,
            **self._driving(body),
        )
        return answer_delivery(result)

    async def cancel_run(self, request: Request, run_id: str) -> Answer:
        body = await request.read(CancelBody, required=False)
        runtime = await self._source.get()
        return answer_delivery(await runtime.cancel_run(run_id, reason=body.reason, **self._driving(body)))

    async def retry_run(self, request: Request, run_id: str) -> Answer:
        body = await request.read(RetryBody, required=False)
        runtime = await self._source.get()
        try:
            result = await runtime.retry_run(
                run_id, from_step=body.from_step, reason=body.reason, **self._driving(body)
            )
        except InvalidArgumentError as error:
            await _refuse_unfailed(runtime, run_id)
            raise error
        return Answer(RunResultAnswer.of(result))

    async def sweep(self, request: Request, run_id: str) -> Answer:
        body = await request.read(SweepBody, required=False)
        settings = self._settings
        given = {name: value for name, value in dict(body).items() if value is not None}
        return Answer(
            await sweep_within(
                self._source,
                owner=lease_owner(settings.host),
                remaining=settings.remaining(),
                limits=replace(settings.limits, **given),
            )
        )

    async def get_openapi(self, request: Request, run_id: str) -> Answer:
        server = f"{request.scope.get('root_path', '').rstrip('/')}{request.prefix}" or "/"
        return Answer(_document(server))

    def _driving(self, body: Any) -> dict[str, Any]:
        return {
            "drive": body.drive,
            "include_events": body.include_events,
            "max_duration": self._settings.budget(),
        }


@functools.lru_cache(maxsize=8)
def _document(server: str) -> bytes:
    return document(server)


def checked_id(id: str, name: str) -> str:
    """The id in a path. Raises `InvalidArgumentError` for one that nothing can have."""
    return identifier(id, name)


def answer_delivery(result: RunResult[Any]) -> Answer:
    """The answer to a delivery. Asking again helps with neither of the two conflicts."""
    if result.kind == "not_found":
        raise _not_found(result.run_id)
    if result.kind == "not_waiting":
        status = result.run.status if result.run is not None else "over"
        raise Problem(409, "run_ended", f"Run {result.run_id!r} has ended ({status}): it takes no more deliveries.")
    return Answer(RunResultAnswer.of(result))


def _not_found(run_id: str) -> Problem:
    return Problem(404, "run_not_found", f"There is no run {run_id!r}.")


async def _refuse_foreign(runtime: WorkflowRuntime, body: StartBody) -> None:
    """A run id that a run of another workflow has is a conflict, and no mistake in the request."""
    run = await runtime.get_run(body.run_id) if body.run_id is not None else None
    if run is not None and run.workflow_id != body.workflow_id:
        raise Problem(409, "run_id_taken", f"Run {body.run_id!r} belongs to workflow {run.workflow_id!r}.")


async def _refuse_unfailed(runtime: WorkflowRuntime, run_id: str) -> None:
    """A run that goes on, or has completed, is a conflict, and no mistake in the request."""
    run = await runtime.get_run(run_id)
    if run is not None and run.status not in ("errored", "cancelled"):
        raise Problem(409, "run_not_failed", f"Run {run_id!r} is {run.status}: only what has failed is retried.")


def _check_cursor(cursor: str) -> None:
    """A cursor comes from outside, and may hold what a store can't look for."""
    try:
        _, run_id = decode_cursor(cursor)
    except (OverflowError, ValueError) as error:
        raise Problem(422, "invalid_argument", "That is no cursor: pass next_cursor on as it is.") from error
    identifier(run_id, "cursor")


def _last_event(request: Request, after: int) -> int:
    """Where a reader that comes back has stopped; what it asked for at first, if it hasn't."""
    last = request.header("last-event-id")
    if last is None or not (last.isascii() and last.isdigit() and len(last) <= 9):
        return after
    return max(after, int(last))
