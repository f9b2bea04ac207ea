"""A worker's eye on its schedules: when to look at them next."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta

from workflow.core import StoreUnavailableError
from workflow.core.clock import Clock
from workflow.core.records import RunRecord

from .materializing import Materialized, Materializer
from .records import ScheduleKey

__all__ = ["Watch"]

logger = logging.getLogger("workflow.runtime")

_AT_LEAST_EVERY = timedelta(seconds=5)
"""So late is seen what other processes do to a schedule: resume it, end a run that a tick waits for."""
_RUNS_A_LOOK = 100


class Watch:
    """Looks at the schedules when a tick is due, when a run that a tick may wait for has ended, and now and then."""

    def __init__(self, materializer: Materializer, clock: Clock) -> None:
        self._materializer = materializer
        self._clock = clock
        self._waiting: set[ScheduleKey] = set()
        self._trouble = ""
        self.look_at: datetime | None = clock.now() if materializer else None
        """None: there are no schedules."""

    async def look(self) -> bool:
        """Look, if it is time to: whether runs have been started. Raises where the store is away.

        Whatever else goes wrong is in the log, once, and tried again: it must not keep the worker from its runs.
        """
        now = self._clock.now()
        if self.look_at is None or now < self.look_at:
            return False
        done = await self._materializer.look(now, _RUNS_A_LOOK)
        if isinstance(done.error, (StoreUnavailableError, OSError)):
            raise done.error
        self._note(done, now)
        return bool(done.started)

    def _note(self, done: Materialized, now: datetime) -> None:
        trouble = "" if done.error is None else f"{type(done.error).__name__}: {done.error}"
        if trouble not in ("", self._trouble):
            logger.error("The worker can't see to its schedules, and goes on trying. %s", trouble, exc_info=done.error)
        self._trouble = trouble
        self._waiting = done.waiting
        self.look_at = min(now + _AT_LEAST_EVERY, done.due_at or now + _AT_LEAST_EVERY)
        if done.remaining and done.error is None:
            self.look_at = now

    def put_off(self, until: datetime) -> None:
        """The store is away until then, or the clock was set back: look then."""
        if self.look_at is not None:
            self.look_at = until

    def ended(self, run: RunRecord) -> None:
        """A drive of this run is over: a tick may have waited for that."""
        if run.schedule_id is not None and ScheduleKey(run.workflow_id, run.schedule_id) in self._waiting:
            self.put_off(self._clock.now())
