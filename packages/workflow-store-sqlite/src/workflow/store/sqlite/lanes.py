"""Two threads for one database: a lane for writing and a lane for reading, each with a connection of its own.

A coroutine puts its batch into a lane's queue and awaits a future of its own event loop; the lane's thread runs the
batch and hands the answer back to that loop. So a disk never blocks an event loop, and batches may come from any loop
in any thread.

**Group commit.** What waits in the writing lane when its thread is free is written in one transaction, with one sync of
the disk for all. A batch that waits alone goes at once; while it is being synced the next group gathers. The answers
leave after the commit. If a batch of a group fails, the transaction is rolled back and each batch goes by itself: the
failing one gets its error and the others never know. Groups are bounded, so that other processes get their turn.

**Several processes.** Only one can write at a time. A lane that finds the database locked tries again after a short
random while, until its patience (the busy timeout) ends; it takes the write lock before it reads, so that what it has
read can't change under it.

A lane's thread starts with its first batch and ends with `stop`, after what is in the queue.
"""

from __future__ import annotations

import asyncio
import random
import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from queue import Empty, SimpleQueue

from workflow.core.errors import StoreError

from . import forks
from .connection import Database, is_busy, is_unusable, sqlite_error
from .executor import Batch, Row

__all__ = ["Lane", "ReadingLane", "WritingLane"]

_SHORTEST_WAIT = 0.000_5
_LONGEST_WAIT = 0.02


class Job:
    """A batch, who waits for it, and what came of it."""

    __slots__ = ("batch", "error", "future", "loop", "results")
    alone = False
    """Whether it needs a transaction to itself."""

    def __init__(self, batch: Batch, loop: asyncio.AbstractEventLoop) -> None:
        self.batch = batch
        self.loop = loop
        self.future: asyncio.Future[list[list[Row]]] = loop.create_future()
        self.results: list[list[Row]] = []
        self.error: Exception | None = None

    def run(self, connection: sqlite3.Connection) -> list[list[Row]]:
        return [connection.execute(sql, values).fetchall() for sql, values in self.batch]

    def owns(self, error: Exception) -> bool:
        """Whether the error is the job's own affair, and neither of the database nor worth another try."""
        return False

    def fail_at_end(self, error: sqlite3.Error) -> Exception:
        """The error to raise for a COMMIT that was refused."""
        return error


