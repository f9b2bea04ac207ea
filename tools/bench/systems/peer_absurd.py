"""Absurd (`absurd-sdk`): tasks in stored procedures, claimed by workers that poll. The async client of its README.

It has one connection. So there are a few workers, each with a client of its own, which was the fastest
arrangement in one process (see WORKERS); the schema comes with `absurdctl`.
"""
# pyright: reportMissingImports=false

from __future__ import annotations

import asyncio
from itertools import count as counter
from typing import Any

import psycopg
from absurd_sdk import AsyncAbsurd
from absurdctl import BUNDLED_SCHEMA_SQL
from bench.system import Marks, System, until

__all__ = ["Absurd"]

WORKERS = 4
PLACES = 50
POLL = 0.01
"""Seconds between its polls while nothing is due, instead of its 0.25: what is measured are wakes, not naps."""

marks = Marks()


class Absurd(System):
    async def open(self) -> None:
        await self._migrate()
        self._app = AsyncAbsurd(self.target)
        await self._app.create_queue("default")
        self._register(self._app)
        self._ended = 0
        self._turns = counter()
        self._workers: list[tuple[AsyncAbsurd, asyncio.Task[None]]] = []

    async def _migrate(self) -> None:
        async with await psycopg.AsyncConnection.connect(self.target, autocommit=True) as connection:
            found = await connection.execute("SELECT to_regnamespace('absurd')")
            if (await found.fetchone()) == (None,):
                await connection.execute(BUNDLED_SCHEMA_SQL.encode())

    async def close(self) -> None:
        await self._stop()
        await self._app.close()

    def _register(self, app: AsyncAbsurd) -> None:
        @app.register_task(name="five-steps")
        async def five_steps(params: Any, ctx: Any) -> int:
            total = 0
            for number in range(params["steps"]):
                total += await ctx.step(f"step-{number}", _work(number))
            self._ended += 1
            return total

        @app.register_task(name="sleeper")
        async def sleeper(params: Any, ctx: Any) -> int:
            await ctx.sleep_until("until", params["wake_at"])
            self._ended += 1
            return 1

        @app.register_task(name="long")
        async def long(params: Any, ctx: Any) -> int:
            total = 0
            for number in range(params["steps"]):
                total += await ctx.step(f"step-{number}", _marked(number))
            for turn in range(100):
                await ctx.await_event(f"go-{ctx.task_id}-{turn}")
            return total

    async def run(self, steps: int) -> None:
        """Enqueued, and worked off at once by the same process, without a poll between."""
        await self._app.spawn("five-steps", {"steps": steps})
        await self._app.work_batch()

    async def run_all(self, count: int, steps: int) -> None:
        await self._spawn(count, "five-steps", {"steps": steps})
        await self._worked_off(count)
        await self._stop()

    async def _spawn(self, count: int, name: str, params: Any) -> None:
        """By as many clients as there are workers."""
        self._ended = 0
        self._before = await self._count("completed")
        await self._start()
        shares = [len(range(number, count, WORKERS)) for number in range(WORKERS)]

        async def share(client: AsyncAbsurd, tasks: int) -> None:
            for _ in range(tasks):
                await client.spawn(name, params)

        clients = [client for client, _ in self._workers]
        await asyncio.gather(*(share(client, tasks) for client, tasks in zip(clients, shares, strict=True)))

    async def _start(self) -> None:
        for number in range(WORKERS if not self._workers else 0):
            client = AsyncAbsurd(self.target)
            self._register(client)
            serve = client.start_worker(worker_id=f"worker-{number}", concurrency=PLACES, poll_interval=POLL)
            self._workers.append((client, asyncio.create_task(serve)))
        await asyncio.sleep(0)

    async def _stop(self) -> None:
        for client, _ in self._workers:
            client.stop_worker()
        await asyncio.gather(*(task for _, task in self._workers))
        for client, _ in self._workers:
            await client.close()
        self._workers.clear()

    async def _worked_off(self, count: int) -> None:
        """What is counted in the process says when to begin to ask the database."""

        async def left_handlers() -> bool:
            return self._ended >= count

        async def recorded() -> bool:
            return await self._count("completed") - self._before >= count

        await until(left_handlers, 0.002)
        await until(recorded, 0.005)

    async def _count(self, state: str) -> int:
        async with await psycopg.AsyncConnection.connect(self.target, autocommit=True) as connection:
            found = await connection.execute("SELECT count(*) FROM absurd.t_default WHERE state = %s", (state,))
            row = await found.fetchone()
            return 0 if row is None else int(row[0])

    async def park(self, count: int, wake_at: float) -> None:
        before = await self._count("sleeping")
        await self._spawn(count, "sleeper", {"wake_at": wake_at})

        async def asleep() -> bool:
            return await self._count("sleeping") - before >= count

        await until(asleep, 0.02)

    async def awake(self, count: int) -> None:
        await self._worked_off(count)
        await self._stop()

    async def prepare(self, steps: int) -> Marks:
        marks.clear()
        self._turns = counter()
        self._prepared = (await self._app.spawn("long", {"steps": steps}))["task_id"]
        await self._app.work_batch()
        return Marks(marks)

    async def resume(self) -> None:
        await self._app.emit_event(f"go-{self._prepared}-{next(self._turns)}")
        await self._app.work_batch()


def _work(number: int) -> Any:
    async def work() -> int:
        return number

    return work


def _marked(number: int) -> Any:
    async def marked() -> int:
        marks.note()
        return number

    return marked
