"""Events on their way to the observers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, overload

from workflow.core.events import Event

__all__ = ["Published", "Unmade"]

Unmade = tuple[type[Event], dict[str, Any]]
"""The class of an event and its fields."""


class Published(Sequence[Event]):
    """Events that are made when somebody looks at them: mostly nobody does, and they are only counted."""

    __slots__ = ("_items",)

    def __init__(self, items: list[Event | Unmade]) -> None:
        self._items = items

    def __len__(self) -> int:
        return len(self._items)

    @overload
    def __getitem__(self, index: int) -> Event: ...
    @overload
    def __getitem__(self, index: slice) -> list[Event]: ...
    def __getitem__(self, index: int | slice) -> Event | list[Event]:
        if isinstance(index, slice):
            return [self[position] for position in range(*index.indices(len(self._items)))]
        item = self._items[index]
        if isinstance(item, tuple):
            kind, fields = item
            item = self._items[index] = kind(**fields)
        return item
