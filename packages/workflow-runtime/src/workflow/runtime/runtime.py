"""`WorkflowRuntime`: starts and resumes runs, delivers to them, sweeps what is due, and shows them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, TypeVar, overload
from uuid import uuid4

from workflow.core import InvalidArgumentError, RunNotFoundError, Workflow
from workflow.core.arguments import Duration, aware, identifier
from workflow.core.clock import Clock, OffsetClock, SystemClock
from workflow.core.deliveries import approval_mail, cancel_mail, signal_mail
from workflow.core.events import Event
from workflow.core.payload import check_size
from workflow.core.records import Delivered, NewMail, NewRun, RunRecord, RunStatus
from workflow.core.telemetry import NO_TELEMETRY, Telemetry, find_telemetry

from .bell import Bell
from .codec import Codec, CodecStore
from .contract import ExecutionStore
from .diagnosis import Diagnosis, diagnose, diagnose_open
from .driving import Budget, Driver, new_owner
from .leases import LeaseKeeper
from .publishing import Publisher
from .reading import Reader
from .registry import Registration, Registry
from .results import Run, RunKind, RunPage, RunResult, SweepResult
from .spans import count, span
from .stopping import Stop
from .sweeping import Sweep
from .worker import Worker, WorkerReport, WorkerSettings

__all__ = ["WorkflowRuntime"]

InputT = TypeVar("InputT")
OutputT = TypeVar("OutputT")

_PURGE_BATCH = 1000


class WorkflowRuntime:
    """The runtime of an app: its workflows, on its store. Use it as an async context manager, or `close()` it.

    - `lease`: for how long a drive owns a run without a sign of life (seconds or a timedelta). A run whose process has
      died goes on after that.
    - `concurrency`: how many runs a sweep drives at once.
    - `publish(event)`: called, sync or async, with every event after it was committed. Its failures are logged.
    - `telemetry`: OpenTelemetry spans, where its API is installed.
    - `codec`: encrypts or compresses payloads on their way to the store.
    - `max_recoveries`: how often in a row a run may kill its owner before it is ended as `errored`.

    Every verb takes `now`, for tests: the call then begins at that time.
    """

    def __init__(
        self,
        store: ExecutionStore,
        workflows: Iterable[Workflow[Any, Any] | Registration],
        *,
        lease: Duration = 30.0,
        concurrency: int = 10,
        publish: Callable[[Any], Awaitable[Any] | Any] | None = None,
        telemetry: bool = True,
        clock: Clock | None = None,
        codec: Codec | None = None,
        max_recoveries: int = 10,
        owner: str | None = None,
    ) -> None:
        length = span(lease, "lease")
        if not length:
            raise InvalidArgumentError("lease must be longer than nothing.")
        self.store: ExecutionStore = store if codec is None else CodecStore(store, codec)
        self.clock: Clock = clock or SystemClock()
        self.owner = owner or new_owner()
        self._concurrency = count(concurrency, "concurrency", least=1)
        self._registry = Registry(workflows)
        self._publisher = Publisher(publish)
        self._telemetry: Telemetry | None = None if telemetry else NO_TELEMETRY
        self._bell = Bell()
        self._keeper = LeaseKeeper(self.store, length)
        self._driver = Driver(
            self.store,
            self._registry,
            self._publisher,
            self._keeper,
            self._find_telemetry,
            length,
            count(max_recoveries, "max_recoveries"),
        )
        self._reader = Reader(self.store, self._driver, self._publisher)

    async def __aenter__(self) -> WorkflowRuntime:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Stop renewing leases and close the store. Runs still driven go on elsewhere when their leases end."""
        await self._keeper.close()
        await self.store.close()

    async def migrate(self) -> None:
        """Bring the store's schema up to date: part of a deployment, never of a request."""
        await self.store.migrate()

    def find_workflow(self, workflow_id: str) -> Workflow[Any, Any] | None:
        """The registered workflow of this id, imported now if need be. Raises `DefinitionError` if it can't be."""
        return self._registry.find(workflow_id)

    @property
    def workflow_ids(self) -> frozenset[str]:
        """The ids of the registered workflows."""
        return self._registry.ids

    # Starting

    @overload
    async def start_run(
        self,
        workflow: Workflow[InputT, OutputT],
        *,
        run_id: str | None = None,
        input: InputT | dict[str, Any] | None = None,
        drive: bool = True,
        delay: Duration | None = None,
        max_duration: float | None = None,
        include_events: bool = True,
        now: datetime | None = None,
    ) -> RunResult[OutputT]: ...
    @overload
    async def start_run(
        self,
        workflow: str,
        *,
        run_id: str | None = None,
        input: Any = None,
        drive: bool = True,
        delay: Duration | None = None,
        max_duration: float | None = None,
        include_events: bool = True,
        now: datetime | None = None,
    ) -> RunResult[Any]: ...
    async def start_run(
        self,
        workflow: Workflow[Any, Any] | str,
        *,
        run_id: str | None = None,
        input: Any = None,
        drive: bool = True,
        delay: Duration | None = None,
        max_duration: float | None = None,
        include_events: bool = True,
        now: datetime | None = None,
    ) -> RunResult[Any]:
        """Start a run, and drive it until it ends, pauses, or `max_duration` (seconds) is spent.

        Idempotent by `run_id`: if there is a run of this id its state is returned with `created=False`, whatever its
        input, and nothing is executed. With `drive=False` the run is only enqueued, for a sweep or worker; with a
        `delay` as well, and it starts no earlier than that.

        Raises `InvalidArgumentError` (unknown workflow, bad id, an id that another workflow's run has) and
        `PayloadError` (the input does not fit). What goes wrong in the workflow is in the result.
        """
        definition = self._registry.get(workflow)
        run_id = identifier(run_id, "run_id") if run_id is not None else f"{definition.id}:{uuid4()}"
        budget = self._budget(now, max_duration)
        at = budget.clock.now()
        due_at = at if delay is None else at + span(delay, "delay")
        new = NewRun(run_id, definition.id, definition.version, self._input_text(definition, input, run_id), due_at)
        lease = self._driver.lease(self.owner, at) if drive and delay is None else None
        created = await self.store.create_run(new, lease=lease, now=at)
        if created.claimed is not None:
            result = await self._driver.drive(created.claimed, self.owner, budget, keep_events=include_events)
            return replace(result, created=True)
        if created.created:
            self._bell.ring(due_at)
        self._check_same_workflow(created.run, definition)
        return self._state_result(created.run, created.run.status, created=created.created)

    def _input_text(self, definition: Workflow[Any, Any], input: Any, run_id: str) -> str:
        what = f"The input of run {run_id!r} of workflow {definition.id!r}"
        text, _ = definition.input_type.coerce(input, what)
        check_size(text, self.store.capabilities.max_payload, what)
        return text

    # Delivering

    async def deliver_signal(
        self,
        *,
        run_id: str,
        signal_id: str,
        name: str,
        payload: Any = None,
        drive: bool = True,
        max_duration: float | None = None,
        include_events: bool = True,
        now: datetime | None = None,
    ) -> RunResult[Any]:
        """Deliver an event to a run, durably, and drive the run if it is ready now.

        When this returns (other than `not_found` and `not_waiting`), the sender can forget the signal: no crash loses
        or doubles it. Idempotent by `signal_id` within the run: `duplicate`. A signal that nobody waits for yet is
        `buffered`. `payload` is plain JSON or an instance of a type that pydantic knows. Raises `PayloadError` for
        anything else.
        """
        mail = signal_mail(signal_id, name, payload)
        return await self._deliver(run_id, mail, drive, max_duration, include_events, now)

    async def deliver_approval(
        self,
        *,
        run_id: str,
        approval_id: str,
        approved: bool,
        feedback: str | None = None,
        meta: dict[str, Any] | None = None,
        drive: bool = True,
        max_duration: float | None = None,
        include_events: bool = True,
        now: datetime | None = None,
    ) -> RunResult[Any]:
        """Deliver a decision, as `deliver_signal` does. The first one on an approval counts, others are `duplicate`."""
        mail = approval_mail(approval_id, approved, feedback, meta)
        return await self._deliver(run_id, mail, drive, max_duration, include_events, now)

    async def cancel_run(
        self,
        run_id: str,
        *,
        reason: str | None = None,
        drive: bool = True,
        max_duration: float | None = None,
        include_events: bool = True,
        now: datetime | None = None,
    ) -> RunResult[Any]:
        """Ask a run to cancel, and drive it if nobody does.

        Its handler gets `asyncio.CancelledError` and may compensate. For a run that has ended the result is its
        state; a second request is `duplicate`.
        """
        result = await self._deliver(run_id, cancel_mail(reason), drive, max_duration, include_events, now)
        if result.kind == "not_waiting" and result.run is not None:
            return replace(result, kind=result.run.status)
        return result

    async def _deliver(
        self,
        run_id: str,
        mail: NewMail,
        drive: bool,
        max_duration: float | None,
        include_events: bool,
        now: datetime | None,
    ) -> RunResult[Any]:
        identifier(run_id, "run_id")
        check_size(mail.payload, self.store.capabilities.max_payload, f"The payload of {mail.kind} {mail.id!r}")
        budget = self._budget(now, max_duration)
        at = budget.clock.now()
        lease = self._driver.lease(self.owner, at) if drive else None
        delivered = await self.store.deliver(run_id, mail, lease=lease, now=at)
        if delivered.claimed is not None:
            return await self._driver.drive(delivered.claimed, self.owner, budget, keep_events=include_events)
        if delivered.outcome == "accepted":
            self._keeper.tell_news(run_id)
            if delivered.run is not None and delivered.run.status == "queued" and delivered.run.due_at is not None:
                self._bell.ring(delivered.run.due_at)
        if delivered.run is None:
            return RunResult("not_found", run_id)
        return self._state_result(delivered.run, _delivered_kind(delivered, delivered.run))

    # Sweeping

    async def sweep(
        self,
        *,
        max_scheduled_runs: int = 25,
        max_timers: int = 25,
        max_ready: int = 100,
        max_recovered: int = 100,
        max_duration: float | None = None,
        include_events: bool = False,
        owner: str | None = None,
        now: datetime | None = None,
    ) -> SweepResult:
        """Do what is due, within bounds: recover runs of owners that died, go on with ready runs, fire timers.

        At most so many of each, and for at most `max_duration` seconds: nothing new is begun when a tenth of it (at
        most a second) is left, and drives yield then. Drives up to `concurrency` runs at once. A bad run is a bad
        result, never an error. Raises what the store raises when it can't be reached.
        """
        count(max_scheduled_runs, "max_scheduled_runs")
        sweep = Sweep(
            self.store,
            self._registry,
            self._driver,
            owner or self.owner,
            self._budget(now, max_duration),
            concurrency=self._concurrency,
            max_recovered=count(max_recovered, "max_recovered"),
            max_ready=count(max_ready, "max_ready"),
            max_timers=count(max_timers, "max_timers"),
            keep_events=include_events,
        )
        return await sweep.run()

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
        worker = Worker(self.store, self.workflow_ids, self._driver, self._bell, self.clock, self.owner, settings)
        with stopping.on_signals() if signals else nullcontext():
            return await worker.run(stopping)

    def wind_down(self) -> None:
        """Begin nothing more: drives under way yield at their next chance, and a sweep claims no more runs.

        For hosts where something else than time runs out (queries, memory), which they watch themselves. What yielded
        is ready for the next sweep. There is no way back: the next invocation makes its own runtime.
        """
        self._driver.wind_down()

    # Looking

    async def get_run(self, run_id: str) -> Run[Any] | None:
        """The run, or None."""
        return await self._reader.get_run(run_id)

    async def list_runs(
        self,
        *,
        workflow_id: str | None = None,
        status: RunStatus | Collection[RunStatus] | None = None,
        created_from: datetime | None = None,
        created_until: datetime | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> RunPage:
        """A page of runs, newest first. Pass `next_cursor` of a page as `cursor` to get the next one."""
        return await self._reader.list_runs(workflow_id, status, created_from, created_until, limit, cursor)

    async def get_timeline(self, run_id: str, *, after: int = -1, limit: int | None = None) -> Sequence[Event]:
        """The logged events of a run with an index greater than `after`. Raises `RunNotFoundError`."""
        return await self._reader.get_timeline(run_id, after, limit)

    def stream(self, run_id: str, *, after: int = -1) -> AsyncIterator[Event]:
        """The logged events of a run after that index, and then each as it is committed, until the run has ended.

        Sees what other processes do by polling, at most a second later. Raises `RunNotFoundError`.
        """
        return self._reader.stream(run_id, after)

    async def wait_for_run(self, run_id: str, timeout: float | None = None) -> Run[Any] | None:
        """Wait until the run has ended; None if there is no such run. Does not drive it.

        Raises `TimeoutError` after `timeout` seconds.
        """
        return await self._reader.wait_for_run(run_id, timeout)

    async def why_stuck(self, run_id: str) -> Diagnosis:
        """What a run does or waits for, in plain words, and what helps if it is stuck. Raises `RunNotFoundError`."""
        run = await self.store.get_run(run_id)
        if run is None:
            raise RunNotFoundError(run_id)
        return diagnose(run, self._registry, self.clock.now())

    async def diagnose_open(self, *, limit: int = 1000) -> Sequence[Diagnosis]:
        """The same for the runs that have not ended, the newest `limit` of them."""
        count(limit, "limit", least=1)
        return await diagnose_open(self.store, self._registry, self.clock.now(), limit)

    async def purge(
        self,
        older_than: datetime | timedelta,
        *,
        workflow_id: str | None = None,
        limit: int | None = None,
        now: datetime | None = None,
    ) -> int:
        """Delete runs that have ended before that time (or longer ago than that), in batches; returns how many.

        Runs that have not ended are never deleted. `limit` bounds the number.
        """
        if isinstance(older_than, timedelta):
            before = self._budget(now, None).clock.now() - span(older_than, "older_than")
        else:
            before = aware(older_than, "older_than")
        left = None if limit is None else count(limit, "limit")
        total = 0
        while left is None or total < left:
            batch = _PURGE_BATCH if left is None else min(_PURGE_BATCH, left - total)
            deleted = await self.store.purge(before, workflow_id=workflow_id, limit=batch)
            total += deleted
            if deleted < batch:
                break
        return total

    # Parts

    def _budget(self, now: datetime | None, max_duration: float | None) -> Budget:
        clock = self.clock if now is None else OffsetClock(self.clock, aware(now, "now"))
        return Budget.of(clock, None if max_duration is None else span(max_duration, "max_duration"))

    def _find_telemetry(self) -> Telemetry:
        if self._telemetry is not None:
            return self._telemetry
        found = find_telemetry()
        if found is not NO_TELEMETRY:  # the app may set its provider later
            self._telemetry = found
        return found

    def _state_result(self, record: RunRecord, kind: RunKind, *, created: bool = False) -> RunResult[Any]:
        run = self._driver.view(record)
        return RunResult(kind, run.run_id, run.workflow_id, created=created, run=run, error=run.error)

    def _check_same_workflow(self, run: RunRecord, definition: Workflow[Any, Any]) -> None:
        if run.workflow_id != definition.id:
            raise InvalidArgumentError(
                f"There is a run {run.run_id!r} already, of workflow {run.workflow_id!r}: a run of "
                f"{definition.id!r} needs another run_id."
            )


def _delivered_kind(delivered: Delivered, run: RunRecord) -> RunKind:
    """What a delivery comes to that was not followed by a drive."""
    if delivered.outcome == "duplicate":
        return "duplicate"
    if delivered.outcome == "ended":
        return "not_waiting"
    return run.status if delivered.awaited else "buffered"
