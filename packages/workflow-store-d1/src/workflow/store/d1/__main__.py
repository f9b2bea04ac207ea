"""`python -m workflow.store.d1`: the schema of a D1 database, from the command line.

    python -m workflow.store.d1 files migrations                     writes migration files for wrangler
    python -m workflow.store.d1 migrate --account ID --database ID   applies them by the REST API
    python -m workflow.store.d1 check --account ID --database ID     says whether the schema is of this version

The last two take the token from CLOUDFLARE_API_TOKEN, and the account also from CLOUDFLARE_ACCOUNT_ID.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from workflow.core.errors import WorkflowError

from .rest import BASE_URL
from .schema import write_wrangler_files
from .store import D1Store

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    try:
        if options.command == "files":
            for path in write_wrangler_files(options.folder) or ["Nothing to write: the folder has all migrations."]:
                _say(str(path))
        else:
            asyncio.run(_on_database(options))
    except WorkflowError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m workflow.store.d1", description="The schema of a D1 database.")
    commands = parser.add_subparsers(dest="command", required=True)
    files = commands.add_parser("files", help="write migration files for `wrangler d1 migrations apply`")
    files.add_argument("folder", type=Path, nargs="?", default=Path("migrations"))
    for name, what in (("migrate", "apply the migrations by the REST API"), ("check", "check the schema's version")):
        command = commands.add_parser(name, help=what)
        command.add_argument("--account", default=os.environ.get("CLOUDFLARE_ACCOUNT_ID", ""))
        command.add_argument("--database", required=True, help="the database's id")
        command.add_argument("--base-url", default=BASE_URL, help=argparse.SUPPRESS)
    return parser


async def _on_database(options: argparse.Namespace) -> None:
    token = os.environ.get("CLOUDFLARE_API_TOKEN", "")
    store = D1Store.from_http(options.account, options.database, token, base_url=options.base_url)
    try:
        if options.command == "migrate":
            await store.migrate()
        await store.check()
    finally:
        await store.close()
    _say(f"The schema of {options.database} is of this package's version.")


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")


if __name__ == "__main__":
    sys.exit(main())
