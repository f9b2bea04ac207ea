"""What the runtime keeps in a schedule's row, beside what the store knows of it."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from workflow.core import StoreError

from .records import ScheduleKey, TickRecord

__all__ = ["LastTick", "State"]

_SUPERSEDED_KEPT = 20
_WRONG_CLOCK = timedelta(days=1)
"""How far a cursor may lie in the future before it counts as the work of a wrong clock."""


@dataclass(frozen=True, slots=True)
class LastTick:
    """What was decided last, for people who look."""

    tick_at: datetime
    outcome: str
    run_id: str | None = None


@dataclass(frozen=True, slots=True)
class State:
    """The row's `data`. One cursor does it: every tick up to `after` is accounted for, every later one is not."""

    identity: str
    """`Schedule.identity` of the version that the row goes by."""
    after: datetime
    confirmed_at: datetime
    """When a process of that version last said that it is there."""
    superseded: tuple[str, ...] = ()
    """Identities that it has replaced, the latest last."""
    next: datetime | None = None
    """The first tick after `after`, for those who don't have the spec."""
    waiting: datetime | None = None
    """A tick that waits for the runs before it to end."""
    cut_at: datetime | None = None
    """Ticks up to this one that are after the cursor were found to be within `catch_up`."""
    paused_at: datetime | None = None
    pause_reason: str | None = None
    last: LastTick | None = None

    def floor(self, now: datetime) -> datetime:
        """A cursor that is not in the past, and never moved back, except where a clock was wrong by days."""
        return now if self.after > now + _WRONG_CLOCK else max(self.after, now)

    def succeed(self, identity: str) -> State:
        """The state under another version."""
        superseded = tuple(text for text in self.superseded if text != identity)
        return replace(self, identity=identity, superseded=(*superseded, self.identity)[-_SUPERSEDED_KEPT:])

    def told(self, ticks: tuple[TickRecord, ...]) -> State:
        """The state that remembers the last of these records."""
        if not ticks:
            return self
        last = ticks[-1]
        return replace(self, last=LastTick(last.until or last.tick_at, last.outcome, last.run_id))

    def write(self) -> str:
        data: dict[str, Any] = {name: getattr(self, name) for name in ("identity", "superseded", "pause_reason")}
        data |= {name: _written(getattr(self, name)) for name in _INSTANTS}
        if self.last is not None:
            data["last"] = [_written(self.last.tick_at), self.last.outcome, self.last.run_id]
        return json.dumps({name: value for name, value in data.items() if value}, separators=(",", ":"))

    @classmethod
    def read(cls, key: ScheduleKey, text: str) -> State:
        """Raises `StoreError` for what no version has written. What a newer one has added is ignored."""
        try:
            data = json.loads(text)
            required: dict[str, Any] = {name: datetime.fromisoformat(data[name]) for name in _REQUIRED}
            optional: dict[str, Any] = {name: _instant(data.get(name)) for name in _INSTANTS if name not in _REQUIRED}
            last = data.get("last")
            return cls(
                identity=data["identity"],
                superseded=tuple(data.get("superseded", ())),
                pause_reason=data.get("pause_reason"),
                last=None if last is None else LastTick(datetime.fromisoformat(last[0]), last[1], last[2]),
                **required,
                **optional,
            )
        except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
            raise StoreError(
                f"The row of schedule {key.schedule_id!r} of workflow {key.workflow_id!r} can't be read ({error!r}). "
                "Was it written by somebody else?"
            ) from error


_REQUIRED = ("after", "confirmed_at")
_INSTANTS = ("after", "confirmed_at", "next", "waiting", "cut_at", "paused_at")


def _written(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat()


def _instant(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
