"""How the calls of a process wake its workers."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import datetime

__all__ = ["Bell"]

Listener = Callable[[datetime], None]


class Bell:
    """Rings when this process has made a run due at some time without driving it."""

    def __init__(self) -> None:
        self._listeners: list[Listener] = []

    def ring(self, due_at: datetime) -> None:
        """Tell every listener. Costs nothing where there is none."""
        for listener in tuple(self._listeners):
            listener(due_at)

    @contextmanager
    def listen(self, listener: Listener) -> Generator[None]:
        """Have it called, on whatever thread rings, until the end of the `with` block."""
        self._listeners.append(listener)
        try:
            yield
        finally:
            self._listeners.remove(listener)
