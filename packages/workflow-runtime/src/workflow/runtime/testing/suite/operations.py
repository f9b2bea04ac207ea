"""The operations of the model test: what may be asked of a store, made of a few small numbers and names.

An operation looks at the rows as they are (`rows`) to ask for something that makes sense, or just misses it: a fence
that is one too old, an index that is one too far. It becomes a `Call`, which the store and the model both get.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

from workflow.core.records import Commit, LogRecord, NewMail, NewRun, RunRecord, RunStatus, Transition
from workflow.runtime.contract import ClaimLimits, ExecutionStore, HeldLease, RunFilter
from workflow.runtime.queues import Queue
from workflow.runtime.schedules.records import ScheduleCommit, ScheduleKey, TickRecord

from .samples import approval_wait, at, cancel, lease, record, records, signal_wait, timer_wait

__all__ = [
    "Call",
    "Claim",
    "ClaimDue",
    "ClaimQueue",
    "Create",
    "Deliver",
    "List",
    "Move",
    "NextDue",
    "Operation",
    "Purge",
    "Release",
    "Renew",
    "Reopen",
    "Rows",
    "Schedule",
    "Script",
]

Rows: TypeAlias = Mapping[str, RunRecord]
Script: TypeAlias = "Sequence[tuple[int, bool, Operation]]"
"""What to ask for: how many seconds later, whether twice, and what."""
Call: TypeAlias = Callable[[ExecutionStore], Awaitable[Any]]


@dataclass(frozen=True)
class Operation:
    """Something that can be asked at time `now`; made a call when it is known what the rows are."""

    needs: ClassVar[str | None] = None
    """The capability without which a store is not asked for it."""

    def call(self, rows: Rows, now: float) -> Call:
        raise NotImplementedError


@dataclass(frozen=True)
class Create(Operation):
    run_id: str
    workflow_id: str
    leased: bool
    delay: int
    queue: str | None = None
    key: str | None = None
    priority: int = 0
    schedule_id: str | None = None
    records: int = 0
    replaces: bool = False

    def call(self, rows: Rows, now: float) -> Call:
        new = NewRun(
            self.run_id,
            self.workflow_id,
            None,
            f"[{now}]",
            at(now + self.delay),
            queue=self.queue,
            key=self.key,
            priority=self.priority,
            expires_at=at(now + 30),
            schedule_id=self.schedule_id,
            log=records(0, self.records),
            replace_unstarted=self.replaces,
        )
        held = lease("creator", now + 3) if self.leased else None
        return lambda store: store.create_run(new, lease=held, now=at(now))


@dataclass(frozen=True)
class Claim(Operation):
    run_id: str
    force: bool
    seconds: int

    def call(self, rows: Rows, now: float) -> Call:
        held = lease("claimer", now + self.seconds)
        return lambda store: store.claim_run(self.run_id, held, now=at(now), force=self.force)


@dataclass(frozen=True)
class Release:
    """A transition, with times counted from the commit's."""

    status: RunStatus
    delay: int
    waits: frozenset[str]
    recoveries: int | None

    def transition(self, now: float) -> Transition:
        due = now + self.delay
        if self.status == "queued":
            return Transition("queued", at(due), None, error="[2]", recoveries=self.recoveries)
        if self.status != "paused":
            return Transition(self.status, output="[1]", error="[2]", recoveries=self.recoveries)
        known = {
            "paid": signal_wait(),
            "other": signal_wait("other"),
            "a": approval_wait("a"),
            "timer": timer_wait(due),
        }
        waits = tuple(wait for name, wait in known.items() if name in self.waits)
        return Transition("paused", at(due) if "timer" in self.waits else None, waits, recoveries=self.recoveries)


@dataclass(frozen=True)
class Move(Operation):
    """A commit: right with all shifts at zero, and otherwise out of date or too early by them."""

    run_id: str
    count: int
    release: Release | None
    fence_shift: int
    index_shift: int
    unseen: int
    consumed: frozenset[int]
    state: str | None

    def call(self, rows: Rows, now: float) -> Call:
        row = rows.get(self.run_id)
        fence, length, mail_count = (row.fence, row.log_length, row.mail_count) if row else (1, 0, 0)
        index = max(0, length + self.index_shift)
        asked = Commit(
            run_id=self.run_id,
            fence=fence + self.fence_shift,
            expected_index=index,
            now=at(now),
            lease=lease("ann", now + 2),
            records=tuple(LogRecord(n, f'{{"at":{now}}}', f"[{n}]") for n in range(index, index + self.count)),
            consumed=tuple(sorted(seq for seq in self.consumed if seq <= mail_count)),
            seen_mail=max(0, mail_count - self.unseen),
            state=self.state,
            transition=self.release.transition(now) if self.release else None,
        )
        return lambda store: store.commit(asked)


