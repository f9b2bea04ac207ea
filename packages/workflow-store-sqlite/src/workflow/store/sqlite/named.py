"""SQL with named values, for statements that use one value in many places.

Doors take plain `?` placeholders only. A `Template` is written with `:name`, and bound by names.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from .executor import SqlValue, Statement

__all__ = ["Template"]

_NAME = re.compile(r":([a-z_]+)")


class Template:
    """A statement whose values have names. Our SQL has a colon nowhere else."""

    def __init__(self, sql: str) -> None:
        self._names: list[str] = _NAME.findall(sql)
        self._sql = _NAME.sub("?", sql)

    def bind(self, values: Mapping[str, SqlValue]) -> Statement:
        """The statement; `values` may have more names than it uses."""
        return self._sql, [values[name] for name in self._names]
