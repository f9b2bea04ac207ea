"""What a system has to be able to do to be measured, and nothing about how it is measured.

Each of `systems/` implements this the way its documentation says; `measures.py` does the same to all of them.
"""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable

__all__ = ["Marks", "System", "until"]


class Marks(list[float]):
    """When each step of a long run began, by `time.perf_counter`."""

    def note(self) -> None:
        self.append(time.perf_counter())


class System(ABC):
    """One system on one database. Every step of every run does nothing and answers a number."""

    sleeps = True
    """Whether it has durable timers."""
    resumes = True
    """Whether it can go on with a run from what it has recorded."""

    def __init__(self, target: str) -> None:
        self.target = target
        """A database URL (`postgresql://`), or the path of a file."""

    @abstractmethod
    async def open(self) -> None:
        """Be ready to run: the tables are made where they are missing."""

    @abstractmethod
    async def close(self) -> None:
        """Give all connections back. It may be opened again."""

    @abstractmethod
    async def run(self, steps: int) -> None:
        """One run of so many steps in a row, from its start to its recorded end."""

    @abstractmethod
    async def run_all(self, count: int, steps: int) -> None:
        """So many of them, begun together, until all have ended."""

    async def park(self, count: int, wake_at: float) -> None:
        """Begin runs that sleep until a time (as of `time.time`) and then end. Returns when all of them sleep."""
        raise NotImplementedError

    async def awake(self, count: int) -> None:
        """Wait until so many of those that were parked last have ended, as soon as they are due."""
        raise NotImplementedError

    async def prepare(self, steps: int) -> Marks:
        """Take one run through so many steps, and leave it waiting in front of the next thing to do."""
        raise NotImplementedError

    async def before_resume(self) -> None:  # noqa: B027 - most need nothing
        """What `resume` needs and is not part of resuming."""

    async def resume(self) -> float | None:
        """Go on with the prepared run, from nothing but what is recorded, to the next place. May be repeated.

        Answers its seconds where not all of the time that the call takes is to count.
        """
        raise NotImplementedError


async def until(true: Callable[[], Awaitable[bool]], pause: float) -> None:
    """Wait for what another process, or a thread of a peer, does: nobody tells of it."""
    while not await true():  # noqa: ASYNC110
        await asyncio.sleep(pause)
