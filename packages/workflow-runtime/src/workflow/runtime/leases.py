"""Keeping the leases of a process: one statement renews them all, from where user code can't starve it."""

from __future__ import annotations

import asyncio
import logging
import sys
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING

from workflow.core.clock import Clock
from workflow.core.engine import Drive

from .contract import ExecutionStore, HeldLease

if TYPE_CHECKING:
    import threading

__all__ = ["LeaseKeeper"]

logger = logging.getLogger("workflow.runtime")

_THREADS = sys.platform not in ("emscripten", "wasi")


def _lock() -> threading.Lock:
    import threading

    return threading.Lock()


class _Held:
    """A drive, its clock, and the loop that it runs on."""

    __slots__ = ("clock", "drive", "loop")

    def __init__(self, drive: Drive, clock: Clock) -> None:
        self.drive = drive
        self.clock = clock
        self.loop = asyncio.get_running_loop()

    def tell(self, what: str) -> None:
        with suppress(RuntimeError):  # its loop has ended, and the drive with it
            self.loop.call_soon_threadsafe(getattr(self.drive, what))


class LeaseKeeper:
    """Renews what is held every third of a lease, and tells drives of lost leases and of mail.

    Where the store allows it the renewing happens on a thread with a loop of its own: a step that blocks the main loop
    for minutes does not lose its lease. Otherwise a timer of the main loop starts a task. Either exists only while
    something is held.
    """

    def __init__(self, store: ExecutionStore, lease: timedelta) -> None:
        self._store = store
        self._lease = lease
        self._interval = lease.total_seconds() / 3
        self._held: dict[str, _Held] = {}
        self._threaded = _THREADS and store.capabilities.renews_from_any_loop
        self._guard = _lock() if self._threaded else None
        self._thread: threading.Thread | None = None
        self._stop: threading.Event | None = None
        self._leaving: list[threading.Thread] = []
        """Threads that have nothing to do any more, and may not have ended yet."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None

    def hold(self, drive: Drive, clock: Clock) -> None:
        """Keep the lease of a drive from now on, by its clock."""
        before = self._held.get(drive.run_id)
        self._held[drive.run_id] = _Held(drive, clock)
        if before is not None:
            before.tell("tell_lost")  # this process has just taken the run from itself: it had stalled
        if self._threaded:
            self._ensure_thread()
        else:
            self._ensure_timer()

    def release(self, drive: Drive) -> None:
        """The drive has ended, and its lease with it."""
        held = self._held.get(drive.run_id)
        if held is not None and held.drive is drive:
            del self._held[drive.run_id]
        if not self._held:
            self._stop_timer()

    def tell_news(self, run_id: str) -> None:
        """Mail has come for a run: if this process drives it, its drive looks at once."""
        held = self._held.get(run_id)
        if held is not None:
            held.tell("tell_news")

    async def close(self) -> None:
        """Stop renewing, and wait until the thread has ended."""
        task = self._task
        self._stop_timer()
        if task is not None:
            await asyncio.wait([task])
        if self._thread is not None and self._stop is not None:
            self._stop.set()
            self._leaving.append(self._thread)
            self._thread = None
        for thread in self._leaving:
            await asyncio.get_running_loop().run_in_executor(None, thread.join)
        self._leaving.clear()

    # On the thread

    def _ensure_thread(self) -> None:
        import threading  # late: not everywhere

        assert self._guard is not None
        with self._guard:
            if self._thread is not None and self._thread.is_alive():
                return
            self._leaving = [thread for thread in self._leaving if thread.is_alive()]
            self._stop = threading.Event()
            self._thread = threading.Thread(
                target=self._renew_in_thread, args=(self._stop,), name="workflow leases", daemon=True
            )
            self._thread.start()

    def _renew_in_thread(self, stop: threading.Event) -> None:
        with asyncio.Runner() as runner:
            while not stop.wait(self._interval) and not self._retired():
                runner.run(self._renew_safely())
            runner.run(self._store.close_loop())

    def _retired(self) -> bool:
        """Whether the thread has had nothing to do for a whole interval, and is let go. `hold` starts another one."""
        assert self._guard is not None
        with self._guard:
            if self._held or self._thread is None:
                return False
            self._leaving.append(self._thread)
            self._thread = None
            return True

    # On the main loop

    def _ensure_timer(self) -> None:
        """A run that has ended before it strikes costs no task."""
        under_way = self._timer is not None or (self._task is not None and not self._task.done())
        if under_way and self._loop is not None and not self._loop.is_closed():
            return
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(self._interval, self._renew_in_task)

    def _renew_in_task(self) -> None:
        self._timer = None
        self._task = asyncio.get_running_loop().create_task(self._renew_and_go_on(), name="workflow leases")

    async def _renew_and_go_on(self) -> None:
        await self._renew_safely()
        self._task = None
        if self._held:
            self._ensure_timer()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._task is not None:
            self._task.cancel()
            self._task = None

    # Anywhere

    async def _renew_safely(self) -> None:
        try:
            await self.renew_once()
        except Exception:
            # The leases run out if this goes on; the fence keeps what happens then right.
            logger.warning("Leases could not be renewed; trying again in %.1f s.", self._interval, exc_info=True)

    async def renew_once(self) -> None:
        """Renew everything that is held, and tell the drives what came of it.

        One statement for all runs of a process: only calls that were given a time of their own have another clock.
        """
        held = dict(self._held)
        for clock in {id(item.clock): item.clock for item in held.values()}.values():
            await self._renew({run_id: item for run_id, item in held.items() if item.clock is clock}, clock)

    async def _renew(self, held: dict[str, _Held], clock: Clock) -> None:
        now = clock.now()
        leases = [HeldLease(run_id, item.drive.fence) for run_id, item in held.items()]
        renewals = await self._store.renew(leases, until=now + self._lease, now=now)
        kept = {renewal.run_id: renewal for renewal in renewals}
        for run_id, item in held.items():
            renewal = kept.get(run_id)
            if renewal is None or renewal.fence != item.drive.fence:
                # Its own commit may have released it in the meantime: then it is no longer held here either.
                if self._held.get(run_id) is item:
                    item.tell("tell_lost")
            elif renewal.mail_count > item.drive.seen_mail:
                item.tell("tell_news")
