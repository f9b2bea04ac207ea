"""`run_workflow`: the engine without a runtime. One run, one drive, its events as they happen."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeVar, cast
from uuid import uuid4

from .arguments import aware, identifier
from .clock import Clock, SystemClock
from .definition import Workflow
from .deliveries import approval_mail, signal_mail
from .engine import Drive, DriveEnvironment
from .errors import InvalidArgumentError, RunNotFoundError, WorkflowError
from .events import Event, WorkflowEvent
from .journal import read_events
from .records import ClaimedRun, Lease, NewMail, NewRun
from .store import RunStore

__all__ = ["ApprovalDelivery", "SignalDelivery", "run_workflow"]

logger = logging.getLogger("workflow.core")

_DeliveryT = TypeVar("_DeliveryT", "SignalDelivery", "ApprovalDelivery")

_NOTHING: Any = object()
_LEASE = timedelta(seconds=60)


@dataclass(frozen=True, slots=True)
class SignalDelivery:
    """A signal to deliver before the drive. `signal_id` makes it idempotent."""

    signal_id: str
    name: str
    payload: Any = None


@dataclass(frozen=True, slots=True)
class ApprovalDelivery:
    """A decision to deliver before the drive."""

    approval_id: str
    approved: bool
    feedback: str | None = None
    meta: dict[str, Any] | None = None


async def run_workflow(
    workflow: Workflow[Any, Any],
    *,
    store: RunStore,
    run_id: str | None = None,
    input: Any = _NOTHING,
    signal: SignalDelivery | Mapping[str, Any] | None = None,
    approval: ApprovalDelivery | Mapping[str, Any] | None = None,
    recover: bool = False,
    attach: bool = False,
    publish: Callable[[Event], object] | None = None,
    deadline: datetime | None = None,
    clock: Clock | None = None,
    owner: str | None = None,
) -> AsyncIterator[WorkflowEvent]:
    """Do one drive of one run, and give its events (`WorkflowEvent`) as they are committed.

    - With `input`, creates the run (idempotent by `run_id`: an existing one is not driven again).
    - With `signal` or `approval` (or a mapping of its fields), delivers it, and drives the run if it waited for it.
    - With `recover`, drives the run whoever holds it: its former owner is taken for dead, and its commits are refused.
    - With none of them, drives the run if it is due.
    - With `attach`, gives the events that the log already holds first.

    `publish(event)` is called for each event as well. Closing the iterator early cancels the drive and releases the
    run. Raises `RunNotFoundError`, `PayloadError` for an input that does not fit, and `InvalidArgumentError`. What
    goes wrong in the workflow is an event. The lease is not renewed: for steps of more than a minute use
    `workflow.runtime`.
    """
    clock = clock or SystemClock()
    run_id = identifier(run_id, "run_id") if run_id is not None else f"{workflow.id}:{uuid4()}"
    if deadline is not None:
        deadline = aware(deadline, "deadline")
    driver = _Driver(workflow, store, run_id, clock, owner or f"run_workflow:{uuid4()}", deadline, publish)
    if attach:
        for event in await driver.past_events():
            yield cast("WorkflowEvent", event)
    claimed = await driver.claim(input, _mail(signal, approval), recover)
    if claimed is None:
        return
    # Closing this iterator must end the drive there and then, not when the inner one is collected as garbage.
    async with aclosing(driver.events_of(claimed)) as events:
        async for event in events:
            yield cast("WorkflowEvent", event)


def _mail(
    signal: SignalDelivery | Mapping[str, Any] | None, approval: ApprovalDelivery | Mapping[str, Any] | None
) -> NewMail | None:
    if signal is not None and approval is not None:
        raise InvalidArgumentError("Deliver a signal or an approval, one at a time.")
    if signal is not None:
        event = _delivery(signal, SignalDelivery, "signal")
        return signal_mail(event.signal_id, event.name, event.payload)
    if approval is not None:
        decision = _delivery(approval, ApprovalDelivery, "approval")
        return approval_mail(decision.approval_id, decision.approved, decision.feedback, decision.meta)
    return None


def _delivery(given: _DeliveryT | Mapping[str, Any], kind: type[_DeliveryT], name: str) -> _DeliveryT:
    if isinstance(given, kind):
        return given
    try:
        return kind(**given)
    except TypeError as error:
        raise InvalidArgumentError(
            f"{name} takes a {kind.__name__}(...) or a mapping of its fields, not {given!r:.100}."
        ) from error


class _Driver:
    """One call of `run_workflow`."""

    def __init__(
        self,
        workflow: Workflow[Any, Any],
        store: RunStore,
        run_id: str,
        clock: Clock,
        owner: str,
        deadline: datetime | None,
        publish: Callable[[Event], object] | None,
    ) -> None:
        self._workflow = workflow
        self._store = store
        self._run_id = run_id
        self._clock = clock
        self._owner = owner
        self._deadline = deadline
        self._publish_one = publish
        self._queue: asyncio.Queue[Event | None] = asyncio.Queue()

    async def past_events(self) -> Sequence[Event]:
        return read_events(self._run_id, await self._store.read_log(self._run_id))

    async def claim(self, input: Any, mail: NewMail | None, recover: bool) -> ClaimedRun | None:
        now = self._clock.now()
        lease = Lease(self._owner, now + _LEASE)
        if input is not _NOTHING:
            what = f"The input of run {self._run_id!r}"
            text, _ = self._workflow.input_type.coerce(input, what)
            new = NewRun(self._run_id, self._workflow.id, self._workflow.version, text, now)
            return (await self._store.create_run(new, lease=lease, now=now)).claimed
        await self._check_run()
        if mail is not None:
            return (await self._store.deliver(self._run_id, mail, lease=lease, now=now)).claimed
        return await self._store.claim_run(self._run_id, lease, now=now, force=recover)

    async def _check_run(self) -> None:
        """Before anything is delivered to it or claimed: a claim of another workflow's run would only hold it up."""
        run = await self._store.get_run(self._run_id)
        if run is None:
            raise RunNotFoundError(self._run_id)
        if run.workflow_id != self._workflow.id:
            raise WorkflowError(
                f"Run {self._run_id!r} belongs to workflow {run.workflow_id!r}, not to {self._workflow.id!r}."
            )

    async def events_of(self, claimed: ClaimedRun) -> AsyncGenerator[Event]:
        environment = DriveEnvironment(
            store=self._store,
            owner=self._owner,
            clock=self._clock,
            lease=_LEASE,
            deadline=self._deadline,
            publish=self._publish,
        )
        task = asyncio.create_task(self._drive(Drive(self._workflow, claimed, environment)))
        try:
            while (event := await self._queue.get()) is not None:
                yield event
            await task
        finally:
            if not task.done():
                task.cancel()
                await asyncio.wait([task])
            if not task.cancelled():
                task.exception()  # who closes the iterator is not told of it

    async def _drive(self, drive: Drive) -> None:
        try:
            await drive.run()
        finally:
            self._queue.put_nowait(None)

    async def _publish(self, events: Sequence[Event]) -> None:
        for event in events:
            self._queue.put_nowait(event)
            try:
                result = self._publish_one(event) if self._publish_one is not None else None
                if isinstance(result, Awaitable):
                    await result
            except Exception:
                logger.exception("publish() failed for an event of run %r; the run goes on.", self._run_id)
