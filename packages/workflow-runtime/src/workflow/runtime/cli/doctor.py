"""`workflow doctor`: is the schema right, can the workflows be loaded, what is due, what is stuck and why."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence

import click
from rich.console import Console
from rich.markup import escape

from workflow.core import WorkflowError
from workflow.runtime.diagnosis import Diagnosis
from workflow.runtime.runtime import WorkflowRuntime

from .documents import DiagnosisAnswer, DoctorReport
from .operate import schema_problem
from .schedule_documents import schedule_problems
from .session import NO, OK, command_options, wants
from .words import length, local

__all__ = ["doctor"]

_SHOWN = 20


@click.command()
@command_options
@click.option("--limit", type=click.IntRange(1), default=1000, show_default=True, help="Look at so many open runs.")
@click.pass_context
def doctor(ctx: click.Context, app: str | None, as_json: bool, limit: int) -> None:
    """Say what is wrong, and what helps.

    It checks the schema, imports every workflow, and looks at the runs that have not ended. Exit code 1: something
    needs you.
    """
    session = wants(app, as_json)

    async def work(runtime: WorkflowRuntime) -> int:
        report, diagnoses = await _examine(runtime, limit)
        session.answer(report, lambda console: _draw(console, runtime, report, diagnoses))
        return OK if report.healthy else NO

    ctx.exit(session.run(work))


async def _examine(runtime: WorkflowRuntime, limit: int) -> tuple[DoctorReport, Sequence[Diagnosis]]:
    report = DoctorReport(healthy=True, workflows=sorted(runtime.workflow_ids))
    report.workflow_problems = _workflow_problems(runtime)
    report.schema_problem = await schema_problem(runtime)
    diagnoses: Sequence[Diagnosis] = ()
    if report.schema_problem is None:
        diagnoses, report.next_due = await asyncio.gather(
            runtime.diagnose_open(limit=limit + 1), runtime.store.next_due(runtime.workflow_ids)
        )
        report.schedules = await schedule_problems(runtime)
        report.complete, diagnoses = len(diagnoses) <= limit, diagnoses[:limit]
    report.examined = len(diagnoses)
    report.open = dict(Counter(diagnosis.code for diagnosis in diagnoses))
    stuck = [diagnosis for diagnosis in diagnoses if diagnosis.stuck]
    report.stuck = [DiagnosisAnswer.model_validate(diagnosis) for diagnosis in stuck]
    late = any(problem.wrong for problem in report.schedules)
    report.healthy = not (stuck or late or report.schema_problem or report.workflow_problems)
    return report, stuck


def _workflow_problems(runtime: WorkflowRuntime) -> dict[str, str]:
    """Workflows that can't be imported from where they are registered."""
    problems: dict[str, str] = {}
    for workflow_id in sorted(runtime.workflow_ids):
        try:
            runtime.find_workflow(workflow_id)
        except WorkflowError as error:
            problems[workflow_id] = str(error)
        except Exception as error:  # whatever the module does when it is imported
            problems[workflow_id] = f"{type(error).__name__}: {error}"
    return problems


def _draw(console: Console, runtime: WorkflowRuntime, report: DoctorReport, stuck: Sequence[Diagnosis]) -> None:
    _check(console, "schema", report.schema_problem, "what this version needs")
    for workflow_id in report.workflows:
        _check(console, f"workflow {workflow_id}", report.workflow_problems.get(workflow_id), "can be loaded")
    if report.schema_problem is not None:
        return
    _draw_open(console, runtime, report)
    for problem in report.schedules:
        mark = "[red]wrong[/]" if problem.wrong else "     "
        console.print(f"{mark} schedule {escape(problem.schedule_id)}: {escape(problem.summary)}", soft_wrap=True)
    for diagnosis in stuck[:_SHOWN]:
        console.print(
            f"[yellow]stuck[/] [bold]{escape(diagnosis.run_id)}[/]: {escape(diagnosis.summary)}", soft_wrap=True
        )
        for line in diagnosis.details:
            console.print(f"      {escape(line)}", soft_wrap=True)
        if diagnosis.remedy is not None:
            console.print(f"      -> {escape(diagnosis.remedy)}", soft_wrap=True)
    if len(stuck) > _SHOWN:
        console.print(f"and {len(stuck) - _SHOWN} more stuck runs; --json lists all.")


def _check(console: Console, what: str, problem: str | None, good: str) -> None:
    mark = "[green]ok[/]   " if problem is None else "[red]wrong[/]"
    console.print(f"{mark} {escape(what)}: {escape(problem or good)}", soft_wrap=True)


def _draw_open(console: Console, runtime: WorkflowRuntime, report: DoctorReport) -> None:
    counts = ", ".join(f"{number} {code}" for code, number in sorted(report.open.items()))
    newest = "" if report.complete else f" (the newest {report.examined} of them)"
    console.print(f"{'ok   ' if not report.stuck else '     '} open runs: {counts or 'none'}{newest}")
    if report.next_due is not None:
        ahead = report.next_due - runtime.clock.now()
        when = f"in {length(ahead)}" if ahead.total_seconds() > 0 else f"{length(-ahead)} ago"
        console.print(f"      next due: {local(report.next_due)} ({when})")
