"""The floor: the commits that a durable run can't do without, by bare asyncpg, with no engine around them.

A run of n steps is n + 1 inserts, one after another: its start, and the result of each step (the last one stands for
the end as well). `FloorSingle` commits each by itself, on a pool of ten connections where many run at once.
`FloorGroup` writes what waits at the same time in one statement, on two connections. Nothing here could resume a run:
it is what hardware and driver allow, to hold the engines against.
"""

from __future__ import annotations

import asyncio
from itertools import count as counter
from typing import Any

import asyncpg  # pyright: ignore[reportMissingTypeStubs]
from bench.system import System

__all__ = ["FloorGroup", "FloorSingle"]

_TABLE = """
CREATE TABLE IF NOT EXISTS floor_log (
    run_id text COLLATE "C" NOT NULL, idx integer NOT NULL, event text NOT NULL, PRIMARY KEY (run_id, idx)
)"""
_ONE = "INSERT INTO floor_log (run_id, idx, event) VALUES ($1, $2, $3)"
_MANY = "INSERT INTO floor_log (run_id, idx, event) SELECT * FROM unnest($1::text[], $2::integer[], $3::text[])"
_EVENT = '{"type": "STEP_FINISHED", "step_id": "step-1", "result": 1}'
_LIMIT = 256


class FloorSingle(System):
    """One commit for each event."""

    sleeps = False
    resumes = False
    connections = 10

    def __init__(self, target: str) -> None:
        super().__init__(target)
        self._numbers = counter()
        self._pool: Any = None
        self._held: Any = None

    async def open(self) -> None:
        # The reset of a released connection would cost more statements than the work itself.
        self._pool = await asyncpg.create_pool(
            self.target, min_size=self.connections, max_size=self.connections, reset=_nothing
        )
        self._held = await asyncpg.connect(self.target)
        await self._held.execute(_TABLE)

    async def close(self) -> None:
        await self._held.close()
        await self._pool.close()

    async def run(self, steps: int) -> None:
        run_id = f"run-{next(self._numbers)}"
        for index in range(steps + 1):
            await self._held.execute(_ONE, run_id, index, _EVENT)

    async def run_all(self, count: int, steps: int) -> None:
        await asyncio.gather(*(self._pooled(steps) for _ in range(count)))

    async def _pooled(self, steps: int) -> None:
        run_id = f"run-{next(self._numbers)}"
        async with self._pool.acquire() as connection:
            for index in range(steps + 1):
                await connection.execute(_ONE, run_id, index, _EVENT)


class FloorGroup(FloorSingle):
    """What waits at the same time shares a commit."""

    connections = 2

    async def open(self) -> None:
        await super().open()
        self._waiting: list[tuple[str, int, asyncio.Future[None]]] = []
        self._writers = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self, steps: int) -> None:
        await self._grouped(steps)

    async def run_all(self, count: int, steps: int) -> None:
        await asyncio.gather(*(self._grouped(steps) for _ in range(count)))

    async def _grouped(self, steps: int) -> None:
        run_id = f"run-{next(self._numbers)}"
        loop = asyncio.get_running_loop()
        for index in range(steps + 1):
            written = loop.create_future()
            self._waiting.append((run_id, index, written))
            if self._writers < self.connections:
                self._writers += 1
                task = loop.create_task(self._write())
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            await written

    async def _write(self) -> None:
        async with self._pool.acquire() as connection:
            while self._waiting:
                group, self._waiting = self._waiting[:_LIMIT], self._waiting[_LIMIT:]
                ids, indexes, futures = zip(*group, strict=True)
                await connection.execute(_MANY, ids, indexes, [_EVENT] * len(group))
                for future in futures:
                    future.set_result(None)
        self._writers -= 1


async def _nothing(connection: Any) -> None:
    """Instead of the statements that reset a connection."""
