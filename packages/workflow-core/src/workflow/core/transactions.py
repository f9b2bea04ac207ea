"""Database steps: what an engine and a store agree on, so that a step's writes and its event are one transaction."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Literal, Protocol, TypeAlias, cast, get_args

from .errors import InvalidArgumentError
from .records import Commit, Committed

__all__ = ["Isolation", "Transaction", "Transactor", "isolation_level"]

Isolation: TypeAlias = Literal["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"]
"""How much a transaction sees of those beside it, in SQL's words."""


class Transaction(ABC):
    """One attempt of a database step, for a store to run: a function, and the commit that belongs to what it returns.

    A store does, in this order or with the second before the first, and from `begin` on as often as it has to:

        transaction.begin()
        result = transaction.call(connection)       # awaited where `is_async`
        await transaction.turn()
        commit = transaction.commit(result)         # applied by the same transaction of the database

    What `call` and `commit` raise is the step's failure: the store rolls back and lets it through. So is what the
    database says against the transaction as such, which the store tells by `fail`. Everything else that it raises ends
    the drive: whoever claims the run next tries the step again, unless it is in the log.
    """

    run_id: str
    isolation: Isolation | None
    """What the step asks for; None: the database's default."""
    is_async: bool
    """Whether the function is an `async def`."""
    failure: BaseException | None
    """What the step has failed with in this try, if it has."""

    @abstractmethod
    def begin(self) -> None:
        """A try begins, the first or another one. What an earlier one has got is void. On the drive's event loop."""

    @abstractmethod
    def call(self, connection: Any) -> Any:
        """Call the step's function with this connection, in the thread that may use it."""

    @abstractmethod
    async def turn(self) -> None:
        """Wait until the drive stands still: until the store is done, it commits nothing of this run. On its loop."""

    @abstractmethod
    def commit(self, result: Any) -> Commit:
        """What is to be committed with the function's writes. It needs the turn. Any thread may ask for it."""

    @abstractmethod
    def fail(self, error: Exception) -> Exception:
        """The database has undone the transaction for a reason that lies in the step. Gives the error, to be raised."""


class Transactor(Protocol):
    """A store that runs database steps."""

    async def transact(self, transaction: Transaction) -> Committed:
        """Run the step's function and apply its commit, in one transaction of the database.

        All or nothing: the function's writes and the commit (guarded as by `RunStore.commit`) are there together, or
        neither is. The function runs again, in a new transaction, where the database has undone one because of others.

        Raises `LeaseLostError` and `LogConflictError` as `RunStore.commit` does, and what the function raised: nothing
        was written then. Raises `StoreUnavailableError` where the connection was lost for good; if it was lost while
        the end of the transaction was on its way, both may have happened. Never repeats what may have happened: the
        run's log tells whoever claims it next.
        """
        ...


def isolation_level(value: str | None) -> Isolation | None:
    """The level as SQL spells it. Raises `InvalidArgumentError` for one that SQL doesn't have."""
    levels: tuple[str, ...] = get_args(Isolation)
    asked = value.upper().replace("_", " ") if isinstance(value, str) else value
    if asked is not None and asked not in levels:
        raise InvalidArgumentError(f"isolation must be one of {', '.join(levels)}, not {value!r}.")
    return cast("Isolation | None", asked)
