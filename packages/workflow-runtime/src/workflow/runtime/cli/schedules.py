"""`workflow schedules ...`: look at schedules, pause and resume them, start their runs."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import datetime

import click
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from workflow.runtime.answers import RunResultAnswer
from workflow.runtime.runtime import WorkflowRuntime
from workflow.runtime.schedules.views import ScheduleNotFoundError

from .drawing import draw_result
from .schedule_documents import BackfillAnswer, ScheduleAnswer, ScheduleDocument, ScheduleListAnswer, TickAnswer
from .schedule_drawing import draw_schedule, draw_schedules, schedule_line
from .session import NO, OK, Session, command_options, wants
from .words import When

__all__ = ["schedules"]

_workflow = click.option("--workflow", "workflow_id", metavar="ID", help="Of this workflow, where two have that id.")


@click.group()
def schedules() -> None:
    """Look at schedules, pause and resume them, start their runs."""


@schedules.command("list")
@command_options
@click.option("--workflow", "workflow_id", metavar="ID", help="Of this workflow only.")
@click.pass_context
def list_(ctx: click.Context, app: str | None, as_json: bool, workflow_id: str | None) -> None:
    """List schedules: those that the app has, and those that only the store still knows."""
    session = wants(app, as_json)

    async def work(runtime: WorkflowRuntime) -> int:
        found = await runtime.list_schedules(workflow_id=workflow_id)
        document = ScheduleListAnswer(schedules=[ScheduleAnswer.model_validate(info) for info in found])
        session.answer(document, lambda console: draw_schedules(console, found))
        return OK

    ctx.exit(session.run(work))


@schedules.command()
@command_options
@click.argument("schedule_id", metavar="SCHEDULE")
@_workflow
@click.option("--limit", default=20, type=click.IntRange(1, 10000), show_default=True, help="So much of its history.")
@click.option("--before", help="Where the part of the history before this one ended.")
@click.pass_context
def show(
    ctx: click.Context,
    app: str | None,
    as_json: bool,
    schedule_id: str,
    workflow_id: str | None,
    limit: int,
    before: str | None,
) -> None:
    """Show a schedule, and what became of its last ticks."""
    session = wants(app, as_json)

    async def work(runtime: WorkflowRuntime) -> int:
        history = await runtime.schedule_history(schedule_id, workflow_id=workflow_id, limit=limit, before=before)
        info = await runtime.get_schedule(schedule_id, workflow_id=workflow_id)
        if info is None:
            raise ScheduleNotFoundError(f"There is no schedule {schedule_id!r}.")
        document = ScheduleDocument(
            schedule=ScheduleAnswer.model_validate(info),
            history=[TickAnswer.model_validate(tick) for tick in history.ticks],
            next_before=history.next_before,
        )
        session.answer(document, lambda console: draw_schedule(console, info, history))
        return OK

    ctx.exit(session.run(work))


@schedules.command()
@command_options
@click.argument("schedule_id", metavar="SCHEDULE")
@_workflow
@click.option("--reason", help="Why, for those who find it paused.")
@click.pass_context
def pause(
    ctx: click.Context, app: str | None, as_json: bool, schedule_id: str, workflow_id: str | None, reason: str | None
) -> None:
    """Let a schedule start nothing until it is resumed, on all hosts. Runs under way go on."""
    session = wants(app, as_json)

    async def work(runtime: WorkflowRuntime) -> int:
        info = await runtime.pause_schedule(schedule_id, workflow_id=workflow_id, reason=reason)
        session.answer(ScheduleAnswer.model_validate(info), lambda console: console.print(schedule_line(info)))
        return OK

    ctx.exit(session.run(work))


@schedules.command()
@command_options
@click.argument("schedule_id", metavar="SCHEDULE")
@_workflow
@click.pass_context
def resume(ctx: click.Context, app: str | None, as_json: bool, schedule_id: str, workflow_id: str | None) -> None:
    """Let a schedule go on with its next tick. What it missed meanwhile is not made up for: see backfill."""
    session = wants(app, as_json)

    async def work(runtime: WorkflowRuntime) -> int:
        info = await runtime.resume_schedule(schedule_id, workflow_id=workflow_id)
        session.answer(ScheduleAnswer.model_validate(info), lambda console: console.print(schedule_line(info)))
        return OK

    ctx.exit(session.run(work))


@schedules.command()
@command_options
@click.argument("schedule_id", metavar="SCHEDULE")
@_workflow
@click.option("--id", "trigger_id", help="Makes it idempotent; a new one unless given.")
@click.option("--enqueue", is_flag=True, help="Leave the driving to a worker or sweep.")
@click.pass_context
def trigger(
    ctx: click.Context,
    app: str | None,
    as_json: bool,
    schedule_id: str,
    workflow_id: str | None,
    trigger_id: str | None,
    enqueue: bool,
) -> None:
    """Start a run of a schedule now, whatever runs already, and drive it until it ends or pauses."""
    session = wants(app, as_json)

    async def work(runtime: WorkflowRuntime) -> int:
        result = await runtime.trigger_schedule(
            schedule_id, workflow_id=workflow_id, trigger_id=trigger_id, drive=not enqueue, include_events=False
        )
        session.answer(RunResultAnswer.of(result), lambda console: draw_result(console, result))
        return NO if result.kind in ("errored", "cancelled", "not_claimable") else OK

    ctx.exit(session.run(work))


@schedules.command()
@command_options
@click.argument("schedule_id", metavar="SCHEDULE")
@click.argument("start", type=When)
@click.argument("end", type=When, required=False)
@_workflow
@click.option("--limit", default=1000, type=click.IntRange(1), show_default=True, help="Refuse more ticks than that.")
@click.pass_context
def backfill(
    ctx: click.Context,
    app: str | None,
    as_json: bool,
    schedule_id: str,
    start: datetime,
    end: datetime | None,
    workflow_id: str | None,
    limit: int,
) -> None:
    """Start the runs of all ticks from START to END (or to now), both included, but for those that have run.

    Times are written as 2026-01-31T09:00, or as 7d, 12h, 30m ago. A worker or sweep drives the runs.
    """
    session = wants(app, as_json)

    async def work(runtime: WorkflowRuntime) -> int:
        until = min(end, runtime.clock.now()) if end is not None else runtime.clock.now()
        with _progress(session) as progress:
            done = await runtime.backfill(
                schedule_id, start, until, workflow_id=workflow_id, limit=limit, on_progress=progress
            )
        words = f"{len(done.run_ids)} runs are there" + (f", the last one {done.run_ids[-1]}." if done.run_ids else ".")
        session.answer(BackfillAnswer.model_validate(done), lambda console: console.print(words, soft_wrap=True))
        return OK

    ctx.exit(session.run(work))


@contextmanager
def _progress(session: Session) -> Generator[Callable[[int, int], object]]:
    """A bar where somebody watches; nothing where the output goes elsewhere."""
    columns = (TextColumn("Starting runs"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=session.err, transient=True, disable=not session.err.is_terminal) as bar:
        task = bar.add_task("", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
