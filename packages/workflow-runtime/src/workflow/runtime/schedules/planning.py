"""What is to be done for a schedule now: a pure function of the schedule, its row and the time. No clock, no I/O.

A plan is one commit, which happens as a whole or not at all, and after which the row is planned for again, until there
is nothing to do. Each commit accounts for the ticks up to the row's cursor: by a run, or by the history.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from workflow.core.deliveries import cancel_mail
from workflow.core.events import RunCancelled
from workflow.core.journal import write_event
from workflow.core.records import NewRun

from .records import ScheduleCommit, ScheduleRecord, TickOutcome, TickRecord
from .schedule import Registered, instant_text
from .state import State

__all__ = ["CONFIRM_EVERY", "RETIRED_AFTER", "TickInputError", "first_sight", "plan"]

CONFIRM_EVERY = timedelta(minutes=5)
RETIRED_AFTER = timedelta(minutes=15)
"""A version that has not been seen for so long is gone: an older one may take over again."""


class TickInputError(Exception):
    """A tick has no input that fits. Its text is what the history says."""


def plan(mine: Registered, record: ScheduleRecord | None, now: datetime) -> ScheduleCommit | None:
    """The next commit for a schedule; None where there is nothing to do for now, or for this process."""
    if record is None:
        return first_sight(mine, now)
    state = State.read(record.key, record.data)
    if state.identity == mine.schedule.identity:
        return _Look(mine, record, state, now).decide()
    recently = abs(now - state.confirmed_at) < RETIRED_AFTER
    if mine.schedule.identity in state.superseded and recently:
        return None  # a newer version is at work
    return _take_over(mine, record, state, now)


def first_sight(mine: Registered, now: datetime, *, paused: bool = False, **state: Any) -> ScheduleCommit:
    """Make the row. Nothing fires before the first tick after now."""
    fresh = State(mine.schedule.identity, after=now, confirmed_at=now, **state)
    return commit_of(mine, None, fresh, now, paused=paused)


def commit_of(
    mine: Registered, record: ScheduleRecord | None, state: State, now: datetime, *, paused: bool, **moves: Any
) -> ScheduleCommit:
    """The commit that leaves the row with this state, as a process of the row's own version writes it."""
    active = mine.schedule.enabled and not paused
    following = mine.schedule.spec.next_after(state.after) if mine.schedule.enabled else None
    state = replace(state, confirmed_at=now, next=following).told(moves.get("ticks", ()))
    return ScheduleCommit(
        key=mine.key,
        expected_revision=0 if record is None else record.revision,
        now=now,
        due_at=mine.fires_at(following) if active and following is not None else None,
        paused=paused,
        data=state.write(),
        **moves,
    )


def _take_over(mine: Registered, record: ScheduleRecord, state: State, now: datetime) -> ScheduleCommit:
    """Go by this version from now on. What the former one has left undone is written down, not done."""
    ticks: list[TickRecord] = []
    if state.next is not None and state.next <= now:
        outcome: TickOutcome = "skipped" if record.paused else "missed"
        reason = "paused" if record.paused else f"changed to {mine.schedule.identity!r}"
        detail = f"The schedule was {reason}."
        ticks.append(TickRecord(state.next, outcome, now, until=now, detail=detail))
    changed = replace(state.succeed(mine.schedule.identity), after=state.floor(now), cut_at=None)
    if not mine.schedule.enabled and state.waiting is not None:
        ticks.append(TickRecord(state.waiting, "skipped", now, detail="The schedule was disabled."))
        changed = replace(changed, waiting=None)
    return commit_of(mine, record, changed, now, paused=record.paused, ticks=tuple(ticks))


@dataclass(frozen=True)
class _Due:
    """Ticks whose time has come, and the first of them that is within `catch_up`, if any is."""

    first: datetime
    last: datetime
    keep: datetime | None


