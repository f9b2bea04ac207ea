"""The suite that every store passes, on a file and in memory."""

from __future__ import annotations

from pathlib import Path

from workflow.runtime.contract import ExecutionStore
from workflow.runtime.testing.suite import ExecutionStoreSuite
from workflow.store.sqlite import SQLiteStore

from .sqlite_app_side import AppInMemory, SQLiteApp


class TestSQLiteStore(ExecutionStoreSuite):
    """A store on a file keeps the whole contract, alone and with a second handle on the same file."""

    def make_store(self, tmp_path: Path) -> SQLiteStore:
        # The suite is about what is written, not about when the disk has it: no test cuts the power.
        return SQLiteStore(tmp_path / "runs.db", synchronous="OFF")

    def reopen(self, store: ExecutionStore, tmp_path: Path) -> SQLiteStore:
        return SQLiteStore(tmp_path / "runs.db", synchronous="OFF")

    def app_side(self, store: ExecutionStore, tmp_path: Path) -> SQLiteApp:
        return SQLiteApp(tmp_path / "runs.db")


class TestSQLiteStoreInMemory(ExecutionStoreSuite):
    """A store in memory keeps the contract too, as far as one process goes."""

    model_examples = 5  # the file has had more of them

    def make_store(self, tmp_path: Path) -> SQLiteStore:
        return SQLiteStore(":memory:")

    def app_side(self, store: ExecutionStore, tmp_path: Path) -> AppInMemory:
        assert isinstance(store, SQLiteStore)
        return AppInMemory(store)
