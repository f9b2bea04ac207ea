"""What a drive has appended and not yet committed, and the commit itself."""

from __future__ import annotations

from collections.abc import Awaitable
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypedDict

from workflow.core.events import Event, RunFinished, StepFinished
from workflow.core.journal import write_event, write_finished, write_result
from workflow.core.payload import Json, check_size
from workflow.core.records import Commit, Committed, LogRecord, Mail, RunRecord, Transition

from .published import Published, Unmade

if TYPE_CHECKING:
    from .environment import DriveEnvironment

__all__ = ["Ledger"]


class EventHead(TypedDict):
    run_id: str
    index: int
    at: datetime


class Ledger:
    """The writing end of a run's log.

    Events are appended here as they happen and go to the store together, with the mail they consume, in one commit.
    They are published when they are committed: nobody hears of what a crash could still undo.
    """

    def __init__(self, run: RunRecord, environment: DriveEnvironment, last_event_at: datetime | None) -> None:
        self.run_id = run.run_id
        self.fence = run.fence
        self.next_index = run.log_length
        self.seen_mail = run.mail_count
        self.appended = 0
        """How many events this drive has appended: whether it has got anywhere."""
        self._environment = environment
        self._publish = environment.publish
        self._clock = environment.clock
        self._committed_index = run.log_length
        self._records: list[LogRecord] = []
        self._consumed: list[int] = []
        self._outbox: list[Event | Unmade] = []
        self.unanswered: Commit | None = None
        """The commit that is on its way, or whose answer was not waited for."""
        self.latest = last_event_at or run.started_at or run.created_at
        """What `now` has said last."""

    @property
    def pending(self) -> bool:
        return bool(self._records)

    def now(self) -> datetime:
        """The time for the next event: the clock's, but never before the event that came last."""
        now = self._clock.now()
        if now > self.latest:
            self.latest = now
        return self.latest

    def head(self) -> EventHead:
        """The fields of the next event that say where and when it stands."""
        return {"run_id": self.run_id, "index": self.next_index, "at": self.now()}

    def append(self, event: Event) -> None:
        """Add an event (made with `index=next_index`) to what the next commit writes."""
        record = write_event(event, self.next_index)
        if record.payload is not None and len(record.payload) * 4 > self._environment.max_payload:
            what = f"The payload of {event.type} {getattr(event, 'id', '')!r} of run {self.run_id!r}"  # type: ignore[attr-defined]
            check_size(record.payload, self._environment.max_payload, what)
        self._records.append(record)
        self.next_index += 1
        self.appended += 1
        self.emit(event)

    def append_result(self, id: str, attempt: int, text: str) -> datetime:
        """`append` of a `StepFinished` whose size is checked, without making it: when it happened."""
        at, index = self.now(), self._next()
        self._records.append(write_result(index, at, id, attempt, text))
        if self._publish is not None:
            self.emit_unmade(StepFinished, index=index, at=at, id=id, attempt=attempt, result=Json(text))
        return at

    def append_output(self, text: str) -> None:
        """`append` of a `RunFinished`, without making it."""
        at, index = self.now(), self._next()
        self._records.append(write_finished(index, at))
        self.emit_unmade(RunFinished, index=index, at=at, output=Json(text))

    def _next(self) -> int:
        self.next_index += 1
        self.appended += 1
        return self.next_index - 1

    def consume(self, mail: Mail) -> None:
        """Mark mail as resolved by what was appended last."""
        self._consumed.append(mail.seq)

    def emit(self, event: Event) -> None:
        """Publish an event with the next commit, without logging it."""
        if self._publish is not None:
            self._outbox.append(event)

    def emit_unmade(self, kind: type[Event], **fields: Any) -> None:
        """`emit` of an event that is made if somebody looks at it."""
        if self._publish is not None:
            fields["run_id"] = self.run_id
            self._outbox.append((kind, fields))

    async def commit(
        self, transition: Transition | None = None, state: str | None = None, now: datetime | None = None
    ) -> tuple[bool, tuple[Mail, ...]]:
        """Write everything pending in one atomic commit: whether the run was released, and the news.

        Who has just asked for the time gives it, as `now=ledger.latest`.
        """
        now = now or self.now()
        self.unanswered = Commit(
            run_id=self.run_id,
            fence=self.fence,
            expected_index=self._committed_index,
            now=now,
            lease=self._environment.new_lease(now),
            records=tuple(self._records),
            consumed=tuple(self._consumed),
            seen_mail=self.seen_mail,
            state=state,
            transition=transition,
        )
        return await self._send(self.unanswered)

    async def repeat_unanswered(self) -> bool:
        """Send the commit again whose answer was not waited for, if there is one: whether it has released the run.

        It may have been applied or not. Now it is, once: that is what a store promises of a commit that is repeated.
        """
        if self.unanswered is None:
            return False
        released, _ = await self._send(self.unanswered)
        return released

    def lend(self, event: Event) -> Commit:
        """The commit of everything pending and of this event, for a transaction that carries it out by itself.

        Nothing is appended by this: `take_back` does that when it is done, and otherwise nothing has happened. The
        state is left for the next commit. It may be asked for in another thread, while the drive stands still.
        """
        now = self.now()
        return Commit(
            run_id=self.run_id,
            fence=self.fence,
            expected_index=self._committed_index,
            now=now,
            lease=self._environment.new_lease(now),
            records=(*self._records, write_event(event, self.next_index)),
            consumed=tuple(self._consumed),
            seen_mail=self.seen_mail,
        )

    def take_back(self, event: Event, commit: Commit, answer: Committed) -> tuple[Mail, ...]:
        """A commit that was lent is done: the event is appended. The news it brought."""
        self.next_index += 1
        self.appended += 1
        self.emit(event)
        self._settle(commit, answer, own=len(commit.records) - 1)
        return answer.mail

    async def _send(self, commit: Commit) -> tuple[bool, tuple[Mail, ...]]:
        answer = await self._environment.store.commit(commit)
        self.unanswered = None
        self._settle(commit, answer, own=len(commit.records))
        if self._outbox and (told := self.publish()) is not None:
            await told
        return answer.released, answer.mail

    def _settle(self, commit: Commit, answer: Committed, *, own: int) -> None:
        """`own` is how many of the commit's records were pending here."""
        self._committed_index += len(commit.records)
        del self._records[:own]
        del self._consumed[: len(commit.consumed)]
        if answer.mail:
            self.seen_mail = max(self.seen_mail, answer.mail[-1].seq)

    def publish(self) -> Awaitable[None] | None:
        """Hand what is committed to the observers; to be awaited if there is anything to wait for."""
        if not self._outbox or self._publish is None:
            return None
        events, self._outbox = self._outbox, []
        return self._publish(Published(events))
