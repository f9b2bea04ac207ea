"""The command line: sweep, write a railway.toml, check one."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from workflow.core import WorkflowError
from workflow.runtime import WorkflowRuntime
from workflow.runtime.hosting import RuntimeSource, SweepLimits, import_runtime
from workflow.runtime.sweep_command import EXIT_CONFIGURATION, EXIT_OK

from .command import DEFAULT_DURATION, create_cron_command
from .config import MIGRATE, check_file, make_toml

__all__ = ["main"]

_NAMES = ("railway.toml", "railway.json")


def main(argv: Sequence[str]) -> int:
    """Run the command; returns the exit code."""
    arguments = list(argv)
    # An app is the first word, as the shortest start command there can be; the others have a word of their own.
    if arguments and arguments[0] not in ("init", "check", "sweep") and not arguments[0].startswith("-"):
        arguments.insert(0, "sweep")
    options = _parser().parse_args(arguments)
    try:
        return {"init": _init, "check": _check, "sweep": _sweep}[options.command](options)
    except WorkflowError as error:
        _say(f"error: {error}")
        return EXIT_CONFIGURATION


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m workflow.railway", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    sweep = commands.add_parser("sweep", help="sweep until nothing is due, and exit (the word can be left out)")
    sweep.add_argument("app", help="the runtime, as package.module:name")
    sweep.add_argument("--max-duration", type=float, default=DEFAULT_DURATION, metavar="SECONDS")
    sweep.add_argument("--include-sweep-result", action="store_true", help="log the result of every run, to debug")
    init = commands.add_parser("init", help="write railway.toml")
    init.add_argument("--app", required=True, help="the runtime, as package.module:name")
    init.add_argument("--cron", default="*/5 * * * *", help="when to sweep, in UTC (%(default)s)")
    init.add_argument("--migrate", default=MIGRATE, metavar="COMMAND", help="what a deploy runs first (%(default)s)")
    init.add_argument("--force", action="store_true", help="replace a file that is there")
    check = commands.add_parser("check", help="hold railway.toml or railway.json to Railway's rules")
    check.add_argument("file", nargs="?", type=Path)
    return parser


def _sweep(options: argparse.Namespace) -> int:
    logging.basicConfig(level=os.environ.get("LOG_LEVEL", "INFO").upper(), stream=sys.stderr)
    sys.path.insert(0, os.getcwd())  # as `python -m` has it, whatever PYTHONSAFEPATH says
    limits = SweepLimits(include_sweep_result=options.include_sweep_result)

    async def make() -> WorkflowRuntime:
        # Within the command, so that an app which can't be loaded is told in its line of JSON as well.
        return await RuntimeSource(import_runtime(options.app)).get()

    return create_cron_command(make, max_duration=options.max_duration, limits=limits)()


def _init(options: argparse.Namespace) -> int:
    # Railway takes a Dockerfile wherever there is one, and says so itself.
    builder = "DOCKERFILE" if Path("Dockerfile").exists() else "RAILPACK"
    text = make_toml(options.app, options.cron, builder=builder, migrate=options.migrate)
    path = Path("railway.toml")
    if path.exists() and not options.force:
        _say("error: railway.toml is there already; --force replaces it.")
        return EXIT_CONFIGURATION
    path.write_text(text, encoding="utf-8")
    _say("railway.toml is written. In Railway: New > Service from this repository, and set DATABASE_URL.")
    return EXIT_OK


def _check(options: argparse.Namespace) -> int:
    path = options.file or next((Path(name) for name in _NAMES if Path(name).exists()), Path(_NAMES[0]))
    problems = check_file(path)
    for problem in problems:
        _say(problem)
    if not problems:
        _say(f"{path} is fine.")
    return EXIT_CONFIGURATION if problems else EXIT_OK


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
