"""One event loop for the life of the process: what is bound to it (pools of connections) outlives an invocation."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Protocol, TypeVar

__all__ = ["Invocation", "LambdaContext", "run"]

T = TypeVar("T")


class LambdaContext(Protocol):
    """What Lambda tells a handler about its invocation."""

    aws_request_id: str

    def get_remaining_time_in_millis(self) -> int: ...


class Invocation:
    """The host's side of one invocation: how long it may take, and what to call it."""

    def __init__(self, context: LambdaContext | None) -> None:
        self._context = context

    @property
    def id(self) -> str | None:
        return getattr(self._context, "aws_request_id", None)

    def remaining(self) -> float | None:
        """Seconds until Lambda ends the process; None where nobody says (a test, a REPL)."""
        tell = getattr(self._context, "get_remaining_time_in_millis", None)
        return None if tell is None else max(0.0, tell() / 1000)


_runner: asyncio.Runner | None = None


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run it on the loop of this process.

    `asyncio.run` would make a loop for each invocation, and the connections of the last one would belong to a dead
    loop.
    """
    global _runner
    if _runner is None:
        _runner = asyncio.Runner()
    return _runner.run(work)
