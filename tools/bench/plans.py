"""EXPLAIN of what a worker asks again and again, in a form short enough to be read.

The statements are those that the store sends, overheard on its connection: nothing here knows them.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import event
from sqlalchemy.ext.asyncio import create_async_engine

from workflow.core.records import Lease
from workflow.runtime.contract import ClaimLimits
from workflow.store.postgres import PostgresStore

__all__ = ["explained", "shortened"]

_NODE = re.compile(r"^[\s>-]*(?P<node>.*?)\s+\(.*?actual time=[\d.]+\.\.(?P<ms>[\d.]+) rows=(?P<rows>[\d.]+)")
_PAGES = re.compile(r"Buffers: shared (?P<pages>.*)")
_TABLE = re.compile(r" (?:on|using) (?:\w+ on )?workflow_")


async def explained(connection: Any, url: str, workflow_ids: Sequence[str]) -> dict[str, list[str]]:
    """The plans of `next_due`, and of a `claim_due` that finds nothing, as they are executed."""
    engine = create_async_engine(url.replace("postgresql:", "postgresql+asyncpg:"))
    heard: list[Any] = []

    def listen(dbapi_connection: Any, record: Any) -> None:
        dbapi_connection.driver_connection.add_query_logger(heard.append)

    event.listen(engine.sync_engine, "connect", listen)
    store = PostgresStore(engine)
    now = datetime.now(UTC)
    lease = Lease("bench", now + timedelta(minutes=1))
    asked: dict[str, Callable[[], Awaitable[Any]]] = {
        "next_due": lambda: store.next_due(workflow_ids),
        "claim_due": lambda: store.claim_due(workflow_ids, lease, limits=ClaimLimits.all(25), now=now),
    }
    plans: dict[str, list[str]] = {}
    for name, ask in asked.items():
        await ask()
        await asyncio.sleep(0.01)  # asyncpg tells of it a moment later
        statement = heard[-1]
        rows = await connection.fetch(f"EXPLAIN (ANALYZE, BUFFERS) {statement.query}", *statement.args)
        plans[name] = shortened([row[0] for row in rows])
    await store.close()
    await engine.dispose()
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
