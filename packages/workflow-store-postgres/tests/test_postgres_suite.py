"""`PostgresStore` passes the suite that every store passes, on a real server, with both drivers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy.engine import make_url

from workflow.runtime.contract import ExecutionStore
from workflow.runtime.testing.suite import ExecutionStoreSuite
from workflow.store.postgres import PostgresStore


class TestPostgresStore(ExecutionStoreSuite):
    driver = "asyncpg"

    @pytest.fixture(autouse=True)
    def _place(self, postgres_url: str, new_schema: Callable[[], str]) -> None:
        self.url = make_url(postgres_url).set(drivername=f"postgresql+{self.driver}")
        self.new_schema = new_schema

    def make_store(self, tmp_path: Path) -> ExecutionStore:
        return PostgresStore(self.url, schema=self.new_schema())

    def reopen(self, store: ExecutionStore, tmp_path: Path) -> ExecutionStore:
        assert isinstance(store, PostgresStore)
        return PostgresStore(self.url, schema=store.schema)


class TestPostgresStoreOnPsycopg(TestPostgresStore):
    driver = "psycopg"
