"""The systems that are compared: their names, where their modules are, and what is measured of each."""

from __future__ import annotations

import importlib
from dataclasses import dataclass

from bench.system import System

__all__ = ["CATALOG", "Entry", "system"]

FLOOR = ("speed", "counts")
ALL = ("speed", "counts", "sleepers", "long_runs")
UNCOUNTED = ("speed", "sleepers", "long_runs")


@dataclass(frozen=True, slots=True)
class Entry:
    title: str
    module: str
    name: str
    measures: tuple[str, ...]
    on: str = "postgres"
    """What it keeps its data in: postgres, sqlite, memory."""


CATALOG: dict[str, Entry] = {
    "floor-single": Entry("floor: a commit for each event", "floor", "FloorSingle", FLOOR),
    "floor-group": Entry("floor: group commit", "floor", "FloorGroup", FLOOR),
    "ours-postgres": Entry("Workflow, Postgres", "ours", "OursPostgres", ALL),
    "absurd": Entry("Absurd", "peer_absurd", "Absurd", ALL),
    "dbos": Entry("DBOS", "peer_dbos", "Dbos", ALL),
    "ours-sqlite": Entry("Workflow, SQLite", "ours", "OursSQLite", UNCOUNTED, "sqlite"),
    "ours-memory": Entry("Workflow, in memory", "ours", "OursMemory", UNCOUNTED, "memory"),
}


def system(key: str, target: str) -> System:
    """Imports only what this one needs: another one's imports would be counted as its memory."""
    entry = CATALOG[key]
    return getattr(importlib.import_module(f"bench.systems.{entry.module}"), entry.name)(target)
