"""Doing what is due: once, within bounds, or until told to stop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from datetime import datetime
from typing import Any

from workflow.core.arguments import Duration, identifier
from workflow.runtime.results import RunResult, SweepResult
from workflow.runtime.schedules.watching import Watch
from workflow.runtime.spans import count, span
from workflow.runtime.stopping import Stop
from workflow.runtime.sweeping import Sweep
from workflow.runtime.worker import Worker, WorkerReport, WorkerSettings

from .parts import RuntimeParts

__all__ = ["Working"]


class Working(RuntimeParts):
    """The verbs that drive what is due."""

    async def sweep(
        self,
        *,
        max_scheduled_runs: int = 25,
        max_timers: int = 25,
        max_ready: int = 100,
        max_recovered: int = 100,
        max_duration: Duration | None = None,
        include_events: bool = False,
        owner: str | None = None,
        now: datetime | None = None,
    ) -> SweepResult:
        """Do what is due, within bounds: start the runs of schedules, recover runs of owners that died, go on with
        ready runs, fire timers.

        At most so many of each, and for at most `max_duration` seconds: nothing new is begun when a tenth of it (at
        most a second) is left, and drives yield then. Drives up to `concurrency` runs at once. A bad run is a bad
        result, never an error. Raises what the store raises when it can't be reached.
        """
        sweep = Sweep(
            self.store,
            self._registry,
            self._driver,
            self.owner if owner is None else identifier(owner, "owner"),
            self._budget(now, max_duration),
            materializer=self._materializer,
            concurrency=self._concurrency,
            max_scheduled_runs=count(max_scheduled_runs, "max_scheduled_runs"),
            max_recovered=count(max_recovered, "max_recovered"),
            max_ready=count(max_ready, "max_ready"),
            max_timers=count(max_timers, "max_timers"),
            keep_events=include_events,
        )
        result = await sweep.run()
        if not result.deadline_reached:
            await self._publisher.expect(sweep.next_tick_at)
        return result

    async def serve(
        self,
        *,
        concurrency: int | None = None,
        per_workflow: int | Mapping[str, int] | None = None,
        poll_interval: Duration = 1.0,
        grace: Duration = 20.0,
        stop: asyncio.Event | None = None,
        signals: bool = True,
        on_result: Callable[[RunResult[Any]], object] | None = None,
    ) -> WorkerReport:
        """Drive what is due as soon as it is due, up to `concurrency` runs at once, until told to stop.

        `per_workflow` limits how many runs of each workflow (or of those named) this process drives at once. What this
        process or the store tells of begins at once; what only a poll finds, at most `poll_interval` seconds late.

        SIGTERM, SIGINT (unless `signals=False`) or `stop` end it in good order: nothing more is begun, and what is
        under way gets `grace` seconds to come to the end of its step. What has not by then (or at a second signal, or
        when the task of this call is cancelled) is handed back, for another worker to go on with at once.
        `on_result` is called with the result of each drive. A store that can't be reached is waited for.
        """
        settings = WorkerSettings(
            self._concurrency if concurrency is None else concurrency,
            per_workflow,
            span(poll_interval, "poll_interval"),
            span(grace, "grace"),
            on_result,
        )
        stopping = Stop(stop)
        worker = Worker(
            self.store,
            self.workflow_ids,
            self._registry.queues.values(),
            self._driver,
            self._bell,
            self.clock,
            self.owner,
            settings,
            Watch(self._materializer, self.clock),
        )
        with stopping.on_signals() if signals else nullcontext():
            return await worker.run(stopping)

    def wind_down(self) -> None:
        """Begin nothing more: drives under way yield at their next chance, and a sweep claims no more runs.

        For hosts where something else than time runs out (queries, memory), which they watch themselves. What yielded
        is ready for the next sweep. There is no way back: the next invocation makes its own runtime.
        """
        self._driver.wind_down()
