"""`workflow migrate`, `sweep`, `worker`: what deployments and hosts call."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime
from typing import Any

import click
from rich.status import Status

from workflow.core import StoreError
from workflow.runtime.answers import RunResultAnswer, SweepAnswer
from workflow.runtime.results import RunResult, SweepResult
from workflow.runtime.runtime import WorkflowRuntime

from .collecting import relax_garbage_collection
from .documents import MigrateReport, WorkerEnd
from .drawing import draw_sweep, result_line
from .session import BAD_STORE, NO, OK, Session, command_options, wants
from .words import counted

__all__ = ["migrate", "sweep", "worker"]


@click.command()
@command_options
@click.option("--check", is_flag=True, help="Change nothing; say whether the schema is right (exit code 1: it isn't).")
@click.pass_context
def migrate(ctx: click.Context, app: str | None, as_json: bool, check: bool) -> None:
    """Bring the store's schema up to date. A part of your deployment."""
    session = wants(app, as_json)

    async def work(runtime: WorkflowRuntime) -> int:
        if not check:
            await runtime.migrate()
        problem = await schema_problem(runtime)
        good = "The schema is what this version needs."
        session.answer(MigrateReport(problem=problem), lambda console: console.print(problem or good, markup=False))
        return OK if problem is None else NO

    ctx.exit(session.run(work))


async def schema_problem(runtime: WorkflowRuntime) -> str | None:
    """What is wrong with the schema. A database that can't be reached is an error, not an answer."""
    try:
        await runtime.store.check()
    except ConnectionError:
        raise
    except StoreError as error:
        return str(error)
    return None


@click.command()
@command_options
@click.option("--max-duration", type=click.FloatRange(0), help="Stop after so many seconds.")
@click.option("--max-scheduled", type=click.IntRange(0), default=25, show_default=True, help="Runs of schedules.")
@click.option("--max-ready", type=click.IntRange(0), default=100, show_default=True, help="Queued runs, at most.")
@click.option("--max-timers", type=click.IntRange(0), default=25, show_default=True, help="Runs whose time has come.")
@click.option("--max-recovered", type=click.IntRange(0), default=100, show_default=True, help="Runs of dead owners.")
@click.option("--all", "everything", is_flag=True, help="Sweep again until nothing more is due.")
@click.pass_context
def sweep(
    ctx: click.Context,
    app: str | None,
    as_json: bool,
    max_duration: float | None,
    max_scheduled: int,
    max_ready: int,
    max_timers: int,
    max_recovered: int,
    everything: bool,
) -> None:
    """Drive what is due, once, within bounds."""
    session = wants(app, as_json)
    bounds = {
        "max_scheduled_runs": max_scheduled,
        "max_ready": max_ready,
        "max_timers": max_timers,
        "max_recovered": max_recovered,
    }

    async def work(runtime: WorkflowRuntime) -> int:
        if (problem := await _obstacle(runtime)) is not None:
            return session.complain(BAD_STORE, problem, "schema")
        with _progress(session, "Sweeping") as progress:
            sweeps = await _sweeps(runtime, max_duration, everything, bounds, progress)
        if session.as_json:
            for swept in sweeps:
                session.write_json(SweepAnswer.of(swept))
        else:
            draw_sweep(session.out, sweeps)
        return OK

    ctx.exit(session.run(work))


def _progress(session: Session, what: str) -> Status:
    """A spinner where somebody watches; nothing where the output goes elsewhere."""
    return session.err.status(f"{what} ...")


async def _sweeps(
    runtime: WorkflowRuntime, max_duration: float | None, everything: bool, bounds: dict[str, Any], progress: Status
) -> list[SweepResult]:
    time = asyncio.get_running_loop().time
    end = None if max_duration is None else time() + max_duration
    sweeps: list[SweepResult] = []
    driven = 0
    while True:
        left = None if end is None else max(end - time(), 0.0)
        swept = await runtime.sweep(max_duration=left, **bounds)
        sweeps.append(swept)
        driven += swept.summary.total
        progress.update(f"Sweeping ... {counted(driven, 'run')} driven")
        if not everything or not swept.remaining_may_exist or swept.deadline_reached:
            return sweeps


def _limits(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> int | dict[str, int] | None:
    """`--per-workflow 3` for each workflow, `--per-workflow fulfillment=3` for one."""
    named: dict[str, int] = {}
    for value in values:
        name, _, number = value.rpartition("=")
        if not number.isdigit():
            raise click.BadParameter(f"{value!r} is neither a number nor WORKFLOW=NUMBER.")
        named[name] = int(number)
    if "" not in named:
        return named or None
    if len(named) > 1:
        raise click.BadParameter("Give one number for all workflows, or WORKFLOW=NUMBER for some.")
    return named[""]


@click.command()
@command_options
@click.option("--concurrency", type=click.IntRange(1), help="Runs driven at once; the runtime's own unless given.")
@click.option("--per-workflow", multiple=True, callback=_limits, metavar="[ID=]N", help="Of each, or of one workflow.")
@click.option("--poll-interval", type=click.FloatRange(0.01), default=1.0, show_default=True, help="Seconds, at most.")
@click.option(
    "--grace", type=click.FloatRange(0), default=20.0, show_default=True, help="Seconds for what is under way."
)
@click.option("--quiet", is_flag=True, help="No line for each drive.")
@click.pass_context
def worker(
    ctx: click.Context,
    app: str | None,
    as_json: bool,
    concurrency: int | None,
    per_workflow: int | dict[str, int] | None,
    poll_interval: float,
    grace: float,
    quiet: bool,
) -> None:
    """Drive runs as soon as they are due, until Ctrl-C.

    At SIGTERM or Ctrl-C what is under way gets --grace seconds to come to the end of its step; the rest is handed
    back, and another worker goes on with it at once. A second signal hands it back right away.
    """
    session = wants(app, as_json)

    def on_result(result: RunResult[Any]) -> None:
        if quiet:
            return
        if session.as_json:
            session.write_json(RunResultAnswer.of(result))
        else:
            session.out.print(result_line(result, datetime.now(UTC)), soft_wrap=True)

    async def work(runtime: WorkflowRuntime) -> int:
        if not session.debug:
            logging.getLogger("workflow").setLevel(logging.INFO)
        if (problem := await _obstacle(runtime)) is not None:
            return session.complain(BAD_STORE, problem, "schema")
        if not session.as_json and not quiet:
            session.err.print(f"Working on {', '.join(sorted(runtime.workflow_ids))}. Ctrl-C stops.", style="dim")
        relax_garbage_collection()
        report = await runtime.serve(
            concurrency=concurrency,
            per_workflow=per_workflow,
            poll_interval=poll_interval,
            grace=grace,
            on_result=on_result,
        )
        end = WorkerEnd(kinds=report.kinds, handed_back=report.handed_back)
        back = f" {counted(report.handed_back, 'run')} handed back, for another worker." if report.handed_back else ""
        words = f"Stopped after {counted(report.total, 'drive')}.{back}"
        session.answer(end, lambda console: console.print(words))
        return OK

    ctx.exit(session.run(work))


async def _obstacle(runtime: WorkflowRuntime) -> str | None:
    """What is wrong with the schema, unless the store helps itself: an embedded one may make its file on first use."""
    problem = await schema_problem(runtime)
    if problem is None:
        return None
    try:
        await runtime.store.next_due(runtime.workflow_ids)
    except ConnectionError:
        raise
    except StoreError:
        return problem
    return None
