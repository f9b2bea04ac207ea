"""The app beside a store: what a test of database steps and of the app's own transactions needs of it."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, TypeVar

import pytest

from workflow.core.records import Commit
from workflow.core.transactions import Isolation, Transaction
from workflow.runtime.contract import ExecutionStore

from .harness import StoreSuite, store_test_at

__all__ = ["AppSide", "SampleStep", "app_test"]

_Suite = TypeVar("_Suite", bound=StoreSuite)


class AppSide(ABC):
    """A table of notes in the store's database, and connections of the app's own."""

    is_async: bool
    """Whether the function of a database step is an `async def` on this store."""

    @abstractmethod
    async def make(self) -> None:
        """Make the table, empty."""

    @abstractmethod
    def write(self, connection: Any, note: str) -> Any:
        """Insert a note, with a connection of the app's or of a step's. Awaited where `is_async`."""

    @abstractmethod
    def begun(self) -> AbstractAsyncContextManager[Any]:
        """A connection with an open transaction, which is rolled back in the end unless it was committed."""

    @abstractmethod
    async def commit(self, connection: Any) -> None:
        """Commit its transaction."""

    @abstractmethod
    async def notes(self) -> list[str]:
        """What has been written and committed, in order."""

    async def add(self, connection: Any, note: str) -> None:
        written = self.write(connection, note)
        if self.is_async:
            await written


class SampleStep(Transaction):
    """A database step that writes a note, and comes with a commit made beforehand."""

    isolation: Isolation | None = None

    def __init__(self, app: AppSide, commit: Commit, note: str, *, error: Exception | None = None) -> None:
        self.run_id = commit.run_id
        self.is_async = app.is_async
        self.failure: BaseException | None = None
        self.tries = 0
        self._app = app
        self._commit = commit
        self._note = note
        self._error = error

    def begin(self) -> None:
        self.tries += 1
        self.failure = None

    def call(self, connection: Any) -> Any:
        return self._call_async(connection) if self.is_async else self._end(self._app.write(connection, self._note))

    async def _call_async(self, connection: Any) -> None:
        self._end(await self._app.write(connection, self._note))

    def _end(self, _: Any) -> None:
        if self._error is not None:
            raise self.fail(self._error)

    async def turn(self) -> None:
        await asyncio.sleep(0)

    def commit(self, result: Any) -> Commit:
        return self._commit

    def fail(self, error: Exception) -> Exception:
        self.failure = error
        return error


def app_test(
    capability: str,
) -> Callable[[Callable[[_Suite, ExecutionStore, AppSide], Coroutine[Any, Any, None]]], Callable[[_Suite, Path], None]]:
    """A test of a store with an app beside it, for stores that have the capability."""

    def decorate(
        test: Callable[[_Suite, ExecutionStore, AppSide], Coroutine[Any, Any, None]],
    ) -> Callable[[_Suite, Path], None]:
        async def body(self: _Suite, store: ExecutionStore, tmp_path: Path) -> None:
            if not getattr(store.capabilities, capability):
                pytest.skip(f"{type(store).__name__} does not share transactions (capabilities.{capability})")
            app: AppSide = self.app_side(store, tmp_path)
            await app.make()
            await test(self, store, app)

        return store_test_at(test, body)

    return decorate