@dataclass(frozen=True)
class Deliver(Operation):
    run_id: str
    mail: NewMail
    leased: bool

    def call(self, rows: Rows, now: float) -> Call:
        held = lease("sender", now + 2) if self.leased else None
        return lambda store: store.deliver(self.run_id, self.mail, lease=held, now=at(now))


@dataclass(frozen=True)
class ClaimDue(Operation):
    """Each kind is taken as a whole or not at all: which of several runs due at once come first is left open."""

    workflow_ids: frozenset[str]
    recovered: bool
    ready: bool
    timers: bool
    without: frozenset[str] = frozenset()

    def call(self, rows: Rows, now: float) -> Call:
        limits = ClaimLimits(99 * self.recovered, 99 * self.ready, 99 * self.timers)
        held = lease("sweeper", now + 3)
        return lambda store: store.claim_due(self.workflow_ids, held, limits=limits, now=at(now), without=self.without)


@dataclass(frozen=True)
class ClaimQueue(Operation):
    needs: ClassVar[str | None] = "queues"
    queue: Queue
    workflow_ids: frozenset[str]
    ready: bool
    timers: bool
    by_age: bool
    run_id: str | None

    def call(self, rows: Rows, now: float) -> Call:
        limits = ClaimLimits(99, 99 * self.ready, 99 * self.timers)
        held = lease("sweeper", now + 3)
        return lambda store: store.claim_queue(
            self.queue, self.workflow_ids, held, limits=limits, now=at(now), by_age=self.by_age, run_id=self.run_id
        )


@dataclass(frozen=True)
class Schedule(Operation):
    """A commit on a schedule, mostly of its revision, and a look at all schedules and at its history."""

    needs: ClassVar[str | None] = "schedules"
    workflow_id: str
    shift: int
    starts: frozenset[str]
    cancel: frozenset[str]
    terminate: frozenset[str]

    def call(self, rows: Rows, now: float) -> Call:
        key = ScheduleKey(self.workflow_id, "s")

        async def ask(store: ExecutionStore) -> Any:
            revision = sum(found.revision for found in await store.read_schedules([key]))
            applied = await store.commit_schedule(self._commit(key, revision + self.shift, now))
            return applied, list(await store.read_schedules()), list(await store.list_ticks(key))

        return ask

    def _commit(self, key: ScheduleKey, expected: int, now: float) -> ScheduleCommit:
        return ScheduleCommit(
            key,
            max(0, expected),
            at(now),
            at(now + 1),
            False,
            f"[{now}]",
            starts=tuple(
                NewRun(run_id, self.workflow_id, None, "[0]", at(now), schedule_id="s")
                for run_id in sorted(self.starts)
            ),
            cancel=tuple(sorted(self.cancel)),
            cancel_mail=cancel("x"),
            terminate=tuple(sorted(self.terminate - self.cancel)),
            termination='{"type":"RUN_CANCELLED"}',
            ticks=(TickRecord(at(now), "started", at(now)),),
        )


@dataclass(frozen=True)
class Reopen(Operation):
    run_id: str
    index_shift: int
    mail: NewMail | None

    def call(self, rows: Rows, now: float) -> Call:
        row = rows.get(self.run_id)
        index = max(0, (row.log_length if row else 0) + self.index_shift)
        mail = () if self.mail is None else (self.mail,)
        return lambda store: store.reopen(
            self.run_id, expected_index=index, record=record(index), mail=mail, expires_at=at(now + 9), now=at(now)
        )


@dataclass(frozen=True)
class Renew(Operation):
    run_ids: frozenset[str]
    fence_shift: int

    def call(self, rows: Rows, now: float) -> Call:
        fences = {run_id: rows[run_id].fence if run_id in rows else 1 for run_id in sorted(self.run_ids)}
        held = [HeldLease(run_id, fence + self.fence_shift) for run_id, fence in fences.items()]
        return lambda store: store.renew(held, until=at(now + 4), now=at(now))


@dataclass(frozen=True)
class NextDue(Operation):
    workflow_ids: frozenset[str]
    without: frozenset[str] = frozenset()

    def call(self, rows: Rows, now: float) -> Call:
        return lambda store: store.next_due(self.workflow_ids, without=self.without)


@dataclass(frozen=True)
class List(Operation):
    workflow_id: str | None
    status: frozenset[RunStatus] | None
    age: int
    after: str | None
    limit: int

    def call(self, rows: Rows, now: float) -> Call:
        row = rows.get(self.after or "")
        before = (row.created_at, row.run_id) if row else None
        query = RunFilter(self.workflow_id, self.status, at(now - self.age), at(now), before, self.limit)
        return lambda store: store.list_runs(query)


@dataclass(frozen=True)
class Purge(Operation):
    age: int
    workflow_id: str | None

    def call(self, rows: Rows, now: float) -> Call:
        return lambda store: store.purge(at(now - self.age), workflow_id=self.workflow_id)
