"""docs/transactions.md: what it says of the stores is true. (Its programs are run by test_docs.py.)"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

DOC = Path(__file__).resolve().parent.parent / "docs" / "transactions.md"


def test_the_table_of_stores() -> None:
    """The table says of each store what its capabilities say."""
    from workflow.runtime import MemoryStore

    stores = {"D1, memory": MemoryStore.capabilities}
    for name, module, kind in (
        ("Postgres", "postgres", "PostgresStore"),
        ("SQLite, on a file", "sqlite", "SQLiteStore"),
    ):
        store = pytest.importorskip(f"workflow.store.{module}", reason="a store is not installed")
        stores[name] = getattr(store, kind).capabilities
    rows = dict(re.findall(r"^\| ([\w, ]+?) \| (.*) \|$", DOC.read_text("utf-8"), re.MULTILINE))
    for name, capabilities in stores.items():
        joins, transacts = rows[name].split(" | ")
        assert (joins != "nothing", transacts != "nothing") == (
            capabilities.joins_transactions,
            capabilities.transactions,
        )
