"""The suite that every store passes, on Miniflare's real D1, by the REST API."""

from __future__ import annotations

from pathlib import Path

import pytest

from workflow.core.errors import StoreError
from workflow.runtime.contract import ExecutionStore
from workflow.runtime.testing.suite import ExecutionStoreSuite
from workflow.store.d1 import D1Store

CLEAR = [(f"DELETE FROM workflow_{table}", ()) for table in ("log", "mail", "runs", "schedules", "ticks")]


class TestD1StoreByRest(ExecutionStoreSuite):
    """The store keeps the whole contract through the REST API."""

    model_examples = 2  # each takes hundreds of requests, and the narrow door of sqlite's tests has had many

    @pytest.fixture(autouse=True)
    def _server(self, d1_url: str) -> None:
        self.url = d1_url

    def handle(self) -> D1Store:
        return D1Store.from_http("account", "suite", "token", base_url=self.url)

    async def make_store(self, tmp_path: Path) -> ExecutionStore:
        store = self.handle()
        try:
            await store._batch(CLEAR)
        except StoreError:  # the first test: the suite migrates
            pass
        return store

    def reopen(self, store: ExecutionStore, tmp_path: Path) -> D1Store:
        return self.handle()
