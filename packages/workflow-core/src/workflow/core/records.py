"""What an engine and a store hand to each other: plain, immutable data.

A store never looks into payloads: inputs, outputs, results and states are opaque text to it. Instants are aware
datetimes in UTC. Nothing here knows how a store keeps them.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, TypeVar

from typing_extensions import dataclass_transform

__all__ = [
    "ENDED",
    "ClaimedRun",
    "Commit",
    "Committed",
    "CreatedRun",
    "Delivered",
    "DeliveryOutcome",
    "Lease",
    "LogRecord",
    "Mail",
    "MailKind",
    "NewMail",
    "NewRun",
    "RunRecord",
    "RunStatus",
    "Transition",
    "Wait",
    "WaitKind",
]

RunStatus = Literal["queued", "running", "paused", "completed", "errored", "cancelled"]
"""`queued`: ready to go on, nobody does yet. `running`: leased. `paused`: waits for a time or for mail."""

ENDED: frozenset[RunStatus] = frozenset({"completed", "errored", "cancelled"})
"""The statuses that a run never leaves."""

WaitKind = Literal["timer", "signal", "approval", "retry", "blocked"]
MailKind = Literal["signal", "approval", "cancel"]
DeliveryOutcome = Literal["accepted", "duplicate", "ended", "not_found"]

CANCEL_KEY = "cancel"
EPOCH = datetime.fromtimestamp(0, UTC)

_T = TypeVar("_T")


@dataclass_transform(frozen_default=True)
def hot(cls: type[_T]) -> type[_T]:
    """A dataclass that only type checkers hold to be frozen: for what is made with each step or run: its constructor
    is several times as fast."""
    return dataclass(slots=True, unsafe_hash=True)(cls)


@hot
class Lease:
    """Who wants to own a run, and until when if not renewed."""

    owner: str
    until: datetime


@hot
class LogRecord:
    """One entry of a run's log: the event's JSON without its payload, and the payload's text."""

    index: int
    event: str
    payload: str | None = None


@hot
class NewRun:
    """A run to create. `input` is JSON text. It is due at `due_at` unless it is created under a lease."""

    run_id: str
    workflow_id: str
    workflow_version: str | None
    input: str
    due_at: datetime
    queue: str | None = None
    """The queue it is in; None: the workflow's own, which is named like the workflow."""
    key: str | None = None
    """What limits per key go by."""
    priority: int = 0
    """The higher ones of a queue are claimed first."""
    expires_at: datetime | None = None
    """When the run is asked to cancel, if it has not ended by then."""
    schedule_id: str | None = None
    """The schedule, of the same workflow, whose tick it is."""
    log: tuple[LogRecord, ...] = ()
    """What it begins with, where it goes on from a point of another run; `state` belongs to that."""
    state: str | None = None
    replace_unstarted: bool = False
    """A run of this id that is queued and was never claimed gets this input, these times and this place instead."""


@hot
class Wait:
    """One thing a paused run waits for, as people and signals need to know it.

    `until` is when a timer fires, a retry starts or a timeout strikes (None: never). `name` is the signal's name
    or the approval's title, `id` the operation id. `detail` explains a `blocked` wait or describes an approval.
    """

    kind: WaitKind
    id: str
    name: str | None = None
    until: datetime | None = None
    detail: str | None = None
    meta: dict[str, Any] | None = None

    @property
    def mail_key(self) -> str | None:
        """The `key` of the mail that would resolve this wait; None where only time does."""
        if self.kind == "signal":
            return f"signal:{self.name}"
        return f"approval:{self.id}" if self.kind == "approval" else None


