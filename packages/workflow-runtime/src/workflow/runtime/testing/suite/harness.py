"""How a test of the suite gets its store, and what is checked after it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import pytest

from workflow.runtime.contract import ExecutionStore
from workflow.runtime.testing.invariants import check_invariants

__all__ = [
    "Handles",
    "MadeStore",
    "Reopen",
    "StoreSuite",
    "closing_test",
    "durable_test",
    "race_test",
    "shared_test",
    "skip_unless_durable",
    "store_test",
    "store_test_at",
]

MadeStore: TypeAlias = ExecutionStore | Awaitable[ExecutionStore] | AbstractAsyncContextManager[ExecutionStore]
"""What `make_store` may give: a store, a coroutine that makes one, or a context that holds one."""

Reopen: TypeAlias = Callable[[], AbstractAsyncContextManager[ExecutionStore]]

Handles: TypeAlias = Sequence[ExecutionStore]

_Suite = TypeVar("_Suite", bound="StoreSuite")
_Function = TypeVar("_Function", bound=Callable[..., object])
_Body = Callable[[_Suite, ExecutionStore, Path], Coroutine[Any, Any, None]]


class StoreSuite:
    """What a user of the suite overrides, and the little that the tests share."""

    model_examples: int = 20
    """How many lists of operations the model test tries: more of them find more, and take longer."""

    def make_store(self, tmp_path: Path) -> MadeStore:
        """A store on fresh, empty data of its own. The suite calls `migrate` before and `close` after the test."""
        raise NotImplementedError(f"{type(self).__name__} must override make_store().")

    def reopen(self, store: ExecutionStore, tmp_path: Path) -> MadeStore:
        """A second handle on the data of `store`, as another process would open it.

        A store that is `shared` or `durable` must override this: those promises are tested through it.
        """
        raise NotImplementedError(f"{type(self).__name__} must override reopen(): its store is shared or durable.")

    def app_side(self, store: ExecutionStore, tmp_path: Path) -> Any:
        """An `AppSide` (see apps.py) beside `store`: an app with a table in the same database.

        A store that has `transactions` or `joins_transactions` must override this.
        """
        raise NotImplementedError(f"{type(self).__name__} must override app_side(): its store shares transactions.")

    @asynccontextmanager
    async def opened(self, tmp_path: Path) -> AsyncGenerator[ExecutionStore]:
        """A new store, migrated, and closed in the end."""
        async with _entered(self.make_store(tmp_path)) as store:
            await store.migrate()
            yield store

    @asynccontextmanager
    async def reopened(self, store: ExecutionStore, tmp_path: Path) -> AsyncGenerator[ExecutionStore]:
        """Another handle on the data of `store`, closed in the end."""
        async with _entered(self.reopen(store, tmp_path)) as other:
            yield other


def store_test(test: Callable[[_Suite, ExecutionStore], Coroutine[Any, Any, None]]) -> Callable[[_Suite, Path], None]:
    """A coroutine test of a store becomes a test for pytest, on a loop of its own; invariants are checked after it."""

    async def body(self: _Suite, store: ExecutionStore, tmp_path: Path) -> None:
        await test(self, store)

    return _for_pytest(test, body)


def shared_test(
    test: Callable[[_Suite, ExecutionStore, ExecutionStore], Coroutine[Any, Any, None]],
) -> Callable[[_Suite, Path], None]:
    """The same with a second handle on the same data, for stores that several processes may use at once."""

    async def body(self: _Suite, store: ExecutionStore, tmp_path: Path) -> None:
        if not store.capabilities.shared:
            pytest.skip(f"{type(store).__name__} is not shared between processes (capabilities.shared)")
        async with self.reopened(store, tmp_path) as other:
            await test(self, store, other)

    return _for_pytest(test, body)


def race_test(
    test: Callable[[_Suite, Handles], Coroutine[Any, Any, None]],
) -> Callable[[_Suite, Path, int], None]:
    """Run the test with one handle that all use, and again with two, for stores that several processes may use."""

    def run(self: _Suite, tmp_path: Path, handles: int) -> None:
        async def one(self: _Suite, store: ExecutionStore) -> None:
            await test(self, [store])

        async def two(self: _Suite, store: ExecutionStore, other: ExecutionStore) -> None:
            await test(self, [store, other])

        (store_test(one) if handles == 1 else shared_test(two))(self, tmp_path)

    return pytest.mark.parametrize("handles", [1, 2])(_named_like(test, run))


def durable_test(
    test: Callable[[_Suite, ExecutionStore, Reopen], Coroutine[Any, Any, None]],
) -> Callable[[_Suite, Path], None]:
    """The same with a way to open the data again, for stores that survive their process."""

    async def body(self: _Suite, store: ExecutionStore, tmp_path: Path) -> None:
        skip_unless_durable(store)
        await test(self, store, lambda: self.reopened(store, tmp_path))

    return _for_pytest(test, body)


def closing_test(
    test: Callable[[_Suite, ExecutionStore, Reopen], Coroutine[Any, Any, None]],
) -> Callable[[_Suite, Path], None]:
    """The same for a test that closes its store: nothing is asked of the store after it."""

    async def body(self: _Suite, store: ExecutionStore, tmp_path: Path) -> None:
        await test(self, store, lambda: self.reopened(store, tmp_path))

    return _for_pytest(test, body, check=False)


def store_test_at(test: Callable[..., object], body: _Body[_Suite]) -> Callable[[_Suite, Path], None]:
    """`store_test` with a body of one's own, which is given the folder too."""
    return _for_pytest(test, body)


def _for_pytest(
    test: Callable[..., object], body: _Body[_Suite], *, check: bool = True
) -> Callable[[_Suite, Path], None]:
    def run(self: _Suite, tmp_path: Path) -> None:
        async def on_a_store() -> None:
            async with self.opened(tmp_path) as store:
                await body(self, store, tmp_path)
                if check:
                    await check_invariants(store)

        asyncio.run(on_a_store())

    return _named_like(test, run)


def _named_like(test: Callable[..., object], run: _Function) -> _Function:
    """Not `functools.wraps`: pytest would look through it, and ask for a fixture named `store`."""
    for name in ("__name__", "__qualname__", "__doc__", "__module__"):
        setattr(run, name, getattr(test, name))
    return run


def skip_unless_durable(store: ExecutionStore) -> None:
    if not store.capabilities.durable:
        pytest.skip(f"{type(store).__name__} does not survive its process (capabilities.durable)")


@asynccontextmanager
async def _entered(made: MadeStore) -> AsyncGenerator[ExecutionStore]:
    """Whatever form a store was made in: open it, and close it in the end."""
    if isinstance(made, ExecutionStore):
        try:
            yield made
        finally:
            await made.close()
    elif isinstance(made, AbstractAsyncContextManager):
        async with made as store, _entered(store):
            yield store
    else:
        async with _entered(await made) as store:
            yield store
