"""Driving claimed runs: the engine's environment, the lease meanwhile, and the answer."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any, cast
from uuid import uuid4

from workflow.core import DefinitionError, ErrorInfo, PayloadError, StoreError, WorkflowVersionError
from workflow.core.clock import Clock
from workflow.core.engine import Drive, DriveEnvironment, DriveOutcome
from workflow.core.payload import payload_type
from workflow.core.records import ClaimedRun, Lease, RunRecord
from workflow.core.telemetry import Telemetry

from .codec import CodecStore
from .contract import ExecutionStore
from .leases import LeaseKeeper
from .publishing import Collector, Publisher
from .registry import Registry
from .results import Later, Run, RunKind, RunResult
from .retrying import as_sent

__all__ = ["Budget", "Driver", "new_owner"]

logger = logging.getLogger("workflow.runtime")

_LONGEST_MARGIN = timedelta(seconds=1)
_LONG = timedelta(days=1)


def new_owner(name: str = "worker") -> str:
    """A name for the owner of leases: who it is, for people, and unique."""
    return f"{name}:{os.getpid()}:{uuid4().hex[:12]}"


@dataclass(frozen=True, slots=True)
class Budget:
    """How long one call may take. Its clock is the call's own: it begins at `now=` where that was given."""

    clock: Clock
    deadline: datetime | None = None
    margin: timedelta = timedelta(0)

    @classmethod
    def of(cls, clock: Clock, max_duration: timedelta | None) -> Budget:
        """The margin is a tenth of the budget, at most a second: time to commit and answer."""
        if max_duration is None:
            return cls(clock)
        return cls(clock, clock.now() + max_duration, min(max_duration / 10, _LONGEST_MARGIN))

    @property
    def spent(self) -> bool:
        """Whether nothing new should be begun."""
        return self.deadline is not None and self.deadline - self.clock.now() <= self.margin


