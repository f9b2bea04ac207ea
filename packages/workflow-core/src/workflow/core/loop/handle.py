"""One callback in the ready queue."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import Context
from typing import Any

__all__ = ["ReadyHandle"]


class ReadyHandle:
    """What `call_soon` returns. Lean on purpose: there is one for every step of every task.

    Unlike `asyncio.Handle` it has no `_run` that logs exceptions away: what a callback raises reaches the engine.
    """

    __slots__ = ("args", "callback", "context")

    def __init__(self, callback: Callable[..., object], args: tuple[Any, ...], context: Context) -> None:
        self.callback: Callable[..., object] | None = callback
        self.args = args
        self.context = context

    def cancel(self) -> None:
        self.callback = None
        self.args = ()

    def cancelled(self) -> bool:
        return self.callback is None
