"""The store suite under Pyodide, on a Worker's D1 binding. Run by pyodide_host.mjs for test_d1_binding_suite.py.

Its arguments are a list of cases: the form of the binding, the name of a test, and what that is called with. It prints
a list of outcomes.

Each test of the suite runs its coroutine by `asyncio.run`, as its last act. There is one loop here, and it runs
already: so `asyncio.run` only hands the coroutine over, and it is awaited here.
"""

import asyncio
import json
import tempfile
import traceback
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import host  # pyright: ignore[reportMissingImports] - of pyodide_host.mjs
import pytest
from workers.rpc import _EnvWrapper  # pyright: ignore[reportMissingImports] - Cloudflare's SDK

from workflow.core.errors import StoreError
from workflow.runtime.contract import ExecutionStore
from workflow.runtime.testing.suite import ExecutionStoreSuite
from workflow.store.d1 import D1Store

CLEAR = [(f"DELETE FROM workflow_{table}", ()) for table in ("log", "mail", "runs", "schedules", "ticks")]
WRAPPED = _EnvWrapper(host.env).DB
RAW = host.env.DB


class Suite(ExecutionStoreSuite):
    """A store on the binding as Cloudflare's SDK wraps it; and a second handle by the binding as it is."""

    def __init__(self, first: Any, second: Any) -> None:
        self.first = first
        self.second = second

    async def make_store(self, tmp_path: Path) -> ExecutionStore:
        store = D1Store(self.first)
        try:
            await store._batch(CLEAR)
        except StoreError:  # the first test: the suite migrates
            pass
        return store

    def reopen(self, store: ExecutionStore, tmp_path: Path) -> D1Store:
        return D1Store(self.second)


async def outcome(suite: Suite, name: str, arguments: dict[str, Any]) -> str:
    """ "passed", or why it was skipped, or how it failed."""
    handed_over: list[Coroutine[Any, Any, None]] = []
    asyncio.run = handed_over.append
    try:
        with tempfile.TemporaryDirectory() as folder:
            getattr(suite, name)(Path(folder), **arguments)
            if not handed_over:
                return "failed: it did not run a coroutine"
            await handed_over[0]
    except pytest.skip.Exception as reason:
        return f"skipped: {reason}"
    except BaseException:
        return f"failed: {traceback.format_exc()}"
    return "passed"


async def main() -> None:
    suites = {"wrapped": Suite(WRAPPED, RAW), "raw": Suite(RAW, WRAPPED)}
    outcomes = [await outcome(suites[form], name, arguments) for form, name, arguments in json.loads(host.arguments)]
    print(json.dumps(outcomes))


await main()  # noqa: F704 # pyright: ignore - Pyodide runs this as a coroutine
