"""`MemoryStore` passes the suite that every store passes."""

from __future__ import annotations

from pathlib import Path

from workflow.runtime.contract import ExecutionStore
from workflow.runtime.memory import MemoryStore
from workflow.runtime.testing.suite import ExecutionStoreSuite


class TestMemoryStore(ExecutionStoreSuite):
    def make_store(self, tmp_path: Path) -> ExecutionStore:
        return MemoryStore()
