"""The operations of the model test: what may be asked of a store, made of a few small numbers and names.

An operation looks at the rows as they are (`rows`) to ask for something that makes sense, or just misses it: a fence
that is one too old, an index that is one too far. It becomes a `Call`, which the store and the model both get.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from workflow.core.records import Commit, LogRecord, NewMail, NewRun, RunRecord, RunStatus, Transition
from workflow.runtime.contract import ClaimLimits, ExecutionStore, HeldLease, RunFilter

from .samples import approval_wait, at, lease, signal_wait, timer_wait

__all__ = [
    "Call",
    "Claim",
    "ClaimDue",
    "Create",
    "Deliver",
    "List",
    "Move",
    "NextDue",
    "Operation",
    "Purge",
    "Release",
    "Renew",
    "Rows",
    "Script",
]

Rows: TypeAlias = Mapping[str, RunRecord]
Script: TypeAlias = "Sequence[tuple[int, bool, Operation]]"
"""What to ask for: how many seconds later, whether twice, and what."""
Call: TypeAlias = Callable[[ExecutionStore], Awaitable[Any]]


@dataclass(frozen=True)
class Operation:
    """Something that can be asked at time `now`; made a call when it is known what the rows are."""

    def call(self, rows: Rows, now: float) -> Call:
        raise NotImplementedError


@dataclass(frozen=True)
class Create(Operation):
    run_id: str
    workflow_id: str
    leased: bool
    delay: int

    def call(self, rows: Rows, now: float) -> Call:
        new = NewRun(self.run_id, self.workflow_id, None, f"[{now}]", at(now + self.delay))
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

    def call(self, rows: Rows, now: float) -> Call:
        limits = ClaimLimits(99 * self.recovered, 99 * self.ready, 99 * self.timers)
        held = lease("sweeper", now + 3)
        return lambda store: store.claim_due(self.workflow_ids, held, limits=limits, now=at(now))


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

    def call(self, rows: Rows, now: float) -> Call:
        return lambda store: store.next_due(self.workflow_ids)


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
