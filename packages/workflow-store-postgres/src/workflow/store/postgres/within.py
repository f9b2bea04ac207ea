"""What the store writes within a transaction of the app's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from workflow.core.errors import StoreUnavailableError
from workflow.core.records import CreatedRun, Delivered

from .creations import Creation, created, creation_args, is_plain, whole_args
from .drivers import SchemaError, translated
from .groups import Again
from .joining import Joined
from .rows import Row
from .statements import Statements
from .writing import Delivery, Undecided, delivered, delivery_args

__all__ = ["create_within", "deliver_within"]

Answer = TypeVar("Answer")
_TRIES = 10


async def create_within(joined: Joined, sql: Statements, creation: Creation) -> CreatedRun:
    new = creation[0]
    text, args = (sql.create_within, creation_args) if is_plain(new) else (sql.create_whole_within, whole_args)
    return await _decided(joined, text, args(creation), lambda row: created(creation, row), new.run_id)


async def deliver_within(joined: Joined, sql: Statements, delivery: Delivery) -> Delivered:
    return await _decided(
        joined, sql.deliver_within, delivery_args(delivery), lambda row: delivered(delivery, row, {}), delivery.run_id
    )


async def _decided(
    joined: Joined, sql: str, args: Sequence[Any], read: Callable[[Row], Answer | Undecided], run_id: str
) -> Answer:
    """Ask until the answer is clear. It isn't where another transaction ended while the statement waited for it."""
    for _ in range(_TRIES):
        answer = read(await _first(joined, sql, args))
        if isinstance(answer, Exception):
            raise answer
        if answer is not Again:
            return answer  # pyright: ignore[reportReturnType]
    raise StoreUnavailableError(f"Run {run_id!r} is created and purged again and again. Nothing was written.")


async def _first(joined: Joined, sql: str, args: Sequence[Any]) -> Row:
    try:
        return (await joined.fetch(sql, *args))[0]
    except Exception as error:
        if isinstance(ours := translated(error), SchemaError):
            raise ours from error
        raise
