"""Coroutines that a handler has made and not awaited yet."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator
from types import CoroutineType, FrameType
from typing import Any, cast

__all__ = ["close_unawaited"]

_CONTAINERS = (list, tuple, set, frozenset)


def close_unawaited(coroutine: Any) -> None:
    """Close what a handler that pauses holds and would have awaited later: `a, b = ctx.step(..), ctx.step(..)`, then
    `await a`. Python warns of coroutines that are never awaited, and these will be, in a later drive.
    """
    while coroutine is not None:
        frame = getattr(coroutine, "cr_frame", None) or getattr(coroutine, "ag_frame", None)
        if frame is not None:
            for held in _coroutines(frame):
                if inspect.getcoroutinestate(held) == inspect.CORO_CREATED:
                    held.close()
        coroutine = getattr(coroutine, "cr_await", None) or getattr(coroutine, "ag_await", None)


def _coroutines(frame: FrameType) -> Iterator[CoroutineType[Any, Any, Any]]:
    """Those in the variables of a frame, and in what these contain."""
    for value in [*frame.f_locals.values()]:
        items: Iterable[object] = ()
        if isinstance(value, _CONTAINERS):
            items = cast("Iterable[object]", value)
        elif isinstance(value, dict):
            items = cast("dict[object, object]", value).values()
        for item in cast("tuple[object, ...]", (value, *items)):
            if isinstance(item, CoroutineType):
                yield cast("CoroutineType[Any, Any, Any]", item)
