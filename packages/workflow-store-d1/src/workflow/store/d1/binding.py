"""The door of a Worker: its D1 binding, `env.DB`.

A binding comes in two forms. Cloudflare's SDK wraps it: Python values go in, dictionaries and None come out. Without
the SDK it is a JavaScript object as it is: None has to go in as null and a list as an array, and what comes out is
converted here.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from workflow.core.errors import InvalidArgumentError, StoreError
from workflow.store.sqlite import Batch, Row, SqlValue

from .errors import d1_error
from .usage import Usage

__all__ = ["BindingExecutor"]


class BindingExecutor:
    """Runs batches by `binding.batch()`, which is atomic."""

    def __init__(self, binding: Any, usage: Usage, where: str) -> None:
        if not (hasattr(binding, "prepare") and hasattr(binding, "batch")):
            raise InvalidArgumentError(
                f"D1Store needs the Worker's D1 binding, such as env.DB, not {type(binding).__name__}. "
                "Outside of a Worker use D1Store.from_http(...)."
            )
        self._binding = binding
        self._usage = usage
        self._where = where
        self._bridge = _bridge_to(binding)

    async def batch(self, statements: Batch, *, readonly: bool = False) -> list[list[Row]]:
        self._usage.add(len(statements))
        try:
            answer = await self._binding.batch(self._bridge.list(self._prepared(statements)))
            results = self._bridge.results(answer)
        except Exception as error:  # what JavaScript throws has no class of its own
            raise d1_error(str(error), self._where) from error
        if len(results) != len(statements):
            raise StoreError(f"{self._where} answered {len(results)} results to {len(statements)} statements.")
        return [self._rows(result["results"]) for result in results]

    def _prepared(self, statements: Batch) -> list[Any]:
        value = self._bridge.value
        return [self._binding.prepare(sql).bind(*map(value, values)) for sql, values in statements]

    def _rows(self, rows: Sequence[Mapping[str, Any]] | None) -> list[Row]:
        null = self._bridge.null
        return [tuple([None if value is null else value for value in row.values()]) for row in rows or ()]


class _Bridge(Protocol):
    """How values cross between Python and JavaScript."""

    null: Any

    def value(self, value: SqlValue) -> Any: ...

    def list(self, items: list[Any]) -> Any: ...

    def results(self, answer: Any) -> list[Mapping[str, Any]]: ...


class _Wrapped:
    """The SDK has seen to it."""

    null: Any = None

    def value(self, value: SqlValue) -> Any:
        return value

    def list(self, items: list[Any]) -> Any:
        return items

    def results(self, answer: Any) -> list[Mapping[str, Any]]:
        return answer


class _Raw:
    """By Pyodide's own conversions. Where it has `jsnull`, None would become `undefined`, which D1 refuses."""

    def __init__(self, ffi: Any) -> None:
        self.null: Any = getattr(ffi, "jsnull", None)
        self._to_js = ffi.to_js

    def value(self, value: SqlValue) -> Any:
        return self.null if value is None else value

    def list(self, items: list[Any]) -> Any:
        return self._to_js(items)

    def results(self, answer: Any) -> list[Mapping[str, Any]]:
        return answer.to_py()


def _bridge_to(binding: Any) -> _Bridge:
    try:
        ffi: Any = importlib.import_module("pyodide.ffi")
    except ImportError:
        return _Wrapped()
    return _Raw(ffi) if isinstance(binding, ffi.JsProxy) else _Wrapped()
