"""The schema from the command line:

    python -m workflow.store.postgres migrate --url postgresql://app@db/app [--schema NAME] [--timeout SECONDS]
    python -m workflow.store.postgres migrate --sql [--schema NAME] [--after VERSION]
    python -m workflow.store.postgres status --url ...

Without `--url`, the environment variables WORKFLOW_POSTGRES_URL and DATABASE_URL are asked.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Sequence
from typing import TextIO

from workflow.core.errors import WorkflowError

from .migrations import LATEST, as_sql, check_schema_name
from .store import PostgresStore

__all__ = ["main"]

_VARIABLES = ("WORKFLOW_POSTGRES_URL", "DATABASE_URL")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. 0: done, or up to date. 1: the schema is not what this package needs. 2: it failed."""
    options = _parser().parse_args(argv)
    try:
        check_schema_name(options.schema)
        if options.command == "migrate" and options.sql:
            sys.stdout.write(as_sql(options.schema, after=options.after))
            return 0
        command = _migrate if options.command == "migrate" else _status
        return asyncio.run(command(_url(options), options))
    except WorkflowError as error:
        _say(str(error), sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--url", help=f"the database; otherwise {' or '.join(_VARIABLES)} in the environment")
    shared.add_argument("--schema", default="public", help="where the tables are (public)")
    shared.add_argument("--timeout", type=float, default=60.0, help="seconds to wait for a lock (60)")
    parser = argparse.ArgumentParser(
        prog="python -m workflow.store.postgres", description="The tables of PostgresStore."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    migrate = commands.add_parser("migrate", parents=[shared], help="bring the tables to this package's version")
    migrate.add_argument("--sql", action="store_true", help="print what would be run, for psql, and change nothing")
    migrate.add_argument("--after", type=int, default=0, help="with --sql: only what comes after this version")
    commands.add_parser("status", parents=[shared], help="say which version the tables have")
    return parser


def _url(options: argparse.Namespace) -> str:
    url = options.url or next((os.environ[name] for name in _VARIABLES if os.environ.get(name)), None)
    if url is None:
        _parser().error(f"Which database? Give --url, or set {_VARIABLES[0]}.")
    return str(url)


async def _migrate(url: str, options: argparse.Namespace) -> int:
    store = PostgresStore(url, schema=options.schema, migration_timeout=options.timeout)
    try:
        applied = await store.apply_migrations()
    finally:
        await store.close()
    for migration in applied:
        _say(f"{migration.version:04} {migration.name}: applied")
    _say(f"The tables in schema {options.schema!r} have version {LATEST}." if applied else "There is nothing to do.")
    return 0


async def _status(url: str, options: argparse.Namespace) -> int:
    store = PostgresStore(url, schema=options.schema)
    try:
        problem = (await store.schema_state()).problem(options.schema)
    finally:
        await store.close()
    _say(problem or f"The tables in schema {options.schema!r} are what this package needs (version {LATEST}).")
    return 1 if problem else 0


def _say(text: str, stream: TextIO | None = None) -> None:
    (stream or sys.stdout).write(f"{text}\n")


if __name__ == "__main__":
    sys.exit(main())
