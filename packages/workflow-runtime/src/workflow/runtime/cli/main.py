"""The command `workflow`: its group, and how it ends."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click

from .doctor import doctor
from .operate import migrate, sweep, worker
from .recover import purge, rerun, retry
from .runs import runs
from .schedules import schedules
from .session import BAD_USE, Session, command_options

__all__ = ["run"]


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@command_options
@click.option("--debug", is_flag=True, help="Log what is done, with the tracebacks of what fails.")
@click.version_option(package_name="workflow-runtime", prog_name="workflow")
@click.pass_context
def cli(ctx: click.Context, app: str | None, as_json: bool, debug: bool) -> None:
    """Durable workflows: see to their store, drive what is due, look at runs and schedules, deliver to them.

    --app names your WorkflowRuntime (or a function that makes one), and is looked for where you call the command.
    The environment variable WORKFLOW_APP does the same:

        workflow --app app.runtime:runtime runs list

    Exit codes: 0 done; 1 the answer is no (no such run, it has failed, something is stuck); 2 wrong use;
    3 the store can't be used; 130 interrupted.
    """
    ctx.obj = Session(app, as_json, debug)


for command in (migrate, sweep, worker, runs, schedules, purge, doctor):
    cli.add_command(command)
for command in (retry, rerun):
    runs.add_command(command)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command and answer its exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        code = cli.main(args=given, prog_name="workflow", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return 0
    except click.ClickException as error:
        if "--json" in given:
            return Session(as_json=True).complain(BAD_USE, error.format_message(), "usage")
        error.show()
        return error.exit_code
    except click.Abort:
        click.echo("Interrupted.", err=True)
        return 130
    return code if isinstance(code, int) else 0
