"""DBOS Transact (`dbos`): workflows checkpointed by decorators. Async workflows, launched as its documentation says.

Default configuration, except for the address of the database, quiet logs, and fewer threads, which was faster. A
sleeping or waiting workflow stays a task of the process, so waking it costs no replay; what a restart would cost is
measured by recovering a workflow that seems to be left over by an executor that has died, which is what `DBOS.launch`
does for its own.
"""
# pyright: reportMissingImports=false

from __future__ import annotations

import asyncio
import threading
import time
from itertools import count as counter
from typing import Any
from uuid import uuid4

import psycopg
from bench.system import Marks, System, until
from dbos import DBOS, DBOSConfig, SetWorkflowID

__all__ = ["Dbos"]

marks = Marks()
spans: list[tuple[float, float]] = []
"""When the handler of a long workflow began, and when it had its message."""
_FAR = 100_000.0
_ASLEEP = "SELECT count(*) FROM dbos.operation_outputs WHERE function_name = 'DBOS.sleep' AND workflow_uuid = ANY(%s)"
_RECORDED = "SELECT count(*) FROM dbos.operation_outputs WHERE workflow_uuid = %s AND function_id <= %s"


@DBOS.step()
async def work(number: int) -> int:
    return number


@DBOS.step()
async def marked(number: int) -> int:
    marks.note()
    return number


@DBOS.workflow()
async def five_steps(steps: int) -> int:
    total = 0
    for number in range(steps):
        total += await work(number)
    return total


@DBOS.workflow()
async def sleeper(wake_at: float) -> int:
    await DBOS.sleep_async(max(wake_at - time.time(), 0.0))
    return 1


@DBOS.workflow()
async def long(steps: int) -> int:
    began = time.perf_counter()
    total = 0
    for number in range(steps):
        total += await marked(number)
    await DBOS.recv_async("go", timeout_seconds=_FAR)
    spans.append((began, time.perf_counter()))
    return total


class Dbos(System):
    async def open(self) -> None:
        config: DBOSConfig = {
            "name": "bench",
            "system_database_url": self.target,
            "log_level": "ERROR",
            "executor_id": "bench",
            "application_version": "1",
            # Faster than the default: 39 to 44 runs/s, instead of 27 to 30, when this was written.
            "max_executor_threads": 8,
        }
        DBOS(config=config)
        DBOS.launch()
        self._clones = counter()

    async def close(self) -> None:
        # Not by `to_thread`: launched, DBOS lends the event loop its own threads, which end here.
        ending = threading.Thread(target=DBOS.destroy)
        ending.start()

        async def ended() -> bool:
            return not ending.is_alive()

        await until(ended, 0.005)

    async def run(self, steps: int) -> None:
        await five_steps(steps)

    async def run_all(self, count: int, steps: int) -> None:
        handles = await asyncio.gather(*(DBOS.start_workflow_async(five_steps, steps) for _ in range(count)))
        await asyncio.gather(*(handle.get_result() for handle in handles))

    async def park(self, count: int, wake_at: float) -> None:
        starts = (DBOS.start_workflow_async(sleeper, wake_at) for _ in range(count))
        self._handles = await asyncio.gather(*starts)
        ids = [handle.get_workflow_id() for handle in self._handles]

        async def asleep() -> bool:
            (row,) = await self._sql(_ASLEEP, ids)
            return int(row[0]) >= count

        await until(asleep, 0.05)

    async def awake(self, count: int) -> None:
        await asyncio.gather(*(handle.get_result() for handle in self._handles))

    async def prepare(self, steps: int) -> Marks:
        marks.clear()
        self._steps = steps
        self._prepared = str(uuid4())
        with SetWorkflowID(self._prepared):
            await DBOS.start_workflow_async(long, steps)

        async def recorded() -> bool:
            if len(marks) < steps:
                return False
            (row,) = await self._sql(_RECORDED, self._prepared, steps)
            return int(row[0]) >= steps

        await until(recorded, 0.02)
        return Marks(marks)

    async def resume(self) -> float:
        """The time that the handler takes: a recovery waits for a queue that is polled, up to a second, before it."""
        spans.clear()
        handles = await asyncio.to_thread(DBOS._recover_pending_workflows, [self._owner])
        await asyncio.to_thread(handles[0].get_result)
        ((began, ended),) = spans
        return ended - began

    async def before_resume(self) -> None:
        """A copy of the prepared workflow, as an executor that died just then would have left it, its message there."""
        self._owner = f"dead-{next(self._clones)}-{self._prepared}"
        clone = str(uuid4())
        await self._copy("workflow_status", clone, {"executor_id": self._owner})
        await self._copy("workflow_input", clone, {})
        await self._copy("operation_outputs", clone, {}, f"AND function_id <= {self._steps}")
        await DBOS.send_async(clone, "now", topic="go")

    async def _copy(self, table: str, clone: str, changes: dict[str, str], condition: str = "") -> None:
        found = await self._sql(
            "SELECT column_name FROM information_schema.columns WHERE table_schema = 'dbos' AND table_name = %s", table
        )
        columns = [row[0] for row in found]
        changes = {"workflow_uuid": clone, **changes}
        values = ", ".join("%s" if column in changes else column for column in columns)
        await self._sql(
            f"INSERT INTO dbos.{table} ({', '.join(columns)}) "
            f"SELECT {values} FROM dbos.{table} WHERE workflow_uuid = %s {condition}",
            *(changes[column] for column in columns if column in changes),
            self._prepared,
        )

    async def _sql(self, statement: str, *args: Any) -> list[Any]:
        async with await psycopg.AsyncConnection.connect(self.target, autocommit=True) as connection:
            found = await connection.execute(statement.encode(), args)
            return await found.fetchall() if found.description else []
