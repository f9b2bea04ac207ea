"""Driving one run on `InMemoryRunStore`, with a clock and an outside world that the test owns."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from copy import copy
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from workflow.core.definition import Workflow
from workflow.core.deliveries import approval_mail, cancel_mail, signal_mail
from workflow.core.engine import Drive, DriveEnvironment, DriveOutcome
from workflow.core.events import ApprovalResolved, CancelRequested, Event, SignalResolved
from workflow.core.journal import read_events
from workflow.core.memory import InMemoryRunStore
from workflow.core.records import (
    ClaimedRun,
    Commit,
    Committed,
    CreatedRun,
    Delivered,
    Lease,
    NewMail,
    NewRun,
    RunRecord,
)

START = datetime(2026, 1, 1, tzinfo=UTC)
LEASE = timedelta(seconds=30)

T = TypeVar("T")

gc.collect()
gc.freeze()  # what is here by now is no test's: `play` collects often, and need not look through all of it


class ManualClock:
    """Time moves when the test says so; with `jump`, also when a drive waits with nothing else under way."""

    def __init__(self, start: datetime = START, *, jump: bool = True) -> None:
        self.time = start
        self.jump = jump
        self._sleepers: list[tuple[datetime, asyncio.Future[None]]] = []

    def now(self) -> datetime:
        return self.time

    def set(self, when: datetime) -> None:
        self.time = when
        for due, sleeper in self._sleepers:
            if due <= when and not sleeper.done():
                sleeper.set_result(None)

    def advance(self, seconds: float) -> None:
        self.set(self.time + timedelta(seconds=seconds))

    def next_wake(self) -> datetime | None:
        return min((due for due, sleeper in self._sleepers if not sleeper.done()), default=None)

    async def sleep_until(self, when: datetime, *, busy: bool) -> None:
        if self.jump and not busy and when > self.time:
            self.set(when)
        if when <= self.time:
            return
        sleeper = (when, asyncio.get_running_loop().create_future())
        self._sleepers.append(sleeper)
        try:
            await sleeper[1]
        finally:
            self._sleepers.remove(sleeper)


class SpyStore(InMemoryRunStore):
    """Remembers what it was asked for; `before_commit` and `after_commit` may raise, or wait."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[str] = []
        self.commits: list[Commit] = []
        self.mails: list[NewMail] = []
        self.before_commit: Callable[[Commit], Awaitable[None]] | None = None
        self.after_commit: Callable[[Commit], Awaitable[None]] | None = None

    async def create_run(self, new: NewRun, *, lease: Lease | None, now: datetime) -> CreatedRun:
        self.calls.append("create")
        return await super().create_run(new, lease=lease, now=now)

    async def claim_run(self, run_id: str, lease: Lease, *, now: datetime, force: bool = False) -> ClaimedRun | None:
        self.calls.append("claim")
        return await super().claim_run(run_id, lease, now=now, force=force)

    async def commit(self, commit: Commit) -> Committed:
        self.calls.append("commit")
        if self.before_commit is not None:
            await self.before_commit(commit)
        answer = await super().commit(commit)
        self.commits.append(commit)
        if self.after_commit is not None:
            await self.after_commit(commit)
        return answer

    async def deliver(self, run_id: str, mail: NewMail, *, lease: Lease | None, now: datetime) -> Delivered:
        self.calls.append("deliver")
        delivered = await super().deliver(run_id, mail, lease=lease, now=now)
        if delivered.outcome == "accepted":
            self.mails.append(self._runs[run_id].inbox[self._runs[run_id].mail_count])
        return delivered


