"""`InMemoryRunStore`: the contract of `RunStore` in dictionaries, for tests, demos and as the engine's speed limit.

No method awaits anything, so on one event loop each is atomic by itself; every check comes before the first change.
A run is kept as a mutable `StoredRun`, and a `RunRecord` is made only where a caller gets one: a commit, the operation
that counts, touches a few attributes and copies nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from .errors import LeaseLostError, LogConflictError
from .records import (
    ENDED,
    ClaimedRun,
    Commit,
    Committed,
    CreatedRun,
    Delivered,
    Lease,
    LogRecord,
    Mail,
    NewMail,
    NewRun,
    RunRecord,
    RunStatus,
    Transition,
    Wait,
)
from .store import RunStore

__all__ = ["InMemoryRunStore", "StoredRun"]


@dataclass(slots=True, eq=False)
class StoredRun:
    """One run as the store keeps it: the fields of its row, its log, its inbox, and the mails it has ever had."""

    run_id: str
    workflow_id: str
    workflow_version: str | None
    input: str
    created_at: datetime
    updated_at: datetime
    due_at: datetime | None
    status: RunStatus = "queued"
    started_at: datetime | None = None
    completed_at: datetime | None = None
    output: str | None = None
    error: str | None = None
    waits: tuple[Wait, ...] = ()
    state: str | None = None
    fence: int = 0
    owner: str | None = None
    mail_count: int = 0
    recoveries: int = 0
    queue: str | None = None
    key: str | None = None
    priority: int = 0
    expires_at: datetime | None = None
    schedule_id: str | None = None
    log: list[LogRecord] = field(default_factory=list[LogRecord])
    inbox: dict[int, Mail] = field(default_factory=dict[int, Mail])
    """What is not consumed, by `seq`, in order."""
    delivered: set[tuple[str, str]] = field(default_factory=set[tuple[str, str]])
    """`(kind, id)` of every mail ever accepted: a consumed one still makes its repetition a duplicate."""

    def record(self) -> RunRecord:
        return RunRecord(
            self.run_id,
            self.workflow_id,
            self.workflow_version,
            self.status,
            self.input,
            self.created_at,
            self.updated_at,
            self.due_at,
            self.started_at,
            self.completed_at,
            self.output,
            self.error,
            self.waits,
            self.state,
            self.fence,
            self.owner,
            len(self.log),
            self.mail_count,
            self.recoveries,
            self.queue,
            self.key,
            self.priority,
            self.expires_at,
            self.schedule_id,
        )

    @property
    def queue_name(self) -> str:
        return self.workflow_id if self.queue is None else self.queue

    @property
    def ended(self) -> bool:
        return self.status in ENDED

    @property
    def waits_to_begin(self) -> bool:
        return self.status == "queued" and self.fence == 0

    def is_due(self, now: datetime) -> bool:
        return self.due_at is not None and self.due_at <= now

    def awaits(self, mail: NewMail) -> bool:
        """Whether this mail would resolve something; every run awaits a request to cancel it."""
        return mail.kind == "cancel" or any(wait.mail_key == mail.key for wait in self.waits)

    def mail_after(self, seen: int) -> tuple[Mail, ...]:
        """What is not consumed and came after `seen`; costs nothing where nothing came, the usual case."""
        if self.mail_count <= seen:
            return ()
        inbox = self.inbox
        return tuple(inbox[seq] for seq in range(seen + 1, self.mail_count + 1) if seq in inbox)

    def has_applied(self, commit: Commit) -> bool:
        """Whether this commit, of the present fence, is the one that left the run as it is."""
        if len(self.log) != commit.expected_index + len(commit.records):
            return False
        transition = commit.transition
        if transition is None:
            return self.status == "running"
        if transition.status == "paused" and self.status == "running":
            return bool(self.mail_after(commit.seen_mail))  # the pause was refused, and would be again
        # Awaited mail makes a paused run ready, which doesn't undo the commit that paused it.
        return self.status == transition.status or (transition.status == "paused" and self.status == "queued")


class InMemoryRunStore(RunStore):
    """A `RunStore` that forgets everything with its process. Use it on one event loop."""

    def __init__(self) -> None:
        self._runs: dict[str, StoredRun] = {}

    async def create_run(self, new: NewRun, *, lease: Lease | None, now: datetime) -> CreatedRun:
        existing = self._runs.get(new.run_id)
        if existing is not None:
            if new.replace_unstarted and existing.waits_to_begin and existing.workflow_id == new.workflow_id:
                self._replace(existing, new, now)
            return CreatedRun(existing.record(), created=False)
        run = self._add(new, now)
        if lease is None:
            self._moved(run)
            return CreatedRun(run.record(), created=True)
        claimed = self._claim(run, lease, now)
        return CreatedRun(claimed.run, created=True, claimed=claimed)

    async def claim_run(self, run_id: str, lease: Lease, *, now: datetime, force: bool = False) -> ClaimedRun | None:
        run = self._runs.get(run_id)
        if run is None or run.status in ENDED or not (force or run.is_due(now)):
            return None
        return self._claim(run, lease, now)

    async def commit(self, commit: Commit) -> Committed:
        run = self._runs.get(commit.run_id)
        if run is None or run.fence != commit.fence:
            raise LeaseLostError(commit.run_id, commit.fence)
        if run.status == "running" and len(run.log) == commit.expected_index:
            return self._apply(run, commit)
        if run.has_applied(commit):
            return _answer(run, commit)
        if run.status != "running":
            raise LeaseLostError(commit.run_id, commit.fence)
        raise LogConflictError(commit.run_id, commit.expected_index, len(run.log))

    async def deliver(self, run_id: str, mail: NewMail, *, lease: Lease | None, now: datetime) -> Delivered:
        run = self._runs.get(run_id)
        if run is None:
            return Delivered("not_found")
        if (mail.kind, mail.id) in run.delivered:
            return Delivered("duplicate", run.record())
        if run.status in ENDED:
            return Delivered("ended", run.record())
        awaited = self._put(run, mail, now)
        if lease is not None and run.status == "queued" and run.is_due(now):
            claimed = self._claim(run, lease, now)
            return Delivered("accepted", claimed.run, awaited, claimed)
        return Delivered("accepted", run.record(), awaited)

    async def get_run(self, run_id: str) -> RunRecord | None:
        run = self._runs.get(run_id)
        return None if run is None else run.record()

    async def read_log(self, run_id: str, *, after: int = -1, limit: int | None = None) -> Sequence[LogRecord]:
        run = self._runs.get(run_id)
        if run is None:
            return ()
        start = max(after + 1, 0)
        return tuple(run.log[start:] if limit is None else run.log[start : start + limit])

    def _add(self, new: NewRun, now: datetime) -> StoredRun:
        run = StoredRun(new.run_id, new.workflow_id, new.workflow_version, new.input, now, now, new.due_at)
        run.queue, run.key, run.priority = new.queue, new.key, new.priority
        run.expires_at, run.schedule_id, run.state = new.expires_at, new.schedule_id, new.state
        run.log.extend(new.log)
        self._runs[new.run_id] = run
        self._added(run)
        return run

    def _replace(self, run: StoredRun, new: NewRun, now: datetime) -> None:
        run.input, run.due_at, run.expires_at, run.updated_at = new.input, new.due_at, new.expires_at, now
        run.queue, run.key, run.priority = new.queue, new.key, new.priority
        self._moved(run)

    def _claim(self, run: StoredRun, lease: Lease, now: datetime) -> ClaimedRun:
        claimed_from = run.status
        run.fence += 1
        run.status = "running"
        run.owner = lease.owner
        run.due_at = lease.until
        run.started_at = run.started_at or now
        run.recoveries += claimed_from == "running"
        run.updated_at = now
        self._moved(run)
        return ClaimedRun(run.record(), tuple(run.log), tuple(run.inbox.values()), claimed_from)

    def _apply(self, run: StoredRun, commit: Commit) -> Committed:
        run.log.extend(commit.records)
        for seq in commit.consumed:
            run.inbox.pop(seq, None)
        if commit.state is not None:
            run.state = commit.state
        run.updated_at = commit.now
        transition = commit.transition
        if transition is None or (transition.status == "paused" and run.mail_after(commit.seen_mail)):
            run.due_at = commit.lease.until
        else:
            _release(run, transition, commit.now)
        self._moved(run)
        return _answer(run, commit)

    def _put(self, run: StoredRun, mail: NewMail, now: datetime) -> bool:
        """Store the mail, make the run ready if it waits for it, and answer whether it does."""
        run.mail_count += 1
        run.delivered.add((mail.kind, mail.id))
        run.inbox[run.mail_count] = Mail(mail.kind, mail.id, mail.name, mail.payload, run.mail_count, now)
        run.updated_at = now
        awaited = run.awaits(mail)
        if awaited and (run.status == "paused" or (run.status == "queued" and not run.is_due(now))):
            run.status = "queued"
            run.due_at = now
            self._moved(run)
        return awaited

    def _forget(self, run_id: str) -> None:
        """Called for each run that is deleted."""
        del self._runs[run_id]

    def _added(self, run: StoredRun) -> None:
        """Called once for each new run, before `_moved`: where a store keeps an index, it goes in here."""

    def _moved(self, run: StoredRun) -> None:
        """Called after each change of a run's status or due time."""


def _release(run: StoredRun, transition: Transition, now: datetime) -> None:
    run.status = transition.status
    run.due_at = transition.due_at
    run.owner = None
    run.output = transition.output
    run.error = transition.error
    if transition.waits is not None:
        run.waits = transition.waits
    if transition.recoveries is not None:
        run.recoveries = transition.recoveries
    if transition.status in ENDED:
        run.completed_at = now


def _answer(run: StoredRun, commit: Commit) -> Committed:
    """What a commit answers, whether it was applied just now or before."""
    mail = () if run.status in ENDED else run.mail_after(commit.seen_mail)
    return Committed(released=run.status != "running", mail=mail)
