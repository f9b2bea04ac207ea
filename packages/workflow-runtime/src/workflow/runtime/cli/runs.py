"""`workflow runs ...`: look at runs, start them, and deliver to them."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import uuid4

import click

from workflow.core import PayloadError, RunNotFoundError
from workflow.runtime.answers import RunPageAnswer, RunResultAnswer
from workflow.runtime.results import Run, RunResult
from workflow.runtime.runtime import WorkflowRuntime

from .documents import RunDocument
from .drawing import draw_page, draw_result, draw_run
from .session import BAD_USE, NO, OK, Session, command_options, wants
from .timeline import draw_timeline, timeline_rows
from .words import JSON, When

__all__ = ["answered", "enqueue_option", "runs"]

_STATUSES = ("queued", "running", "paused", "completed", "errored", "cancelled")
enqueue_option = click.option("--enqueue", is_flag=True, help="Leave the driving to a worker or sweep.")


@click.group()
def runs() -> None:
    """Look at runs, start them, and deliver to them."""


@runs.command("list")
@command_options
@click.option("--workflow", "workflow_id", metavar="ID", help="Of this workflow only.")
@click.option("--status", multiple=True, type=click.Choice(_STATUSES), help="Of this status only; may be repeated.")
@click.option("--since", type=When, metavar="TIME", help="Created at or after: 2026-01-31T09:00, or 7d, 12h, 30m ago.")
@click.option("--until", type=When, metavar="TIME", help="Created before.")
@click.option("--limit", type=click.IntRange(1, 10000), default=50, show_default=True, help="At most so many.")
@click.option("--cursor", help="Where the page before this one ended.")
@click.pass_context
def list_(
    ctx: click.Context,
    app: str | None,
    as_json: bool,
    workflow_id: str | None,
    status: tuple[Any, ...],
    since: datetime | None,
    until: datetime | None,
    limit: int,
    cursor: str | None,
) -> None:
    """List runs, newest first."""
    session = wants(app, as_json)

    async def work(runtime: WorkflowRuntime) -> int:
        page = await runtime.list_runs(
            workflow_id=workflow_id,
            status=status or None,
            created_from=since,
            created_until=until,
            limit=limit,
            cursor=cursor,
        )
        session.answer(RunPageAnswer.of(page), lambda console: draw_page(console, page))
        return OK

    ctx.exit(session.run(work))


@runs.command()
@command_options
@click.argument("run_id")
@click.option("--events", default=1000, type=click.IntRange(0), show_default=True, help="At most so many events.")
@click.pass_context
def show(ctx: click.Context, app: str | None, as_json: bool, run_id: str, events: int) -> None:
    """Show a run: what it waits for, and its timeline."""
    session = wants(app, as_json)

    async def work(runtime: WorkflowRuntime) -> int:
        run = await runtime.get_run(run_id)
        if run is None:
            raise RunNotFoundError(run_id)
        diagnosis = await runtime.why_stuck(run_id)
        found = await runtime.get_timeline(run_id, limit=events + 1) if events else ()
        timeline, more = found[:events], len(found) > events > 0
        if session.as_json:
            session.write_json(RunDocument.of(run, diagnosis, timeline))
            return OK
        session.draw(lambda console: draw_run(console, run, diagnosis))
        if timeline:
            now = max(runtime.clock.now(), run.updated_at)
            session.draw(
                lambda console: draw_timeline(console, timeline_rows(timeline), run.created_at, now, ended=run.ended)
            )
        if more:
            words = f"There are more events than these {events}: --events {events * 10} shows more."
            session.draw(lambda console: console.print(words, style="dim", soft_wrap=True))
        return OK

    ctx.exit(session.run(work))


@runs.command()
@command_options
@click.argument("workflow_id", metavar="WORKFLOW")
@click.option("--run-id", help="The id of the run; a start with an id that there is already changes nothing.")
@click.option("--input", "input_", type=JSON, metavar="JSON", help="The input as JSON, @FILE, or - for standard input.")
@click.option("--delay", type=click.FloatRange(0), help="Seconds until it starts; a worker or sweep does that.")
@click.option("--queue", help="The queue to put it into.")
@click.option("--key", help="What limits per key go by.")
@click.option("--priority", type=int, help="Higher ones go first in a queue with limits.")
@click.option("--timeout", type=click.FloatRange(0, min_open=True), help="Seconds after which it is asked to cancel.")
@enqueue_option
@click.pass_context
def start(
    ctx: click.Context,
    app: str | None,
    as_json: bool,
    workflow_id: str,
    run_id: str | None,
    input_: Any,
    delay: float | None,
    enqueue: bool,
    **placement: Any,
) -> None:
    """Start a run and drive it until it ends or pauses."""
    session = wants(app, as_json)

    async def work(runtime: WorkflowRuntime) -> int:
        try:
            result = await runtime.start_run(
                workflow_id,
                run_id=run_id,
                input=input_,
                delay=delay,
                drive=not enqueue,
                include_events=False,
                **placement,
            )
        except PayloadError as error:
            if input_ is None:
                return session.complain(BAD_USE, f"{error}. Give it an --input.", error.code)
            raise
        if not result.created and not session.as_json:
            session.err.print("There was a run of this id: nothing was started.", style="dim")
        return answered(session, result, bad=("errored", "cancelled", "not_claimable"))

    ctx.exit(session.run(work))


@runs.command()
@command_options
@click.argument("run_id")
@click.argument("name")
@click.option("--payload", type=JSON, metavar="JSON", help="The payload as JSON, @FILE, or - for standard input.")
@click.option("--id", "signal_id", help="Makes the delivery idempotent; a new one unless given.")
@enqueue_option
@click.pass_context
def signal(
    ctx: click.Context,
    app: str | None,
    as_json: bool,
    run_id: str,
    name: str,
    payload: Any,
    signal_id: str | None,
    enqueue: bool,
) -> None:
    """Deliver the event NAME to a run."""
    session = wants(app, as_json)

    async def work(runtime: WorkflowRuntime) -> int:
        result = await runtime.deliver_signal(
            run_id=run_id,
            signal_id=signal_id or f"cli:{uuid4()}",
            name=name,
            payload=payload,
            drive=not enqueue,
            include_events=False,
        )
        return answered(session, result)

    ctx.exit(session.run(work))


@runs.command()
@command_options
@click.argument("run_id")
@click.argument("approval_id", required=False)
@click.option("--reject", is_flag=True, help="Decide against it.")
@click.option("--feedback", help="Why, for the workflow to read.")
@enqueue_option
@click.pass_context
def approve(
    ctx: click.Context,
    app: str | None,
    as_json: bool,
    run_id: str,
    approval_id: str | None,
    reject: bool,
    feedback: str | None,
    enqueue: bool,
) -> None:
    """Decide on an approval of a run. The id may be left out where only one is awaited."""
    session = wants(app, as_json)

    async def work(runtime: WorkflowRuntime) -> int:
        chosen = approval_id
        if chosen is None:
            awaited = _approvals(await runtime.get_run(run_id), run_id)
            if len(awaited) != 1:
                which = f"It awaits {', '.join(awaited)}: say which." if awaited else "It awaits no approval."
                return session.complain(BAD_USE if awaited else NO, f"Run {run_id!r}: {which}", "approval")
            (chosen,) = awaited
        result = await runtime.deliver_approval(
            run_id=run_id,
            approval_id=chosen,
            approved=not reject,
            feedback=feedback,
            drive=not enqueue,
            include_events=False,
        )
        return answered(session, result)

    ctx.exit(session.run(work))


def _approvals(run: Run[Any] | None, run_id: str) -> list[str]:
    if run is None:
        raise RunNotFoundError(run_id)
    return [wait.id for wait in run.waits if wait.kind == "approval"]


@runs.command()
@command_options
@click.argument("run_id")
@click.option("--reason", help="Why, for the log.")
@enqueue_option
@click.pass_context
def cancel(ctx: click.Context, app: str | None, as_json: bool, run_id: str, reason: str | None, enqueue: bool) -> None:
    """Ask a run to cancel, and let it compensate."""
    session = wants(app, as_json)

    async def work(runtime: WorkflowRuntime) -> int:
        result = await runtime.cancel_run(run_id, reason=reason, drive=not enqueue, include_events=False)
        return answered(session, result, bad=("completed", "errored"))

    ctx.exit(session.run(work))


def answered(session: Session, result: RunResult[Any], bad: tuple[str, ...] = ()) -> int:
    """Show what became of the run. What was delivered is delivered, whatever the run made of it."""
    if result.kind == "not_found":
        raise RunNotFoundError(result.run_id)
    session.answer(RunResultAnswer.of(result), lambda console: draw_result(console, result))
    return NO if result.kind in ("not_waiting", *bad) else OK
