"""What `call_at` and `call_later` return: an asyncio timer that the run's log makes durable."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import Context
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .loop import DurableLoop

__all__ = ["DurableTimer"]


class DurableTimer(asyncio.TimerHandle):
    """A timer that the engine fires when the log says so. `asyncio.timeout`, `wait_for` and `sleep` are made of it."""

    def __init__(
        self,
        when: float,
        callback: Callable[..., object],
        args: tuple[Any, ...],
        loop: DurableLoop,
        context: Context | None,
    ) -> None:
        super().__init__(when, callback, args, loop, context)
        self._fire_on = loop

    def fire(self) -> None:
        """Put the callback into the ready queue, as the event loop of asyncio would at `when`."""
        if not self.cancelled():
            callback, args, context = self._callback, self._args, self._context  # type: ignore[attr-defined]
            self._fire_on.call_soon(callback, *args, context=context)
