"""The long-lived worker: drives what is due, as soon as it is due, until it is asked to stop.

    look      claim for the free places, until nothing more is due       (see claiming.py)
    rest      until a drive ends, the next due time, a poll, or news: of this process, or of the store
    drain     let the runs under way come to a good place; hand back what has not by then

Notices are a hint and polls are the truth: whatever a worker was not told about, it finds at its next poll.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from workflow.core import InvalidArgumentError
from workflow.core.clock import Clock
from workflow.core.engine import DriveEnvironment
from workflow.core.records import ClaimedRun

from .bell import Bell
from .claiming import Group, Rota, Turn
from .contract import ExecutionStore
from .driving import Budget, Driver
from .outages import Outage
from .queues import Queue
from .results import RunResult
from .schedules.watching import Watch
from .spans import count
from .stopping import Stop

__all__ = ["Worker", "WorkerReport", "WorkerSettings"]

logger = logging.getLogger("workflow.runtime")

_FIRST_POLL = timedelta(seconds=0.05)
_LAST_WORDS = 5.0
"""For how many seconds what was cancelled may take to hand its runs back."""


@dataclass(frozen=True, slots=True)
class WorkerReport:
    """What a worker has done: drives by the kind of their result, and how many runs it handed back unfinished."""

    kinds: dict[str, int]
    handed_back: int

    @property
    def total(self) -> int:
        return sum(self.kinds.values())


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """See `WorkflowRuntime.serve`."""

    concurrency: int
    per_workflow: int | Mapping[str, int] | None
    poll_interval: timedelta
    grace: timedelta
    on_result: Callable[[RunResult[Any]], object] | None = None

    def check(self, ids: Collection[str]) -> None:
        """Raise `InvalidArgumentError` where they can't be meant."""
        count(self.concurrency, "concurrency", least=1)
        if not self.poll_interval:
            raise InvalidArgumentError("poll_interval must be longer than nothing.")
        limits = self.per_workflow
        if limits is None or isinstance(limits, int):
            limits = {} if limits is None else {"per_workflow": limits}
        elif not isinstance(limits, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidArgumentError(f"per_workflow must be a number, or one for each workflow id, not {limits!r}.")
        elif unknown := limits.keys() - set(ids):
            names = ", ".join(map(repr, sorted(unknown)))
            raise InvalidArgumentError(f"per_workflow names {names}, which this runtime doesn't have.")
        for name, limit in limits.items():
            count(limit, f"the limit of {name}", least=1)


class Worker:
    """Use it once: `await Worker(...).run(stop)`."""

    def __init__(
        self,
        store: ExecutionStore,
        ids: Collection[str],
        queues: Iterable[Queue],
        driver: Driver,
        bell: Bell,
        clock: Clock,
        owner: str,
        settings: WorkerSettings,
        watch: Watch,
    ) -> None:
        settings.check(ids)
        self._store = store
        self._ids = frozenset(ids)
        self._driver = driver
        self._bell = bell
        self._clock = clock
        self._owner = owner
        self._settings = settings
        self._watch = watch
        self._rota = Rota.of(ids, settings.per_workflow, queues)
        self._outage = Outage()
        self._busy: set[asyncio.Task[None]] = set()
        self._under_way: dict[str, DriveEnvironment] = {}
        self._kinds: Counter[str] = Counter()
        self._handed_back = 0
        self._wake = asyncio.Event()
        self._look_at = clock.now()
        self._poll = _FIRST_POLL
        self._fatal: BaseException | None = None

    async def run(self, stop: Stop) -> WorkerReport:
        """Work until `stop` asks to end. Cancelled, it hands back what it holds at once."""
        loop = asyncio.get_running_loop()

        def rung(due_at: datetime) -> None:
            with suppress(RuntimeError):  # that loop has ended
                loop.call_soon_threadsafe(self._expect, due_at)

        helpers = [asyncio.create_task(self._listen(), name="workflow notices")]
        helpers.append(asyncio.create_task(self._wake_for(stop), name="workflow stop"))
        try:
            with self._bell.listen(rung):
                await self._work(stop)
                await self._drain(stop)
        finally:
            for helper in helpers:
                helper.cancel()
            await self._hand_back()
            await asyncio.wait(helpers)
        self._raise_fatal()
        return WorkerReport(dict(self._kinds), self._handed_back)

    async def _work(self, stop: Stop) -> None:
        while not stop.asked.is_set() and self._fatal is None:
            self._wake.clear()
            await self._look(stop)
            await self._rest()

    async def _wake_for(self, stop: Stop) -> None:
        await stop.asked.wait()
        self._wake.set()

    def _raise_fatal(self) -> None:
        if self._fatal is not None:
            raise self._fatal

    # Looking

    async def _look(self, stop: Stop) -> None:
        """Start what schedules want, and claim what is due, as far as there is room. Never raises: the store may be
        away for a while."""
        try:
            if await self._watch.look():
                self._rota.reopen()
            if self._clock.now() >= self._look_at:
                await self._peek()
            while not stop.asked.is_set() and (turn := self._rota.next(self._free)) is not None:
                await self._claim(turn)
        except Exception as error:
            now = self._clock.now()
            self._rota.close()
            self._look_at = now + self._outage.failed(error, now)
            self._watch.put_off(self._look_at)

    @property
    def _free(self) -> int:
        return self._settings.concurrency - len(self._busy)

    async def _peek(self) -> None:
        """Ask when something is due, which is cheaper than to claim; and look again when it will be."""
        now = self._clock.now()
        due_at = await self._store.next_due(self._rota.ids)
        self._outage.over(self._clock.now())
        if due_at is not None and due_at <= now:
            self._rota.reopen()
        self._plan(due_at, now)

    def _plan(self, due_at: datetime | None, now: datetime) -> None:
        """When to look next: at the next due time, and at a poll that comes the later the longer nothing was there."""
        poll_at = now + self._poll
        self._look_at = min(due_at, poll_at) if due_at is not None and due_at > now else poll_at
        self._poll = min(self._poll * 1.5, self._settings.poll_interval)

    def _expect(self, due_at: datetime) -> None:
        """Something is due then, as this process or the store tells."""
        if self._outage.active:
            return
        if due_at <= self._clock.now():
            self._rota.reopen()
        else:
            self._look_at = min(self._look_at, due_at)
        self._wake.set()

    # Claiming

    async def _claim(self, turn: Turn) -> None:
        now = self._clock.now()
        lease = self._driver.lease(self._owner, now)
        asking = asyncio.ensure_future(turn.claim(self._store, lease, now))
        try:
            claimed = await asyncio.shield(asking)
        except asyncio.CancelledError:
            with suppress(Exception):  # what it takes is begun, so that it is handed back
                self._begin(await asking, turn.group)
            raise
        self._outage.over(self._clock.now())
        turn.note(claimed)
        self._begin(claimed, turn.group)

    def _begin(self, claimed: Sequence[ClaimedRun], group: Group) -> None:
        if claimed:
            self._poll = min(_FIRST_POLL, self._settings.poll_interval)
            self._look_at = min(self._look_at, self._clock.now() + self._poll)
        for run in claimed:
            group.begun()
            task = asyncio.create_task(self._drive(run), name=f"drive {run.run.run_id}")
            self._busy.add(task)
            task.add_done_callback(lambda task: self._ended(task, group))

    async def _drive(self, claimed: ClaimedRun) -> None:
        budget = Budget(self._clock)
        result = await self._driver.drive_safely(claimed, self._owner, budget, under_way=self._under_way)
        self._kinds[result.kind] += 1
        self._watch.ended(claimed.run)
        self._note(result)

    def _note(self, result: RunResult[Any]) -> None:
        """What a drive leaves to be done soon is expected; whoever watches is told."""
        if result.kind in ("queued", "paused") and result.run is not None and result.run.due_at is not None:
            self._expect(result.run.due_at)
        if self._settings.on_result is not None:
            try:
                self._settings.on_result(result)
            except Exception:
                logger.exception("on_result failed on run %r; the worker goes on.", result.run_id)

    def _ended(self, task: asyncio.Task[None], group: Group) -> None:
        self._busy.discard(task)
        group.ended()
        self._wake.set()
        if task.cancelled():
            self._handed_back += 1
        elif (error := task.exception()) is not None:
            self._fatal = self._fatal or error  # what is raised here is to end the process

    # Resting

    async def _rest(self) -> None:
        """Until there is something to look at. With every place taken only schedules and the end of a drive matter."""
        if self._wake.is_set():
            return
        if self._rest_until is None:
            await self._wake.wait()
            return
        timer = asyncio.create_task(self._sleep(), name="workflow poll")
        try:
            # The machine's clock may be set back meanwhile: by that clock, the next look could be hours away.
            async with asyncio.timeout(self._settings.poll_interval.total_seconds() + 20):
                await self._wake.wait()
        except TimeoutError:
            self._look_at = self._clock.now()
            self._watch.put_off(self._look_at)
        finally:
            timer.cancel()
            await asyncio.wait([timer])

    @property
    def _rest_until(self) -> datetime | None:
        look_at = self._look_at if self._free > 0 else None
        return min((at for at in (look_at, self._watch.look_at) if at is not None), default=None)

    async def _sleep(self) -> None:
        until = self._rest_until
        assert until is not None
        await self._clock.sleep_until(until, busy=True)
        self._wake.set()

    async def _listen(self) -> None:
        """Be woken by the store. Where that fails, polls do until it works again."""
        while True:
            try:
                await self._store.wait_for_work(self._ids)
                self._expect(self._clock.now())
            except Exception as error:
                logger.debug("The store can't notify: %r", error)
                await asyncio.sleep(self._settings.poll_interval.total_seconds())

    # Stopping

    async def _drain(self, stop: Stop) -> None:
        """Let what is under way come to its next pause, or at least to the end of its step, within the grace period."""
        if not self._busy or self._fatal is not None:
            return
        grace = self._settings.grace
        until = self._clock.now() + grace
        logger.info("The worker stops. %d runs under way have %g s.", len(self._busy), grace.total_seconds())
        for environment in self._under_way.values():
            # To be within the margin of a deadline is what makes a drive yield before its next step.
            environment.deadline, environment.margin = until, grace
        timer = asyncio.create_task(self._clock.sleep_until(until, busy=True))
        urgent = asyncio.create_task(stop.urgent.wait())
        over = asyncio.ensure_future(self._idle())
        try:
            await asyncio.wait([timer, urgent, over], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (timer, urgent, over):
                task.cancel()
            await asyncio.wait([timer, urgent, over])

    async def _idle(self) -> None:
        while self._busy:
            await asyncio.wait(self._busy)

    async def _hand_back(self) -> None:
        """Cancel what is still driven, which releases the runs: another worker goes on with them at once."""
        if not self._busy:
            return
        await asyncio.sleep(0)  # a task that is cancelled before it has begun could release nothing
        for task in self._busy:
            task.cancel()
        _, stuck = await asyncio.wait(self._busy, timeout=_LAST_WORDS)
        for task in stuck:
            logger.warning("%s does not end; its run goes on elsewhere when its lease has run out.", task.get_name())