class _Look:
    """One look at a row by a process of its own version."""

    def __init__(self, mine: Registered, record: ScheduleRecord, state: State, now: datetime) -> None:
        self._mine = mine
        self._schedule = mine.schedule
        self._spec = mine.schedule.spec
        self._record = record
        self._state = state
        self._now = now

    def decide(self) -> ScheduleCommit | None:
        if self._record.paused or not self._schedule.enabled:
            return self._confirm()
        due = self._due()
        waiting = self._state.waiting
        replaces = self._schedule.overlap in ("cancel_previous", "terminate_previous")
        if waiting is not None and self._room and not (due and replaces):
            return self._start(waiting, replace(self._state, waiting=None))
        return self._confirm() if due is None else self._settle(due)

    @property
    def _room(self) -> bool:
        return not self._record.active or self._schedule.overlap == "allow"

    def _confirm(self) -> ScheduleCommit | None:
        """Say that this version is there, where another one might wonder, and what comes next, where nobody has."""
        recent = abs(self._now - self._state.confirmed_at) < CONFIRM_EVERY
        untold = self._state.next is None and self._schedule.enabled and not self._record.paused
        if (self._state.superseded and not recent) or (untold and self._spec.next_after(self._state.after) is not None):
            return self._commit(self._state)
        return None

    # Which ticks

    def _due(self) -> _Due | None:
        first = self._spec.next_after(self._state.after)
        if first is None or self._mine.fires_at(first) > self._now:
            return None
        last = self._spec.last_at_or_before(self._now)
        while last is not None and last > first and self._mine.fires_at(last) > self._now:
            last = self._spec.last_before(last)
        last = first if last is None else max(first, last)
        return _Due(first, last, self._keep(first, last))

    def _keep(self, first: datetime, last: datetime) -> datetime | None:
        """Found without looking at each of them: there may be years of them."""
        if self._state.cut_at == last:
            return first
        if isinstance(self._schedule.catch_up, timedelta):
            return self._keep_since(first, last, self._now - self._schedule.catch_up)
        keep = last
        for _ in range(self._schedule.catch_up - 1):
            before = self._spec.last_before(keep)
            if before is None or before < first:
                break
            keep = before
        return keep

    def _keep_since(self, first: datetime, last: datetime, since: datetime) -> datetime | None:
        if self._mine.fires_at(first) >= since:
            return first
        keep = self._spec.last_before(since)  # with a jitter, it may fire within the window nevertheless
        while keep is not None and self._mine.fires_at(keep) < since:
            keep = self._spec.next_after(keep)
        return keep if keep is not None and keep <= last else None

    # What becomes of them

    def _settle(self, due: _Due) -> ScheduleCommit:
        missed = self._missed(due)
        state = replace(self._state, cut_at=due.last)
        if due.keep is None:
            return self._commit(replace(state, after=due.last), ticks=missed)
        settle: Callable[[State, datetime, datetime, tuple[TickRecord, ...]], ScheduleCommit]
        settle = getattr(self, f"_{self._schedule.overlap}")
        return settle(state, due.keep, due.last, missed)

    def _missed(self, due: _Due) -> tuple[TickRecord, ...]:
        last = due.last if due.keep is None else self._spec.last_before(due.keep)
        if last is None or last < due.first:
            return ()
        return (self._record_of("missed", due.first, last, "Nobody was there in time, and catch_up did not cover it."),)

    def _allow(self, state: State, keep: datetime, last: datetime, told: tuple[TickRecord, ...]) -> ScheduleCommit:
        return self._start(keep, replace(state, after=keep), told)

    def _skip(self, state: State, keep: datetime, last: datetime, told: tuple[TickRecord, ...]) -> ScheduleCommit:
        if self._record.active:
            return self._pass_over(state, keep, last, told, f"{self._under_way} was under way.")
        return self._start(keep, replace(state, after=keep), told)

    def _buffer_one(self, state: State, keep: datetime, last: datetime, told: tuple[TickRecord, ...]) -> ScheduleCommit:
        if state.waiting is not None:
            return self._pass_over(state, keep, last, told, f"The tick {instant_text(state.waiting)} was waiting.")
        if self._record.active:
            return self._wait(keep, replace(state, after=keep), told)
        return self._start(keep, replace(state, after=keep), told)

    def _cancel_previous(
        self, state: State, keep: datetime, last: datetime, told: tuple[TickRecord, ...]
    ) -> ScheduleCommit:
        if (previous := self._previous(last)) and not isinstance(self._make(last), TickRecord):
            told = (*self._replaced(state, last), *told, *self._outdated(keep, last))
            mail = cancel_mail(f"The tick {instant_text(last)} of schedule {self._schedule.id!r} is due.")
            return self._wait(last, replace(state, after=last), told, cancel=previous, cancel_mail=mail)
        return self._start_instead(state, keep, last, told)

    def _terminate_previous(
        self, state: State, keep: datetime, last: datetime, told: tuple[TickRecord, ...]
    ) -> ScheduleCommit:
        moves: dict[str, Any] = {}
        if previous := self._previous(last):
            termination = write_event(RunCancelled(at=self._now), 0).event
            moves = {"terminate": previous, "termination": termination}
        return self._start_instead(state, keep, last, told, **moves)

    def _start_instead(
        self, state: State, keep: datetime, last: datetime, told: tuple[TickRecord, ...], **moves: Any
    ) -> ScheduleCommit:
        """Start the last tick in place of all before it. Without an input for it, what runs or waits is left alone."""
        told, after = (*told, *self._outdated(keep, last)), replace(state, after=last)
        made = self._make(last)
        if isinstance(made, TickRecord):
            return self._commit(after, ticks=(*told, made))
        return self._begin(made, last, replace(after, waiting=None), (*self._replaced(state, last), *told), **moves)

    def _previous(self, tick: datetime) -> tuple[str, ...]:
        """The runs under way that a tick puts an end to: not its own, which a backfill may have started before it."""
        own = self._mine.run_id(tick)
        return tuple(run_id for run_id in self._record.active if run_id != own)

    def _replaced(self, state: State, last: datetime) -> tuple[TickRecord, ...]:
        """What waited, where a later tick takes its place."""
        waited = state.waiting
        return () if waited is None else (self._record_of("replaced", waited, waited, _took_its_place(last)),)

    def _outdated(self, keep: datetime, last: datetime) -> tuple[TickRecord, ...]:
        """All but the last of what is due: it would only be started to be stopped."""
        before = self._spec.last_before(last)
        if before is None or before < keep:
            return ()
        return (self._record_of("replaced", keep, before, _took_its_place(last)),)

    def _pass_over(
        self, state: State, keep: datetime, last: datetime, told: tuple[TickRecord, ...], detail: str
    ) -> ScheduleCommit:
        """Nothing that happens before `now` could let one of them start: all at once, however many."""
        return self._commit(replace(state, after=last), ticks=(*told, self._record_of("skipped", keep, last, detail)))

    def _wait(self, tick: datetime, state: State, told: tuple[TickRecord, ...], **moves: Any) -> ScheduleCommit:
        buffered = self._record_of("buffered", tick, tick, f"{self._under_way} was under way.")
        return self._commit(replace(state, waiting=tick), ticks=(*told, buffered), **moves)

    def _start(self, tick: datetime, state: State, told: tuple[TickRecord, ...] = (), **moves: Any) -> ScheduleCommit:
        """Create the tick's run. Without an input for it the history says so, and nothing else happens."""
        made = self._make(tick)
        if isinstance(made, TickRecord):
            return self._commit(state, ticks=(*told, made))
        return self._begin(made, tick, state, told, **moves)

    def _make(self, tick: datetime) -> NewRun | TickRecord:
        """The tick's run, or what the history says where it has no input."""
        try:
            return self._mine.make_run(tick, self._mine.run_id(tick), self._now)
        except TickInputError as error:
            return self._record_of("skipped", tick, tick, str(error))

    def _begin(
        self, run: NewRun, tick: datetime, state: State, told: tuple[TickRecord, ...], **moves: Any
    ) -> ScheduleCommit:
        started = TickRecord(tick, "started", self._now, run_id=run.run_id)
        return self._commit(state, starts=(run,), ticks=(*told, started), **moves)

    @property
    def _under_way(self) -> str:
        first, *others = self._record.active
        return f"Run {first!r}" + (f" and {len(others)} more" if others else "")

    def _record_of(self, outcome: TickOutcome, first: datetime, last: datetime, detail: str) -> TickRecord:
        return TickRecord(first, outcome, self._now, until=last if last > first else None, detail=detail)

    def _commit(self, state: State, **moves: Any) -> ScheduleCommit:
        return commit_of(self._mine, self._record, state, self._now, paused=self._record.paused, **moves)


def _took_its_place(last: datetime) -> str:
    return f"The tick {instant_text(last)} took its place."
