"""Applying migrations: under a lock, in one transaction where that can be, and never in the way of what goes on.

Tables may be in use, and behind whoever waits for the lock on a table all others queue. So nothing here waits for long:
it gives up, lets the others go on, and tries again, until the time is up.
"""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Sequence
from itertools import takewhile

from workflow.core.errors import StoreError

from .drivers import Driver
from .migrations import Migration, lock_key, migrations, plain, read_state
from .statements import quoted, with_schema

__all__ = ["apply"]

_PATIENCE = 500
"""For how many milliseconds a migration keeps others from a table, while it waits for one of them."""

_IN_THE_WAY = ("55P03", "40P01")
"""The time-out of a lock; a deadlock, say, of an index that waits for a transaction which waits for our tables."""


class _RivalError(Exception):
    """Another process is migrating."""


async def apply(driver: Driver, schema: str, *, timeout: float, concurrently: bool = True) -> list[Migration]:
    """Apply what is missing, and answer what that was.

    Under an advisory lock of this database and schema: of two processes one works and the other then finds nothing to
    do. Migrations are applied in one transaction, as far as they may be. Where there are tables, those that say
    CONCURRENTLY are applied statement by statement, beside what goes on (unless not `concurrently`).
    """
    time = asyncio.get_running_loop().time
    give_up = time() + timeout
    done: list[Migration] = []
    while True:
        try:
            step = await _step(driver, schema, concurrently=concurrently)
        except Exception as error:
            if not isinstance(error, _RivalError) and getattr(error, "sqlstate", None) not in _IN_THE_WAY:
                raise
            await driver.script("ROLLBACK")
            if time() >= give_up:
                raise StoreError(_gave_up(schema, error, timeout)) from error
            await asyncio.sleep(random.uniform(0.02, 0.2))
            continue
        if step is None:
            return done
        done += step


async def _step(driver: Driver, schema: str, *, concurrently: bool) -> Sequence[Migration] | None:
    """Apply those that come next and can be applied together. None: nothing is missing."""
    missing = await _missing(driver, schema)
    if not missing:
        return None
    if missing[0].concurrent and concurrently and not _is_empty(missing):
        return await _apply_beside(driver, schema, missing[0])
    return await _apply_together(driver, schema, concurrently=concurrently)


async def _apply_together(driver: Driver, schema: str, *, concurrently: bool) -> Sequence[Migration]:
    """All that is missing in one transaction; where there are tables, as far as the first that goes beside it."""
    await driver.script(f"BEGIN; SET LOCAL lock_timeout = {_PATIENCE}")
    await _lock(driver, schema, "pg_try_advisory_xact_lock")
    missing = await _missing(driver, schema)
    if _is_empty(missing):
        await _make_schema(driver, schema)
    elif concurrently:
        missing = list(takewhile(lambda migration: not migration.concurrent, missing))
    for migration in missing:
        await driver.script(with_schema(plain(migration.sql), schema))
    await driver.script("COMMIT")
    return missing


async def _apply_beside(driver: Driver, schema: str, migration: Migration) -> Sequence[Migration]:
    """One migration outside of any transaction, under a lock of the session."""
    await _lock(driver, schema, "pg_try_advisory_lock")
    try:
        if migration not in await _missing(driver, schema):
            raise _RivalError
        for statement in _statements(migration.sql):
            await driver.script(with_schema(statement, schema))
    finally:
        await driver.fetch("SELECT pg_advisory_unlock($1::bigint)", (lock_key(schema),))
    return (migration,)


async def _missing(driver: Driver, schema: str) -> list[Migration]:
    state = await read_state(driver, schema)
    return [migration for migration in migrations() if migration.version > state.version]


def _is_empty(missing: Sequence[Migration]) -> bool:
    """Whether there is nothing of ours at all."""
    return len(missing) == len(migrations())


async def _lock(driver: Driver, schema: str, function: str) -> None:
    # Asked for, not waited for: who waits in a statement holds a snapshot, and CONCURRENTLY waits for all of these.
    (row,) = await driver.fetch(f"SELECT {function}($1::bigint)", (lock_key(schema),))
    if not row[0]:
        raise _RivalError


def _statements(sql: str) -> list[str]:
    """One by one, without comments. No statement of a migration that goes beside others has a semicolon inside."""
    code = re.sub(r"--.*$", "", sql, flags=re.MULTILINE)
    return [statement.strip() for statement in code.split(";") if statement.strip()]


async def _make_schema(driver: Driver, schema: str) -> None:
    # Looked up first: IF NOT EXISTS alone asks for the right to create schemas, also where there is nothing to create.
    found = await driver.fetch("SELECT 1 FROM pg_catalog.pg_namespace WHERE nspname = $1::text", (schema,))
    if not found:
        await driver.script(f"CREATE SCHEMA {quoted(schema)}")


def _gave_up(schema: str, error: Exception, timeout: float) -> str:
    if isinstance(error, _RivalError):
        why = f"Another process has been migrating schema {schema!r}"
    else:
        why = f"Transactions have held the tables of schema {schema!r}"
    return f"{why} for more than {timeout:g} s. Look at pg_stat_activity and pg_locks, then migrate again."