class World:
    """One run of one workflow, and everything outside of it."""

    def __init__(
        self,
        workflow: Workflow[Any, Any],
        *,
        clock: ManualClock | None = None,
        store: SpyStore | None = None,
        run_id: str = "run-1",
        **environment: Any,
    ) -> None:
        self.workflow = workflow
        self.clock = clock or ManualClock()
        self.store = store or SpyStore()
        self.run_id = run_id
        self.environment = environment
        self.published: list[Event] = []
        self.drive_now: Drive | None = None
        """The drive that was begun last."""

    # Verbs

    async def create(self, input: Any = None) -> ClaimedRun:
        text, _ = self.workflow.input_type.coerce(input, "the input")
        now = self.clock.now()
        new = NewRun(self.run_id, self.workflow.id, self.workflow.version, text, now)
        created = await self.store.create_run(new, lease=self._lease(), now=now)
        assert created.claimed is not None
        return created.claimed

    async def start(self, input: Any = None) -> DriveOutcome:
        """Create the run and drive it once."""
        return await self.drive_claimed(await self.create(input))

    def begin(self, claimed: ClaimedRun, workflow: Workflow[Any, Any] | None = None) -> asyncio.Task[DriveOutcome]:
        """A drive as a task, so that the test can go on beside it."""
        self.drive_now = Drive(workflow or self.workflow, claimed, self._drive_environment())
        return asyncio.create_task(self.drive_now.run(), name="the drive")

    async def drive_claimed(self, claimed: ClaimedRun, workflow: Workflow[Any, Any] | None = None) -> DriveOutcome:
        self.drive_now = Drive(workflow or self.workflow, claimed, self._drive_environment())
        return await self.drive_now.run()

    async def claim(self, *, force: bool = False) -> ClaimedRun | None:
        return await self.store.claim_run(self.run_id, self._lease(), now=self.clock.now(), force=force)

    async def drive(self, workflow: Workflow[Any, Any] | None = None, *, force: bool = False) -> DriveOutcome:
        """Claim the run, which must be due unless `force`d, and drive it once."""
        claimed = await self.claim(force=force)
        assert claimed is not None, f"the run is not due: {self.run}"
        return await self.drive_claimed(claimed, workflow)

    async def finish(self, input: Any = None, *, limit: int = 100) -> DriveOutcome:
        """Start the run if there is none, and drive it whenever it is due, until it ends or waits for mail alone."""
        known = await self.store.get_run(self.run_id)
        outcome = await self.start(input) if known is None else await self.drive()
        while outcome.kind in ("paused", "queued", "postponed") and outcome.run.due_at is not None and limit:
            self.clock.set(max(self.clock.now(), outcome.run.due_at))
            outcome = await self.drive()
            limit -= 1
        assert limit, "the run does not come to an end"
        return outcome

    async def signal(self, name: str, payload: Any = None, signal_id: str | None = None) -> Delivered:
        mail = signal_mail(signal_id or f"{name}-{len(self.store.mails)}", name, payload)
        return await self._deliver(mail)

    async def decide(self, approval_id: str, approved: bool, feedback: str | None = None) -> Delivered:
        return await self._deliver(approval_mail(approval_id, approved, feedback, None))

    async def cancel(self, reason: str | None = None) -> Delivered:
        return await self._deliver(cancel_mail(reason))

    async def _deliver(self, mail: NewMail) -> Delivered:
        return await self.store.deliver(self.run_id, mail, lease=None, now=self.clock.now())

    # What is there

    @property
    def run(self) -> RunRecord:
        return self.store._runs[self.run_id].record()

    @property
    def log(self) -> list[Event]:
        return read_events(self.run_id, self.store._runs[self.run_id].log)

    @property
    def trace(self) -> list[str]:
        """The log in short: type and operation id of each entry."""
        return [short(event) for event in self.log]

    @property
    def inbox(self) -> list[str]:
        return [mail.id for mail in self.store._runs[self.run_id].inbox.values()]

    def published_types(self) -> list[str]:
        return [event.type for event in self.published]  # type: ignore[attr-defined]

    def cut(self, length: int) -> World:
        """The same run as if its process had died when its log had `length` entries, with what was mailed by now.

        Its clock stands at the last of them."""
        kept = copy(self.store._runs[self.run_id])
        kept.log = kept.log[:length]
        events = read_events(self.run_id, kept.log)
        used = {key for event in events if (key := _used_mail(event)) is not None}
        kept.inbox = {mail.seq: mail for mail in self.store.mails if (mail.kind, mail.id) not in used}  # type: ignore[attr-defined]
        kept.delivered = set(kept.delivered)
        kept.status, kept.owner, kept.waits = "running", "the dead", ()
        kept.output = kept.error = kept.completed_at = kept.state = None
        kept.due_at = kept.created_at
        store = SpyStore()
        store._runs[self.run_id] = kept
        store.mails = list(self.store.mails)
        clock = ManualClock(events[-1].at if events else START, jump=self.clock.jump)
        return World(self.workflow, clock=clock, store=store, run_id=self.run_id, **self.environment)

    # Parts

    def _lease(self) -> Lease:
        return Lease("tester", self.clock.now() + LEASE)

    def _drive_environment(self) -> DriveEnvironment:
        async def publish(events: Sequence[Event]) -> None:
            self.published.extend(events)

        options: dict[str, Any] = {"publish": publish, **self.environment}
        return DriveEnvironment(store=self.store, owner="tester", clock=self.clock, lease=LEASE, **options)