class Driver:
    """Drives the runs that a process has claimed."""

    def __init__(
        self,
        store: ExecutionStore,
        registry: Registry,
        publisher: Publisher,
        keeper: LeaseKeeper,
        telemetry: Callable[[], Telemetry],
        lease: timedelta,
        max_recoveries: int,
    ) -> None:
        self._store = store
        self._registry = registry
        self._publisher = publisher
        self._keeper = keeper
        self._telemetry = telemetry
        self._lease = lease
        self._max_recoveries = max_recoveries
        self._environments: dict[int, DriveEnvironment] = {}
        self.winding_down = False

    def wind_down(self) -> None:
        """Let drives yield at their next chance. Steps under way go on, as long as their drive's deadline allows."""
        self.winding_down = True
        for environment in self._environments.values():
            _hasten(environment)

    def lease(self, owner: str, now: datetime) -> Lease:
        return Lease(owner, now + self._lease)

    async def drive_safely(
        self,
        claimed: ClaimedRun,
        owner: str,
        budget: Budget,
        *,
        keep_events: bool = False,
        under_way: dict[str, DriveEnvironment] | None = None,
    ) -> RunResult[Any]:
        """`drive`, where whatever goes wrong with a run is its result: one bad run must not stop the others."""
        try:
            return await self.drive(claimed, owner, budget, keep_events=keep_events, under_way=under_way)
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            return _not_driven(claimed.run, error)  # a stray one, from the depths of a middleware
        except Exception as error:
            return _not_driven(claimed.run, error)

    async def drive(
        self,
        claimed: ClaimedRun,
        owner: str,
        budget: Budget,
        *,
        keep_events: bool,
        under_way: dict[str, DriveEnvironment] | None = None,
        created: bool = False,
    ) -> RunResult[Any]:
        """Drive a claimed run until it ends, pauses, or the budget is spent. Raises only what the store raises.

        `created` goes into the result. Meanwhile its environment is in `under_way`, where the caller may still change
        the deadline.
        """
        collector = Collector(claimed.run.run_id, self._publisher, keep=keep_events)
        environment = DriveEnvironment(
            store=self._store,
            owner=owner,
            clock=budget.clock,
            lease=self._lease,
            deadline=budget.deadline,
            margin=budget.margin,
            publish=collector,
            max_recoveries=self._max_recoveries,
            max_payload=self._store.capabilities.max_payload,
            telemetry=self._telemetry(),
            transactor=self._store if self._store.capabilities.transactions else None,
            store_name=_name_of(self._store),
        )
        if under_way is not None:
            under_way[claimed.run.run_id] = environment
        self._environments[id(environment)] = environment
        if self.winding_down:
            _hasten(environment)
        try:
            outcome = await self._drive(claimed, environment)
        finally:
            del self._environments[id(environment)]
            if under_way is not None:
                del under_way[claimed.run.run_id]
        if outcome.kind == "lost":
            return await self._state_of_lost(outcome, collector, created)
        if outcome.run.status == "paused":
            await self._publisher.expect(outcome.run.due_at)
        return self._result(outcome, collector, created)

    async def _drive(self, claimed: ClaimedRun, environment: DriveEnvironment) -> DriveOutcome:
        workflow_id = claimed.run.workflow_id
        try:
            workflow = self._registry.find(workflow_id)
        except DefinitionError as error:
            logger.error("Run %r is put back: %s", claimed.run.run_id, error)
            return await Drive(None, claimed, environment).decline(error)
        if workflow is None:
            error = WorkflowVersionError(
                f"Run {claimed.run.run_id!r} belongs to workflow {workflow_id!r}, which is not registered with this "
                "runtime. It is left for a process that has it."
            )
            environment.blocked_delay = timedelta(0)
            return await Drive(None, claimed, environment).decline(error)
        drive = Drive(workflow, as_sent(claimed), environment)
        self._keeper.hold(drive, environment.clock)
        try:
            return await drive.run()
        finally:
            self._keeper.release(drive)

    async def _state_of_lost(self, outcome: DriveOutcome, collector: Collector, created: bool) -> RunResult[Any]:
        """What others have made of the run meanwhile."""
        run = await self._store.get_run(outcome.run.run_id)
        if run is None:
            return RunResult("not_found", outcome.run.run_id, outcome.run.workflow_id, created)
        error = ErrorInfo.model_validate_json(run.error) if run.error is not None else None
        return self._answer(run.status, run, error, None, collector, created)

    def _result(self, outcome: DriveOutcome, collector: Collector, created: bool) -> RunResult[Any]:
        return self._answer(_kind(outcome), outcome.run, outcome.error, outcome.exception, collector, created)

    def _answer(
        self,
        kind: RunKind,
        run: RunRecord,
        error: ErrorInfo | None,
        exception: BaseException | None,
        collector: Collector,
        created: bool,
    ) -> RunResult[Any]:
        """The values of the run, and the events, are made when somebody looks at them."""
        return RunResult(
            kind,
            run.run_id,
            run.workflow_id,
            created,
            cast("Any", Later(partial(self.view, run))),
            error,
            exception,
            cast("Any", Later(collector.events)) if collector.count else (),
            collector.count,
            collector.truncated,
        )

    def view(self, run: RunRecord) -> Run[Any]:
        """The row as users see it: values through the types of the workflow, where this process has it."""
        input_type = output_type = state_type = payload_type(Any)
        definition = self._loaded(run)
        if definition is not None:
            input_type, output_type = definition.input_type, definition.output_type
            state_type = definition.state_type or state_type
        return Run(
            run_id=run.run_id,
            workflow_id=run.workflow_id,
            workflow_version=run.workflow_version,
            status=run.status,
            input=_value(input_type, run.input, run, "input"),
            output=_value(output_type, run.output, run, "output"),
            error=ErrorInfo.model_validate_json(run.error) if run.error is not None else None,
            waits=run.waits if run.status in ("paused", "queued") else (),
            due_at=run.due_at,
            state=_value(state_type, run.state, run, "state"),
            created_at=run.created_at,
            updated_at=run.updated_at,
            completed_at=run.completed_at,
            queue=run.queue_name,
            key=run.key,
            priority=run.priority,
            expires_at=run.expires_at,
            schedule_id=run.schedule_id,
        )

    def _loaded(self, run: RunRecord) -> Any:
        try:
            workflow = self._registry.find(run.workflow_id)
        except DefinitionError:
            return None
        return workflow.for_version(run.workflow_version) if workflow is not None else None


def _name_of(store: ExecutionStore) -> str:
    return type(store.inner if isinstance(store, CodecStore) else store).__name__


def _hasten(environment: DriveEnvironment) -> None:
    """The deadline stays as far away as it was, so that nothing is cut off, but it is too near for anything new."""
    now = environment.clock.now()
    environment.deadline = environment.deadline or now + _LONG
    environment.margin = max(environment.deadline - now, timedelta(0)) + _LONG


def _not_driven(run: RunRecord, error: BaseException) -> RunResult[Any]:
    # Where the store is away, a line for each run says enough.
    trace = None if isinstance(error, (StoreError, OSError)) else error
    logger.error(
        "Run %r could not be driven, and goes on when its lease has run out: %r", run.run_id, error, exc_info=trace
    )
    return RunResult("running", run.run_id, run.workflow_id, error=ErrorInfo.of(error), exception=error)


def _kind(outcome: DriveOutcome) -> RunKind:
    if outcome.kind == "postponed":
        return "not_claimable" if isinstance(outcome.exception, (WorkflowVersionError, DefinitionError)) else "paused"
    assert outcome.kind != "lost"
    return outcome.kind


def _value(type_: Any, text: str | None, run: RunRecord, name: str) -> Any:
    if text is None:
        return None
    for known in (type_, payload_type(Any)):  # types that have changed too far are no reason not to show a run
        try:
            return known.decode(text, "value")
        except PayloadError:
            continue
    raise PayloadError(
        f"The stored {name} of run {run.run_id!r} is no JSON: it was damaged, or written through a codec that this "
        "runtime was not given (codec=)."
    )