@hot
class RunRecord:
    """A run as its row says. See `RunStore` for the invariants that hold between these fields."""

    run_id: str
    workflow_id: str
    workflow_version: str | None
    status: RunStatus
    input: str
    created_at: datetime
    updated_at: datetime
    due_at: datetime | None
    """`queued`: when it may start. `paused`: earliest timer. `running`: the lease's end. Ended: None."""
    started_at: datetime | None = None
    """When it was first claimed: the origin of the run's own clock."""
    completed_at: datetime | None = None
    output: str | None = None
    error: str | None = None
    """JSON text of `ErrorInfo`: why it ended `errored`, or why it is blocked."""
    waits: tuple[Wait, ...] = ()
    state: str | None = None
    fence: int = 0
    """Grows by one with every claim."""
    owner: str | None = None
    log_length: int = 0
    mail_count: int = 0
    """How many mails were ever delivered; the last one's `seq`."""
    recoveries: int = 0
    """How often in a row it was claimed from an owner whose lease had run out."""
    queue: str | None = None
    key: str | None = None
    priority: int = 0
    expires_at: datetime | None = None
    schedule_id: str | None = None

    @property
    def queue_name(self) -> str:
        """The queue it is in, by name."""
        return self.workflow_id if self.queue is None else self.queue

    @property
    def ended(self) -> bool:
        return self.status in ENDED


@hot
class NewMail:
    """Something for a run's inbox. `(kind, id)` makes its delivery idempotent."""

    kind: MailKind
    id: str
    name: str
    payload: str

    @property
    def key(self) -> str:
        """What a wait's `mail_key` is matched with. A cancel request is awaited by every run."""
        if self.kind == "cancel":
            return CANCEL_KEY
        return f"signal:{self.name}" if self.kind == "signal" else f"approval:{self.id}"


@hot
class Mail(NewMail):
    """Mail in an inbox. `seq` counts from 1 within the run, in the order of delivery."""

    seq: int = 0
    sent_at: datetime = EPOCH


@hot
class ClaimedRun:
    """A run that this claim owns now: its row (after the claim), its whole log, its unconsumed mail in order."""

    run: RunRecord
    log: tuple[LogRecord, ...]
    mail: tuple[Mail, ...]
    claimed_from: RunStatus
    """The status before the claim: `running` means that its owner's lease had run out."""


@hot
class CreatedRun:
    run: RunRecord
    created: bool
    claimed: ClaimedRun | None = None


@dataclass(frozen=True, slots=True)
class Delivered:
    outcome: DeliveryOutcome
    run: RunRecord | None = None
    """The row after the delivery."""
    awaited: bool = False
    """Whether the run was waiting for this very mail (or is about to look at it)."""
    claimed: ClaimedRun | None = None


@hot
class Transition:
    """How a commit releases a run. The lease ends with it.

    - `paused` with `waits` and their earliest time as `due_at`: refused in part (see `RunStore.commit`) if mail came.
    - `queued` with `due_at`: the run is ready at that time and whoever finds it goes on.
    - `completed` with `output`, `errored` with `error`, `cancelled`: the end; `due_at` is None.

    `waits=None` and `recoveries=None` keep what the row has.
    """

    status: RunStatus
    due_at: datetime | None = None
    waits: tuple[Wait, ...] | None = ()
    output: str | None = None
    error: str | None = None
    recoveries: int | None = 0


@hot
class Commit:
    """One atomic move of a run. See `RunStore.commit`."""

    run_id: str
    fence: int
    expected_index: int
    now: datetime
    lease: Lease
    """The owner goes on until then, where the commit does not release the run."""
    records: tuple[LogRecord, ...] = ()
    consumed: tuple[int, ...] = ()
    """`seq` of the mails that the records resolve."""
    seen_mail: int = 0
    """The highest `seq` that the drive has seen: later mail is news."""
    state: str | None = None
    """The new state; None keeps the old one."""
    transition: Transition | None = None


@hot
class Committed:
    released: bool
    """False: the run is still leased by the committer, with `mail` to look at if a pause was asked for."""
    mail: tuple[Mail, ...] = ()
    """What has arrived after `seen_mail` and is not consumed, in order."""
