"""`workflow runs retry`, `runs rerun` and `purge`: what people do with runs that failed, or are over."""

from __future__ import annotations

import sys
from datetime import datetime

import click
from rich.progress import Progress

from workflow.runtime.runtime import WorkflowRuntime

from .documents import PurgeReport
from .runs import answered, enqueue_option
from .session import NO, OK, Session, command_options, wants
from .words import When, counted, local

__all__ = ["purge", "rerun", "retry"]

_BATCH = 1000


@click.command()
@command_options
@click.argument("run_id")
@click.option("--from-step", metavar="STEP", help="Go back to before this step; to the one that failed unless given.")
@click.option("--reason", help="Why, for the log.")
@enqueue_option
@click.pass_context
def retry(
    ctx: click.Context,
    app: str | None,
    as_json: bool,
    run_id: str,
    from_step: str | None,
    reason: str | None,
    enqueue: bool,
) -> None:
    """Let a run that failed or was cancelled go on from its last good checkpoint."""
    session = wants(app, as_json)

    async def work(runtime: WorkflowRuntime) -> int:
        result = await runtime.retry_run(
            run_id, from_step=from_step, reason=reason, drive=not enqueue, include_events=False
        )
        return answered(session, result, bad=("errored", "cancelled", "not_claimable"))

    ctx.exit(session.run(work))


@click.command()
@command_options
@click.argument("run_id")
@click.argument("step_id")
@click.option("--run-id", "new_run_id", help="The id of the new run; the same one again starts nothing.")
@enqueue_option
@click.pass_context
def rerun(
    ctx: click.Context,
    app: str | None,
    as_json: bool,
    run_id: str,
    step_id: str,
    new_run_id: str | None,
    enqueue: bool,
) -> None:
    """Start a new run that has everything of RUN_ID up to STEP_ID, and goes on with that step."""
    session = wants(app, as_json)

    async def work(runtime: WorkflowRuntime) -> int:
        result = await runtime.rerun_from(
            run_id, step_id, new_run_id=new_run_id, drive=not enqueue, include_events=False
        )
        return answered(session, result, bad=("errored", "cancelled", "not_claimable"))

    ctx.exit(session.run(work))


@click.command()
@command_options
@click.option("--older-than", type=When, required=True, metavar="TIME", help="Ended before: 2026-01-31, or 90d ago.")
@click.option("--workflow", "workflow_id", metavar="ID", help="Of this workflow only.")
@click.option("--limit", type=click.IntRange(1), help="At most so many.")
@click.option("--yes", is_flag=True, help="Don't ask.")
@click.pass_context
def purge(
    ctx: click.Context,
    app: str | None,
    as_json: bool,
    older_than: datetime,
    workflow_id: str | None,
    limit: int | None,
    yes: bool,
) -> None:
    """Delete runs that ended long ago, with their logs. Runs that have not ended are never deleted."""
    session = wants(app, as_json)
    if not yes and not _agreed(workflow_id, older_than):
        ctx.exit(session.complain(NO, "Nothing was deleted. --yes deletes without asking.", "not_confirmed"))

    async def work(runtime: WorkflowRuntime) -> int:
        deleted = await _purge(session, runtime, older_than, workflow_id, limit)
        session.answer(
            PurgeReport(deleted=deleted), lambda console: console.print(f"Deleted {counted(deleted, 'run')}.")
        )
        return OK

    ctx.exit(session.run(work))


def _agreed(workflow_id: str | None, older_than: datetime) -> bool:
    """Ask. Where nobody can answer (a cron job, a pipe that ends), the answer is no."""
    whose = f"runs of {workflow_id}" if workflow_id else "runs"
    question = f"Delete all {whose} that ended before {local(older_than)} ({older_than.astimezone():%Z})?"
    try:
        return click.confirm(question, err=True)
    except click.Abort:
        if sys.stdin.isatty():
            raise
        click.echo(err=True)  # the question has no line end yet
        return False


async def _purge(
    session: Session, runtime: WorkflowRuntime, older_than: datetime, workflow_id: str | None, limit: int | None
) -> int:
    """Batch by batch: an interruption loses nothing, and the same command goes on."""
    deleted = 0
    with Progress(console=session.err, transient=True, disable=not session.err.is_terminal) as progress:
        task = progress.add_task("Deleting", total=limit)
        while limit is None or deleted < limit:
            batch = _BATCH if limit is None else min(_BATCH, limit - deleted)
            done = await runtime.purge(older_than, workflow_id=workflow_id, limit=batch)
            deleted += done
            progress.update(task, completed=deleted, description=f"Deleted {deleted}")
            if done < batch:
                break
    return deleted
