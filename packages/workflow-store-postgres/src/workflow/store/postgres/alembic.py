"""Keep Alembic's autogenerate away from tables that have migrations of their own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["TABLES", "alembic_include_name"]

TABLES = frozenset(f"workflow_{name}" for name in ("runs", "log", "mail", "schedules", "ticks", "schema"))

IncludeName = Callable[[str | None, str, Mapping[str, Any]], bool]


def alembic_include_name(*, schema: str = "public", then: IncludeName | None = None) -> IncludeName:
    """For `context.configure(include_name=...)`: everything but the store's tables, as far as `then` includes it too.

    A name is looked at before its table is, so autogenerate neither mirrors our tables nor wants to drop them.
    `schema` is where the store is; Alembic calls the connection's default schema None, which is taken for `public`.
    """

    def include(name: str | None, type_: str, parents: Mapping[str, Any]) -> bool:
        table = name if type_ == "table" else parents.get("table_name")
        if table in TABLES and (parents.get("schema_name") or "public") == schema:
            return False
        return then is None or then(name, type_, parents)

    return include
