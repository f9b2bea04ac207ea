"""Two functions of asyncio that create tasks in a way on which a log can't rely.

`as_completed` creates them in the order of a set of coroutines, which differs from process to process. `wait_for`
creates one up to Python 3.11 and none since, which must not change the place of a task, and with it automatic ids: a
run outlives an upgrade of Python.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from types import CodeType, FrameType
from typing import Any, cast

from workflow.core.errors import HandlerError

__all__ = ["FROM_WAIT_FOR", "find_caller"]

FROM_WAIT_FOR: Any = object()
"""The task stands for its caller: `wait_for` runs what it was given."""


def _code(name: str) -> tuple[CodeType, ...]:
    code = getattr(getattr(asyncio.tasks, name, None), "__code__", None)
    return () if code is None else (code,)


_ENSURE_FUTURE = frozenset((*_code("ensure_future"), *_code("_ensure_future")))
_WAIT_FOR = frozenset(_code("wait_for"))
_AS_COMPLETED = frozenset(_code("as_completed"))


def find_caller(frame: FrameType) -> Any:
    """Given the frame that calls `create_task`: `FROM_WAIT_FOR`, the list that `as_completed` was given, or None."""
    if frame.f_code not in _ENSURE_FUTURE:
        return None
    caller: FrameType | None = frame
    while caller is not None and caller.f_code in _ENSURE_FUTURE:
        caller = caller.f_back
    if caller is None or caller.f_globals.get("__name__") != asyncio.tasks.__name__:
        return None
    if caller.f_code in _WAIT_FOR:
        return FROM_WAIT_FOR
    return _given_to_as_completed(caller)


def _given_to_as_completed(caller: FrameType) -> Sequence[Any] | None:
    """Its frame is found behind that of a comprehension (up to 3.11), and of an `__init__` (from 3.13 on)."""
    frame: FrameType | None = caller
    for _ in range(3):
        if frame is None:
            return None
        if frame.f_code in _AS_COMPLETED:
            return _in_order(frame.f_locals.get("fs"))
        frame = frame.f_back
    return None


def _in_order(given: object) -> Sequence[Any]:
    if isinstance(given, (list, tuple)):
        return cast("Sequence[Any]", given)
    raise HandlerError(
        f"asyncio.as_completed was given a {type(given).__name__} of coroutines, whose order is lost in it and "
        "differs from "
        "process to process. Give it a list, or tasks."
    )
