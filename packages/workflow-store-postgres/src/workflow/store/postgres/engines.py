"""Engines: from a URL, for a pooler, and what of one engine belongs to which event loop."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from sqlalchemy.engine import URL, Engine, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from workflow.core.errors import InvalidArgumentError

__all__ = ["POOLER_OPTION", "engine_for", "engine_url", "name_of", "pooler_engine"]

POOLER_OPTION = "workflow_pooler"
"""The execution option by which an engine says that a transaction-mode pooler is between it and the server."""

_DRIVERS = {"postgres": "asyncpg", "postgresql": "asyncpg"}


def engine_url(url: str | URL) -> URL:
    """A URL as SQLAlchemy needs it: `postgres://` and `postgresql://` mean asyncpg, which spells `sslmode` as `ssl`.

    Raises `InvalidArgumentError` for everything else, an engine without asyncio too.
    """
    if isinstance(url, Engine):
        raise InvalidArgumentError("PostgresStore needs an AsyncEngine: make it with create_async_engine(url).")
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        # Without the URL itself: it holds a password.
        raise InvalidArgumentError("The database URL can't be read: it is not dialect://user@host/database.") from error
    if parsed.drivername in _DRIVERS:
        parsed = parsed.set(drivername=f"postgresql+{_DRIVERS[parsed.drivername]}")
    if parsed.drivername not in ("postgresql+asyncpg", "postgresql+psycopg"):
        raise InvalidArgumentError(
            f"PostgresStore needs postgresql+asyncpg:// or postgresql+psycopg://, not {parsed.drivername}://."
        )
    if parsed.drivername == "postgresql+asyncpg" and "sslmode" in parsed.query:
        parsed = parsed.difference_update_query(["sslmode"]).update_query_dict({"ssl": parsed.query["sslmode"]})
    return parsed


def name_of(engine: AsyncEngine) -> str:
    """What errors call its database: "database 'app' on db.example:5432", without a password."""
    url = engine.url
    place = f" on {url.host}" + (f":{url.port}" if url.port else "") if url.host else ""
    return f"database {url.database!r}{place}" if url.database else f"database{place}"


def engine_for(url: str | URL, **options: Any) -> AsyncEngine:
    """An engine of the store's own. Its pool hands out what a few event loops hold, so it need not be large."""
    return create_async_engine(engine_url(url), **{"pool_pre_ping": True, **options})


def pooler_engine(url: str | URL, **options: Any) -> AsyncEngine:
    """An engine for a server behind a pooler in transaction mode, such as PgBouncer, Supavisor or Neon's.

    There, each transaction may meet another server process, so nothing may be prepared for later: no statement cache,
    and no pool on this side, as the pooler is one. psycopg then still needs one round trip for a statement; asyncpg
    needs a transaction around each, which makes four of it. Prefer `postgresql+psycopg://` behind a pooler.
    """
    parsed = engine_url(url)
    connect: dict[str, Any] = {"prepare_threshold": None}
    if parsed.drivername == "postgresql+asyncpg":
        connect = {
            "statement_cache_size": 0,
            "prepared_statement_cache_size": 0,
            # SQLAlchemy prepares under a name, and two clients of the pooler must not choose the same one.
            "prepared_statement_name_func": lambda: f"__workflow_{uuid4().hex}__",
        }
    connect.update(options.pop("connect_args", {}))
    execution = {POOLER_OPTION: True, **options.pop("execution_options", {})}
    options.setdefault("poolclass", NullPool)
    return create_async_engine(parsed, connect_args=connect, execution_options=execution, **options)
