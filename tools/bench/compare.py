#!/usr/bin/env python3
"""Compare Workflow for Python with its peers, and with the floor, on one PostgreSQL server in one run.

    python tools/bench/compare.py              everything: about 12 minutes; writes docs/benchmark.md and its chart
    python tools/bench/compare.py --quick      small numbers that show that it works, in about a minute; writes no page
    python tools/bench/compare.py --draw       draws the page anew from the numbers of the last full run

Needs Python 3.11 or newer. The first run makes a virtual environment in the user's cache folder, with DBOS, Absurd and
PostgreSQL in it; the repository's own stays as it is. Run it on a machine that does nothing else, and read ratios.
"""

from __future__ import annotations

import argparse
import dataclasses
import subprocess
import sys
from pathlib import Path

TOOLS = Path(__file__).resolve().parent.parent
sys.path[0] = str(TOOLS)  # instead of this folder: its modules are `bench.…`

from bench import environment  # noqa: E402

DOCS = TOOLS.parent / "docs"
RESULTS = TOOLS / "bench" / "results.json"


def main(argv: list[str]) -> int:
    options = _options(argv)
    if not environment.inside():
        python = environment.ensure()
        return subprocess.run([python, str(Path(__file__).resolve()), *argv], check=False).returncode
    return _compare(options)


def _options(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small numbers, no page")
    parser.add_argument("--draw", action="store_true", help="measure nothing; draw the page from the last numbers")
    parser.add_argument("--only", default="", metavar="SYSTEMS", help="some systems, with commas; writes no page")
    parser.add_argument("--skip", default="", metavar="EXTRAS", help="scale, crowded, or both with a comma")
    parser.add_argument("--rounds", type=int, help="how often each system is measured")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="write all files there instead")
    return parser.parse_args(argv)


def _compare(options: argparse.Namespace) -> int:
    from bench.catalog import CATALOG
    from bench.orchestra import perform
    from bench.render import show
    from bench.results import Report
    from bench.sizes import FULL, QUICK
    from rich.console import Console

    console = Console(width=None if sys.stdout.isatty() else 150)
    if options.draw:
        report = Report.model_validate_json(RESULTS.read_text(encoding="utf-8"))
    else:
        sizes = QUICK if options.quick else FULL
        sizes = dataclasses.replace(sizes, rounds=options.rounds or sizes.rounds)
        extras = {"scale", "crowded"} - set(options.skip.split(","))
        systems = options.only.split(",") if options.only else list(CATALOG)
        report = perform(sizes, systems, extras, console)
    show(report, console)
    _write(report, options)
    return 1 if report.failures else 0


def _write(report: object, options: argparse.Namespace) -> None:
    from bench.chart import draw
    from bench.page import filled
    from bench.render import parts
    from bench.results import Report

    assert isinstance(report, Report)
    # The page gets nothing but a whole run.
    partial = options.quick or options.only or options.skip or report.failures
    folder = options.out or (environment.cache() / "last" if partial else None)
    results = RESULTS if folder is None else folder / "results.json"
    results.parent.mkdir(parents=True, exist_ok=True)
    results.write_text(report.model_dump_json(indent=1) + "\n", encoding="utf-8")
    draw(report, (folder or DOCS) / "benchmark.svg")
    page = filled((DOCS / "benchmark.md").read_text(encoding="utf-8"), parts(report))
    ((folder or DOCS) / "benchmark.md").write_text(page, encoding="utf-8")
    print(f"Written to {folder or 'docs/ and tools/bench/results.json'}.")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
