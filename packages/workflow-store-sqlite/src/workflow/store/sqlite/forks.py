"""Processes that fork while a store is open.

A connection must not be carried over a fork: SQLite keeps account of its file locks within the process, and the child
would inherit the account without the locks. So around a fork every lane comes to rest and closes its file. Parent and
child each open it again when they next need it, the child with threads of its own.
"""

from __future__ import annotations

import os
from typing import Protocol
from weakref import WeakSet

__all__ = ["Forkable", "watch"]


class Forkable(Protocol):
    def hold(self) -> None: ...
    def go_on(self) -> None: ...
    def start_over(self) -> None: ...


_watched: WeakSet[Forkable] = WeakSet()
_held: list[Forkable] = []


def watch(lane: Forkable) -> None:
    """Look after this lane, as long as it lives, whenever the process forks."""
    _watched.add(lane)


def _before() -> None:
    for lane in list(_watched):
        lane.hold()
        _held.append(lane)


def _in_parent() -> None:
    while _held:
        _held.pop().go_on()


def _in_child() -> None:
    while _held:
        _held.pop().start_over()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)
