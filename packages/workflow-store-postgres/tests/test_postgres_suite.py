"""`PostgresStore` passes the suite that every store passes, on a real server, with both drivers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.engine import make_url

from workflow.runtime.contract import ExecutionStore
from workflow.runtime.testing.suite import ExecutionStoreSuite
from workflow.store.postgres import PostgresStore

from .postgres_app_side import PostgresApp

_OTHERS = ", ".join(f"{name} AS (DELETE FROM {{0}}.workflow_{name})" for name in ("log", "mail", "schedules", "ticks"))
_EMPTY = f"WITH {_OTHERS} DELETE FROM {{0}}.workflow_runs"


@pytest.fixture(scope="class")
def class_schema(new_schema: Callable[[], str]) -> str:
    """One for all tests of a driver, emptied for each: making tables takes longer than most tests."""
    return new_schema()


class TestPostgresStore(ExecutionStoreSuite):
    driver = "asyncpg"

    @pytest.fixture(autouse=True)
    def _place(self, postgres_url: str, class_schema: str) -> None:
        self.url = make_url(postgres_url).set(drivername=f"postgresql+{self.driver}")
        self.schema = class_schema

    async def make_store(self, tmp_path: Path) -> ExecutionStore:
        store = PostgresStore(self.url, schema=self.schema)
        await store.migrate()
        async with store.engine.begin() as connection:
            await connection.execute(text(_EMPTY.format(self.schema)))
        return store

    def reopen(self, store: ExecutionStore, tmp_path: Path) -> ExecutionStore:
        return PostgresStore(self.url, schema=self.schema)

    def app_side(self, store: ExecutionStore, tmp_path: Path) -> PostgresApp:
        return PostgresApp(self.url, self.schema)


class TestPostgresStoreOnPsycopg(TestPostgresStore):
    driver = "psycopg"
    model_examples = 5