class Lane:
    """One thread, one connection, one queue of batches."""

    kind = ""
    begin = "BEGIN"

    def __init__(
        self, database: Database, connect: Callable[[], sqlite3.Connection], *, patience: float, group_size: int = 1
    ) -> None:
        self.database = database
        self._connect = connect
        self._patience = patience
        self._group_size = group_size
        self._connection: sqlite3.Connection | None = None
        self._stopped = False
        self._ended: Future[None] = Future()
        self.start_over()
        forks.watch(self)

    def start_over(self) -> None:
        """Set up what belongs to a process: in a new lane, and in the child of a fork, where the thread is gone."""
        self._thread: threading.Thread | None = None
        self._queue: SimpleQueue[Job | None] = SimpleQueue()
        self._gate = threading.Lock()  # guards `_thread` and `_stopped`
        self._in_use = threading.Lock()  # held while the connection is used
        self._held_over: Job | None = None  # taken from the queue, and not to be done with those before it

    def submit(self, batch: Batch) -> asyncio.Future[list[list[Row]]]:
        """Put a batch into the queue. Its answer comes to the running event loop."""
        return self.put(Job(batch, asyncio.get_running_loop()))

    def put(self, job: Job) -> asyncio.Future[list[list[Row]]]:
        """Put a job into the queue."""
        with self._gate:
            if self._stopped:
                raise StoreError(f"{self.database.where} has been closed by this store: make a new store to go on.")
            if self._thread is None:
                self._thread = self._start()
            self._queue.put(job)
        return job.future

    def stop(self) -> Future[None]:
        """Let the thread end after what is in the queue. The future is done when the connection is closed."""
        with self._gate:
            if not self._stopped:
                self._stopped = True
                self._queue.put(None)
                if self._thread is None:
                    self._end()
        return self._ended

    async def close(self) -> None:
        """Stop, and wait until the thread is gone."""
        await asyncio.shield(asyncio.wrap_future(self.stop()))
        if self._thread is not None:
            self._thread.join()  # it has nothing left to do but to return

    def disconnect(self) -> None:
        """Close the connection; it is opened again when needed. What is in memory alone stays."""
        if self._connection is not None and (self._stopped or not self.database.in_memory):
            self._connection.close()
            self._connection = None

    def hold(self) -> None:
        """Before a fork: wait until nothing is under way, and let go of the file (see forks.py)."""
        self._in_use.acquire()
        self.disconnect()

    def go_on(self) -> None:
        self._in_use.release()

    def _start(self) -> threading.Thread:
        thread = threading.Thread(target=self._serve, name=f"workflow-sqlite-{self.kind}", daemon=True)
        thread.start()
        return thread

    def _serve(self) -> None:
        while self._serve_group():
            pass
        self._end()

    def _serve_group(self) -> bool:
        """One turn. Between turns nothing here refers to a batch, an error or a loop of the past."""
        group = self._take()
        if group:
            self._settle(group)
            _answer(group)
        return bool(group)

    def _end(self) -> None:
        with self._in_use:
            self.disconnect()
        self._ended.set_result(None)

    def _take(self) -> list[Job]:
        """Wait for a job, and take along what else is there. Empty when the lane has been stopped."""
        group: list[Job] = []
        job, self._held_over = self._held_over or self._queue.get(), None
        while job is not None:
            if job.alone and group:
                self._held_over = job
                return group
            group.append(job)
            if job.alone or len(group) == self._group_size:
                return group
            try:
                job = self._queue.get_nowait()
            except Empty:
                return group
        if group:
            self._queue.put(None)  # found behind the last job: find it again when these are done
        return group

    def _settle(self, group: list[Job]) -> None:
        """Give each job its results or its error, trying again as long as the database is locked."""
        wait, end = _SHORTEST_WAIT, time.monotonic() + self._patience
        while (error := self._try(group)) is not None:
            if not is_busy(error) or group[0].owns(error) or time.monotonic() > end:
                self._fail(group, error)
                return
            time.sleep(random.uniform(0, wait))  # out of step with other processes
            wait = min(wait * 1.5, _LONGEST_WAIT)

    def _try(self, group: list[Job]) -> Exception | None:
        with self._in_use:
            try:
                if self._connection is None:
                    self._connection = self._connect()
                self._transact(self._connection, group)
            except Exception as error:
                self._recover(error)
                return error if group[0].owns(error) else error.with_traceback(None)  # its frames hold the jobs
        return None

    def _transact(self, connection: sqlite3.Connection, group: list[Job]) -> None:
        cursor = connection.cursor()
        cursor.execute(self.begin)
        for job in group:
            job.results = job.run(connection)
        try:
            cursor.execute("COMMIT")
        except sqlite3.Error as error:
            raise group[0].fail_at_end(error) from None

    def _recover(self, error: Exception) -> None:
        """Make the connection fit for the next transaction."""
        unusable = is_unusable(error)
        try:
            if self._connection is not None and self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        except sqlite3.Error:
            unusable = True  # closing it rolls back
        if unusable:
            self.disconnect()

    def _fail(self, group: list[Job], error: Exception) -> None:
        if len(group) > 1:
            for job in group:
                self._settle([job])
        else:
            group[0].error = error if group[0].owns(error) else sqlite_error(error, self.database)


class WritingLane(Lane):
    """Takes the write lock first, and writes whole groups."""

    kind = "writer"
    begin = "BEGIN IMMEDIATE"


class ReadingLane(Lane):
    """One consistent state for each batch, with everything that was committed before."""

    kind = "reader"
    begin = "BEGIN DEFERRED"


def _answer(group: list[Job]) -> None:
    """Wake those who wait, each on its own loop, with one call for each loop."""
    by_loop: dict[asyncio.AbstractEventLoop, list[Job]] = {}
    for job in group:
        by_loop.setdefault(job.loop, []).append(job)
    for loop, jobs in by_loop.items():
        try:
            loop.call_soon_threadsafe(_finish, jobs)
        except RuntimeError:
            pass  # this loop has been closed: nobody waits there any more


def _finish(jobs: list[Job]) -> None:
    for job in jobs:
        if job.future.done():
            continue  # cancelled by whoever waited; what it asked for has happened or not
        if job.error is None:
            job.future.set_result(job.results)
        else:
            job.future.set_exception(job.error)
