"""Group commit: what different runs want to write at the same time is written in one transaction.

A commit costs a sync of the server's disk and a round trip. Both cost the same for one run as for three hundred, so
what waits while another group is being written goes out together next. Nothing is ever delayed to make a group larger:
who finds a free writer is written at once.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from workflow.core.errors import InvalidArgumentError, PayloadError

__all__ = ["Again", "Group"]

Item = TypeVar("Item")
Answer = TypeVar("Answer")

_SMALL = 32
"""What is not worth sharing."""
_FIRST_PAUSE = 0.001
_LONGEST_PAUSE = 0.05


class Again:
    """The answer for what could not be decided, as another transaction holds the run: ask again a moment later."""


class _Waiting(Generic[Item, Answer]):
    __slots__ = ("future", "item", "key", "pause")

    def __init__(self, key: str, item: Item, future: asyncio.Future[Answer]) -> None:
        self.key = key
        self.item = item
        self.future = future
        self.pause = _FIRST_PAUSE


class Group(Generic[Item, Answer]):
    """Collects items and has them written, at most `limit` of them and about `characters` in one statement.

    Writers share what waits: one group of everything would let the client wait for it with nothing to do.

    `write` answers for each item, in their order: with an answer, with the error that is this item's alone, or with
    `Again`. What it raises is every item's, except for a value that can't be written: then each is written by itself,
    and the error is the culprit's.
    """

    def __init__(
        self,
        write: Callable[[Sequence[Item]], Awaitable[Sequence[Answer | Exception | type[Again]]]],
        *,
        size: Callable[[Item], int],
        writers: int,
        limit: int = 256,
        characters: int = 8_000_000,
    ) -> None:
        self._write = write
        self._size = size
        self._writers = writers
        self._limit = limit
        self._characters = characters
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[_Waiting[Item, Answer]] = deque()
        # Counted apart from the tasks: a task is known to be done only a moment after it has found nothing to do.
        self._writing = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._paused: set[asyncio.TimerHandle] = set()

    async def submit(self, key: str, item: Item) -> Answer:
        """Have it written, and answer for it. Items of one key (a run) are never in one group.

        Who meets an idle group writes by itself, without the detour of a task. Who is cancelled may have written.
        """
        if self._waiting or self._writing >= self._writers:
            return await self._enqueue(key, item)
        self._writing += 1
        try:
            (answer,) = await self._write((item,))
        finally:
            self._writing -= 1
            self._start_writer()
        if answer is Again:
            await asyncio.sleep(_FIRST_PAUSE)
            return await self._enqueue(key, item)
        if isinstance(answer, Exception):
            raise answer
        return answer  # pyright: ignore[reportReturnType]

    async def drain(self) -> None:
        """Wait until nothing is under way."""
        while self._writing or self._waiting or self._paused:  # noqa: ASYNC110 - an event would cost every item
            await asyncio.sleep(0 if self._waiting else _FIRST_PAUSE)

    def _enqueue(self, key: str, item: Item) -> asyncio.Future[Answer]:
        waiting: _Waiting[Item, Answer] = _Waiting(key, item, self._loop.create_future())
        self._waiting.append(waiting)
        self._start_writer()
        return waiting.future

    def _start_writer(self) -> None:
        if self._waiting and self._writing < self._writers:
            self._writing += 1
            # In a context of its own: a writer serves many, and must not carry the first one's variables around.
            task = self._loop.create_task(self._write_groups(), context=contextvars.Context())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _write_groups(self) -> None:
        try:
            while group := self._take():
                await self._write_group(group)
        finally:
            self._writing -= 1

    def _take(self) -> list[_Waiting[Item, Answer]]:
        """The next group: the longest waiting, each key once."""
        group: list[_Waiting[Item, Answer]] = []
        keys: set[str] = set()
        later: list[_Waiting[Item, Answer]] = []
        size = 0
        limit = min(self._limit, max(_SMALL, -(-len(self._waiting) // self._writers)))
        while self._waiting and len(group) < limit and (not group or size < self._characters):
            waiting = self._waiting.popleft()
            if waiting.future.done():
                continue
            if waiting.key in keys:
                later.append(waiting)
                continue
            keys.add(waiting.key)
            group.append(waiting)
            size += self._size(waiting.item)
        self._waiting.extendleft(reversed(later))
        return group

    async def _write_group(self, group: list[_Waiting[Item, Answer]]) -> None:
        try:
            answers = await self._write([waiting.item for waiting in group])
        except (InvalidArgumentError, PayloadError) as error:
            if len(group) == 1:
                _fail(group, error)
            for waiting in group if len(group) > 1 else ():
                await self._write_group([waiting])
        except BaseException as error:
            _fail(group, error)
            if not isinstance(error, Exception):
                raise
        else:
            for waiting, answer in zip(group, answers, strict=True):
                self._settle(waiting, answer)

    def _settle(self, waiting: _Waiting[Item, Answer], answer: Answer | Exception | type[Again]) -> None:
        if waiting.future.done():
            return
        if answer is Again:
            self._ask_again(waiting)
        elif isinstance(answer, Exception):
            waiting.future.set_exception(answer)
        else:
            waiting.future.set_result(answer)  # pyright: ignore[reportArgumentType]

    def _ask_again(self, waiting: _Waiting[Item, Answer]) -> None:
        def back() -> None:
            self._paused.discard(timer)
            self._waiting.append(waiting)
            self._start_writer()

        timer = self._loop.call_later(waiting.pause, back)
        self._paused.add(timer)
        waiting.pause = min(waiting.pause * 2, _LONGEST_PAUSE)


def _fail(group: Sequence[_Waiting[Item, Answer]], error: BaseException) -> None:
    for waiting in group:
        if waiting.future.done():
            continue
        if isinstance(error, Exception):
            waiting.future.set_exception(error)
        else:
            waiting.future.cancel()
