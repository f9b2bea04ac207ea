"""What a drive gets from whoever hosts it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from workflow.core.clock import Clock, SystemClock
from workflow.core.events import Event
from workflow.core.records import Lease
from workflow.core.store import RunStore
from workflow.core.telemetry import NO_TELEMETRY, Telemetry
from workflow.core.transactions import Transactor

__all__ = ["DriveEnvironment"]

Publish = Callable[[Sequence[Event]], Awaitable[None] | None]
"""None: there is nothing to wait for."""


@dataclass(slots=True)
class DriveEnvironment:
    """The store, the clock, the budget and the observers of a drive."""

    store: RunStore
    owner: str
    clock: Clock = field(default_factory=SystemClock)
    lease: timedelta = timedelta(seconds=30)
    deadline: datetime | None = None
    """When the host wants to be done."""
    margin: timedelta = timedelta(0)
    """A drive starts nothing new when less than this is left until the deadline."""
    publish: Publish | None = None
    """Gets the events after they are committed, in order. Must not raise."""
    patience: timedelta = timedelta(seconds=2)
    """The longest backoff of a retry that is waited for in place."""
    grace: timedelta = timedelta(seconds=5)
    """How long the end of cancelled steps is waited for, in the host loop's time."""
    blocked_delay: timedelta = timedelta(seconds=60)
    """When a blocked or postponed run is looked at again."""
    max_recoveries: int = 10
    max_payload: int = 16 * 1024 * 1024
    telemetry: Telemetry = NO_TELEMETRY
    transactor: Transactor | None = None
    """The store again, where it runs database steps."""
    store_name: str = ""
    """What errors call the store; its class, if empty."""

    def new_lease(self, now: datetime) -> Lease:
        return Lease(self.owner, now + self.lease)
