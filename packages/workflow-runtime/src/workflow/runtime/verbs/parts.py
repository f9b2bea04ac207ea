"""What all verbs share: the parts of a runtime, put together once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from datetime import datetime
from typing import Any
from uuid import uuid4

from workflow.core import InvalidArgumentError, Workflow
from workflow.core.arguments import Duration, aware, identifier
from workflow.core.clock import Clock, OffsetClock, SystemClock
from workflow.core.records import ClaimedRun, RunRecord
from workflow.core.telemetry import NO_TELEMETRY, Telemetry, find_telemetry
from workflow.runtime.bell import Bell
from workflow.runtime.codec import Codec, CodecStore
from workflow.runtime.contract import ClaimLimits, ExecutionStore
from workflow.runtime.driving import Budget, Driver, new_owner
from workflow.runtime.leases import LeaseKeeper
from workflow.runtime.publishing import Publisher
from workflow.runtime.queues import Queue
from workflow.runtime.reading import Reader
from workflow.runtime.registry import Registration, Registry
from workflow.runtime.results import RunKind, RunResult
from workflow.runtime.schedules.making import registered_schedules
from workflow.runtime.schedules.materializing import Materializer
from workflow.runtime.spans import count, limit_span, span

__all__ = ["RuntimeParts", "check_same_workflow", "chosen_id"]


class RuntimeParts:
    """The parts of a runtime. Not for use by itself: see `WorkflowRuntime`."""

    def __init__(
        self,
        store: ExecutionStore,
        workflows: Iterable[Workflow[Any, Any] | Registration],
        *,
        queues: Iterable[Queue] = (),
        lease: Duration = 30.0,
        concurrency: int = 10,
        publish: Callable[[Any], Awaitable[Any] | Any] | None = None,
        telemetry: bool = True,
        clock: Clock | None = None,
        codec: Codec | None = None,
        max_recoveries: int = 10,
        owner: str | None = None,
    ) -> None:
        length = limit_span(lease, "lease")
        _check_parts(store, clock, codec, publish)
        self.store: ExecutionStore = store if codec is None else CodecStore(store, codec)
        self.clock: Clock = clock or SystemClock()
        self.owner = new_owner() if owner is None else identifier(owner, "owner")
        self._concurrency = count(concurrency, "concurrency", least=1)
        self._registry = Registry(workflows, queues)
        if self._registry.queues and not self.store.capabilities.queues:
            raise InvalidArgumentError(f"{type(store).__name__} can't do queues with limits (capabilities.queues).")
        self._schedules = registered_schedules(self._registry, self.store)
        self._publisher = Publisher(publish)
        self._telemetry: Telemetry | None = None if telemetry else NO_TELEMETRY
        self._bell = Bell()
        self._keeper = LeaseKeeper(self.store, length)
        self._materializer = Materializer(self.store, self._schedules, self._keeper.tell_news)
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

    def _budget(self, now: datetime | None, max_duration: Duration | None) -> Budget:
        clock = self.clock if now is None else OffsetClock(self.clock, aware(now, "now"))
        return Budget.of(clock, None if max_duration is None else span(max_duration, "max_duration"))

    def _find_telemetry(self) -> Telemetry:
        if self._telemetry is not None:
            return self._telemetry
        found = find_telemetry()
        if found is not NO_TELEMETRY:  # the app may set its provider later
            self._telemetry = found
        return found

    async def _claim_one(self, run: RunRecord, at: datetime, *, unlimited: bool = False) -> ClaimedRun | None:
        """Claim a run that is ready, if the limits of its queue allow it now (or whatever they are)."""
        lease = self._driver.lease(self.owner, at)
        queue = self._registry.queues.get(run.queue_name)
        if queue is None or unlimited:
            return await self.store.claim_run(run.run_id, lease, now=at)
        limits = ClaimLimits(0, 1, 0)
        claimed = await self.store.claim_queue(
            queue, [run.workflow_id], lease, limits=limits, now=at, run_id=run.run_id
        )
        return claimed[0] if claimed else None

    def _state_result(self, record: RunRecord, kind: RunKind, *, created: bool = False) -> RunResult[Any]:
        run = self._driver.view(record)
        return RunResult(kind, run.run_id, run.workflow_id, created=created, run=run, error=run.error)


def chosen_id(workflow_id: str, asked: str | None, name: str = "run_id") -> str:
    """The id of a run to come: the one asked for, or a random one."""
    return f"{workflow_id}:{uuid4()}" if asked is None else identifier(asked, name)


def check_same_workflow(run: RunRecord, workflow_id: str) -> None:
    """Refuse an id that is taken by another workflow's run: nobody gets that one's output by mistake."""
    if run.workflow_id != workflow_id:
        raise InvalidArgumentError(
            f"There is a run {run.run_id!r} already, of workflow {run.workflow_id!r}: a run of {workflow_id!r} needs "
            "another run_id."
        )


def _check_parts(store: object, clock: object, codec: object, publish: object) -> None:
    """Raise where one of them is something else: when the process starts, and not in the middle of its first run."""
    if not isinstance(store, ExecutionStore):
        raise InvalidArgumentError(f"store must be a store, such as SQLiteStore('workflow.db'), not {store!r}.")
    for part, name, methods in (
        (clock, "clock", ("now", "sleep_until")),
        (codec, "codec", ("encode", "decode")),
    ):
        if part is not None and not all(callable(getattr(part, method, None)) for method in methods):
            raise InvalidArgumentError(f"{name} must have the methods {' and '.join(methods)}, and {part!r} has not.")
    if publish is not None and not callable(publish):
        raise InvalidArgumentError(f"publish must be a function of an event, not {publish!r}.")