def short(event: Event) -> str:
    id = getattr(event, "id", None)
    return event.type if id is None else f"{event.type} {id}"  # type: ignore[attr-defined]


def _used_mail(event: Event) -> tuple[str, str] | None:
    if isinstance(event, SignalResolved):
        return "signal", event.signal_id
    if isinstance(event, ApprovalResolved):
        return "approval", event.id
    return ("cancel", "cancel") if isinstance(event, CancelRequested) else None


async def settle() -> None:
    """Return when nothing but the caller can go on: every other task waits for something that has not happened."""
    ready: Any = asyncio.get_running_loop()._ready  # type: ignore[attr-defined]
    await asyncio.sleep(0)
    while ready:
        await asyncio.sleep(0)


def play(scenario: Coroutine[Any, Any, T]) -> T:
    """`asyncio.run`, which leaves nothing behind: no task, no thread of ours, nothing for `sys.unraisablehook`."""
    unraisable: list[str] = []
    hook, sys.unraisablehook = sys.unraisablehook, lambda args: unraisable.append(f"{args.err_msg}: {args.exc_value!r}")
    gc.freeze()  # so that the collection below looks at what the scenario has left, and not at all of pytest
    try:
        result = asyncio.run(_alone(scenario))
        gc.collect()
    finally:
        gc.unfreeze()
        sys.unraisablehook = hook
    assert not unraisable, unraisable
    assert not [
        thread.name for thread in threading.enumerate() if thread is not threading.main_thread() and not thread.daemon
    ]
    return result


async def _alone(scenario: Coroutine[Any, Any, T]) -> T:
    result = await scenario
    await settle()
    left = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    assert not left, left
    return result


class Gates:
    """Steps that end when the test says so: `await gates(name)` in a step, `gates.open(name)` outside."""

    def __init__(self) -> None:
        self.waiting: dict[str, asyncio.Future[Any]] = {}
        self.entered: list[str] = []
        self.cancelled: list[str] = []

    async def __call__(self, name: str) -> Any:
        future = self.waiting[name] = asyncio.get_running_loop().create_future()
        self.entered.append(name)
        try:
            return await future
        except asyncio.CancelledError:
            self.cancelled.append(name)
            raise
        finally:
            if self.waiting.get(name) is future:
                del self.waiting[name]

    def open(self, name: str, result: Any = None) -> None:
        self.waiting[name].set_result(result)

    def fail(self, name: str, error: BaseException) -> None:
        self.waiting[name].set_exception(error)


async def echo(value: Any = None) -> Any:
    """A step that ends at once."""
    return value


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


__all__ = ["LEASE", "START", "Gates", "ManualClock", "SpyStore", "World", "at", "echo", "play", "settle", "short"]
