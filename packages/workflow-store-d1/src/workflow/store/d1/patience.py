"""Asking again where D1 is busy or breaks off, but only where that can't change what is answered."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from workflow.store.sqlite import Batch, Executor, Row

from .errors import D1UnavailableError

__all__ = ["PatientExecutor"]

_PAUSES = (0.1, 0.2, 0.5, 1.0, 2.0, 4.0)


@dataclass
class PatientExecutor:
    """An executor that repeats a batch for up to `retry_for` seconds.

    A batch that D1 refused before it looked at it is always repeated. One that may have happened is repeated where it
    only reads, or is `repeatable`: where its second answer means what the first one would have meant.
    """

    inner: Executor
    retry_for: float
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep

    async def batch(self, statements: Batch, *, readonly: bool = False, repeatable: bool = False) -> list[list[Row]]:
        waited = 0.0
        attempt = 0
        while True:
            try:
                return await self.inner.batch(statements, readonly=readonly)
            except D1UnavailableError as error:
                if error.maybe_written and not (readonly or repeatable):
                    raise
                pause = error.retry_after or _PAUSES[min(attempt, len(_PAUSES) - 1)]
                # Counted in pauses, not by a clock: a call itself is bounded by its own timeout.
                if waited + pause > self.retry_for:
                    raise
            waited += pause
            attempt += 1
            await self.sleep(pause)
