"""A server for the session, and a schema of its own for each store."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from itertools import count

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from workflow.store.postgres.engines import engine_url
from workflow.store.postgres.testing import EmbeddedServer


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """`WORKFLOW_TEST_POSTGRES_URL`, or a server that lives as long as the tests do."""
    given = os.environ.get("WORKFLOW_TEST_POSTGRES_URL")
    if not given:
        # Each test has a new schema, engine and connections: the compiler for long queries would be busy with set-up.
        with EmbeddedServer(jit="off", full_page_writes="off") as server:
            yield server.url
        return
    yield engine_url(given).render_as_string(hide_password=False)
    asyncio.run(_drop_schemas(given))


_PREFIX = f"workflow_test_{os.getpid()}_"
_numbers = count(1)


@pytest.fixture(scope="session")
def new_schema() -> Callable[[], str]:
    """Names that no other test, and no other session on this server, has."""
    return lambda: f"{_PREFIX}{next(_numbers)}"


@pytest.fixture
def schema(new_schema: Callable[[], str]) -> str:
    return new_schema()


async def _drop_schemas(url: str) -> None:
    engine = create_async_engine(engine_url(url))
    async with engine.begin() as connection:
        query = "SELECT quote_ident(nspname) FROM pg_namespace WHERE starts_with(nspname, :prefix)"
        names = (await connection.execute(text(query), {"prefix": _PREFIX})).scalars().all()
    for name in names:
        async with engine.begin() as connection:
            await connection.execute(text(f"DROP SCHEMA {name} CASCADE"))
    await engine.dispose()
