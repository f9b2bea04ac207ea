"""`python -m workflow.netlify init`: writes the scheduled function into a site."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from .templates import render

__all__ = ["main"]

_FIELD = re.compile(r"[0-9A-Za-z*/,\-]+")
_SHORTCUTS = ("@hourly", "@daily", "@weekly", "@monthly", "@yearly")


def main(argv: Sequence[str]) -> int:
    """Run the command; returns the exit code."""
    options = _parser().parse_args(argv)
    folder: Path = options.site / options.functions
    if not options.site.is_dir():
        return _complain(f"{options.site} is no folder.")
    if not _is_schedule(options.schedule):
        return _complain(f"{options.schedule!r} is no schedule: five fields, or one of {', '.join(_SHORTCUTS)}.")
    files = {folder / name: text for name, text in render(options.schedule, background=options.background).items()}
    if there := [path for path in files if path.exists() and not options.force]:
        return _complain(f"{there[0]} is there already; --force replaces it.")
    folder.mkdir(parents=True, exist_ok=True)
    for path, text in files.items():
        path.write_text(text, encoding="utf-8")
        _say(f"{path} is written.")
    _say("Set WORKFLOW_SWEEP_URL and WORKFLOW_SWEEP_SECRET in the site's environment (scope: Functions), and deploy.")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m workflow.netlify", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    init = commands.add_parser("init", help="write the function that wakes the Python app")
    init.add_argument("site", nargs="?", type=Path, default=Path(), help="the folder of the site (this one)")
    init.add_argument("--functions", default="netlify/functions", help="the site's functions folder (%(default)s)")
    init.add_argument("--schedule", default="*/5 * * * *", help="when to wake it, in UTC (%(default)s)")
    init.add_argument("--background", action="store_true", help="with a background function, which has 15 minutes")
    init.add_argument("--force", action="store_true", help="replace files that are there")
    return parser


def _is_schedule(text: str) -> bool:
    fields = text.split(" ")
    return text in _SHORTCUTS or (len(fields) == 5 and all(_FIELD.fullmatch(field) for field in fields))


def _complain(text: str) -> int:
    sys.stderr.write(f"error: {text}\n")
    return 2


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
