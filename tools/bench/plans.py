"""EXPLAIN of what a worker asks again and again, in a form short enough to be read."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from workflow.store.postgres.statements import Statements

__all__ = ["explained", "shortened"]

_NODE = re.compile(r"^[\s>-]*(?P<node>.*?)\s+\(.*?actual time=[\d.]+\.\.(?P<ms>[\d.]+) rows=(?P<rows>[\d.]+)")
_PAGES = re.compile(r"Buffers: shared (?P<pages>.*)")
_TABLE = re.compile(r" (?:on|using) (?:\w+ on )?workflow_")


async def explained(connection: Any, now: datetime, workflow_ids: Sequence[str]) -> dict[str, list[str]]:
    """The plans of `next_due` and of a `claim_due` that finds nothing, as they are executed."""
    sql = Statements("public")
    asked = {
        "next_due": (sql.next_due, (list(workflow_ids),)),
        "claim_due": (sql.claim_due, ("bench", now + timedelta(1), now, list(workflow_ids), 25, 25, 25)),
    }
    plans: dict[str, list[str]] = {}
    for name, (text, args) in asked.items():
        rows = await connection.fetch(f"EXPLAIN (ANALYZE, BUFFERS, COSTS ON) {text}", *args)
        plans[name] = shortened([row[0] for row in rows])
    return plans


def shortened(plan: Sequence[str]) -> list[str]:
    """The nodes that touch our tables and were executed, then the pages read in all and the time."""
    lines: list[str] = []
    pages = ""
    for line in plan:
        node = _NODE.search(line)
        if node is not None and _TABLE.search(line) and "Insert" not in line:
            lines.append(f"{node['node'].strip()}: {_plural(node['rows'])}, {float(node['ms']):.3f} ms")
        found = _PAGES.search(line)
        pages = pages or (found["pages"] if found is not None else "")  # the first one is the topmost node's
        if line.startswith("Execution Time"):
            lines.append(f"in all: {line.partition(': ')[2]}, pages of shared buffers: {pages or 'none'}")
    return lines


def _plural(rows: str) -> str:
    number = float(rows)
    return f"{number:g} row" if number == 1 else f"{number:g} rows"
