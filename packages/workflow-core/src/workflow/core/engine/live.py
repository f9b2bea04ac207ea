"""The live part of a drive: what happens next, until the handler ends or the run pauses.

loop until:
  handler returned or raised?          leave: the end is committed with what is pending
  something happened?                  append it, apply it, look again (a step's end, mail, a timer)
  a transaction wants to commit?       it commits what is pending with its own end; apply it, look again
  fresh steps to start?                commit what is pending, then start them
  steps under way?                     commit what is pending, wait for whatever comes first
  a short backoff?                     wait for it here
  nothing?                             commit what is pending with the waits and the due time: paused
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from datetime import datetime

from workflow.core.errors import HandlerError, LeaseLostError
from workflow.core.events import StepStarted
from workflow.core.records import Transition

from .happening import Happenings
from .operations import StepOperation
from .suspension import Suspension
from .transactions import Pen, TransactionOperation, Turn

__all__ = ["Live"]

logger = logging.getLogger("workflow.core")

_BREATH = 50
"""After so many rounds without a wait, the host's loop gets a turn."""


class Live(Happenings):
    """Drives one handler on from where its log ends."""

    # What the runtime says while the drive goes on

    def tell_news(self) -> None:
        """Mail has arrived."""
        self._news = True
        self._waker.wake()

    def tell_lost(self) -> None:
        """Another owner has the run."""
        self._lost = True
        self._waker.wake()

    async def run(self) -> None:
        """Go on until the handler has ended. Raises `Suspension` when the run was released before that."""
        rounds = 0
        if self._session.expiry is not None:
            self._session.timers.add(self._session.expiry)
        while True:
            self._start_operations()
            if self._session.blocked is not None:
                raise self._session.blocked
            if self._ended():
                return
            if self._lost:
                raise LeaseLostError(self._session.run.run_id, self._session.run.fence)
            if self._happened():
                rounds += 1
                if rounds % _BREATH == 0:
                    await asyncio.sleep(0)
            elif self._steps.turns:
                await self._stand_still(self._steps.turns.pop(0))
            else:
                await self._proceed()

    async def stop(self) -> None:
        """End what is under way. What has ended by then is in the log of the next commit; the rest is tried again."""
        await self._steps.stop()

    def take_completed(self) -> None:
        """Append how attempts have ended by now, for a drive that is about to be left.

        Each is applied as well: the first one may make the handler abandon the others, whose results are no longer
        part of its history then.
        """
        try:
            while self._steps.completed and not self._handler.done:
                completion = self._steps.completed.popleft()
                if not completion.fatal and not isinstance(completion.error, asyncio.CancelledError):
                    self._complete(completion)
        except Exception as error:
            logger.debug("While a drive was left: %r", error, exc_info=error)

    # Transactions

    async def _stand_still(self, turn: Turn) -> None:
        """Lend the pen to a transaction, and take over what it has committed. The host can't part the two."""
        if not turn.wanted:
            return
        pen = Pen(self._ledger, turn.operation)
        turn.granted.set_result(pen)
        try:
            await asyncio.shield(turn.settled)
        except asyncio.CancelledError:
            await asyncio.wait([turn.settled])
            self._take_over(turn, pen)
            raise
        self._take_over(turn, pen)
        await self._publish()

    async def _publish(self) -> None:
        if (told := self._ledger.publish()) is not None:
            await told

    def _take_over(self, turn: Turn, pen: Pen) -> None:
        answer = turn.settled.result()
        if answer is None or pen.event is None or pen.written is None:
            return  # it was undone: another try of it, or its failure, comes later
        self._overtime = False
        self._mailbox.add(self._ledger.take_back(pen.event, pen.written, answer))
        self._session.loop.at = pen.event.at
        self._applier.finish_step(turn.operation, pen.value)
        self._handler.run()

    # What to do next

    def _proceed(self) -> Awaitable[None]:
        """Nothing has happened: start steps, wait, or pause. To be awaited, as what it returns: a step waits in fewer
        coroutines then."""
        now = self._ledger.now()
        ready: list[StepOperation] = []
        if self._waiting:
            ready = self._ready(now)
        stopping = self._session.yielding or self._spent or (bool(ready) and self._nearly_spent(now))
        if ready and not stopping:
            return self._start_steps(ready, now)
        if self._steps.running or self._steps.cut_off:
            return self._wait_for_steps(now)
        if stopping:
            return self._release(Transition("queued", now))
        if (retry_at := self._short_backoff(now)) is not None:
            return self._wait_in_place(retry_at)
        return self._pause()

    def _in_turn(self, ready: list[StepOperation]) -> list[StepOperation]:
        """Of the transactions of a run one at a time: each moves the run's row, on which the others would stumble."""
        first = next((step for step in ready if isinstance(step, TransactionOperation)), None)
        if first is None:
            return ready
        busy = any(isinstance(attempt.operation, TransactionOperation) for attempt in self._steps.running.values())
        return [s for s in ready if not isinstance(s, TransactionOperation) or (s is first and not busy)]

    def _ready(self, now: datetime) -> list[StepOperation]:
        """What waits to be started, and may be by now. Steps that the handler has abandoned don't wait any more."""
        waiting = self._waiting
        if (
            len(waiting) == 1
            and type(waiting[0]) is StepOperation
            and waiting[0].retry_at is None
            and not waiting[0].future.done()
        ):
            return waiting[:]  # a step after the other: what most handlers do
        waiting = self._waiting = [operation for operation in waiting if not operation.future.done()]
        return self._in_turn([step for step in waiting if step.retry_at is None or step.retry_at <= now])

    async def _start_steps(self, ready: list[StepOperation], now: datetime) -> None:
        """Commit what is pending, then start these. A news that came with the commit is looked at first."""
        if self._steps.cut_off:
            # What was cancelled may still be undoing its work: nothing new starts beside it.
            await self._wait_for_steps(now)
            return
        recorded = False
        for step in ready:
            if step.retry.record_start:
                recorded = True
                self._ledger.append(StepStarted(**self._ledger.head(), id=step.id, attempt=step.attempt + 1))
        if self._ledger.pending:
            if await self._commit(self._ledger.latest) and not recorded:
                return
            now = self._ledger.now()
        self._overtime = self._environment.deadline is not None and self._environment.deadline <= now
        if len(ready) == len(self._waiting):
            self._waiting = []
        else:
            started = {step.id for step in ready}
            self._waiting = [step for step in self._waiting if step.id not in started]
        for step in ready:
            if not step.retry.record_start:
                self._ledger.emit_unmade(StepStarted, at=now, id=step.id, attempt=step.attempt + 1, meta=step.meta)
            self._steps.start(step, now)
        if (told := self._ledger.publish()) is not None:
            await told
        if not recorded:
            # Nothing can have happened but what wakes this at once. (After a start that had to be recorded, mail may
            # have come with that commit.)
            await self._wait_under_way(now)

    async def _wait_for_steps(self, now: datetime) -> None:
        if self._ledger.pending and await self._commit(self._ledger.latest):
            return
        deadline = self._environment.deadline
        if deadline is not None and deadline <= now and not self._overtime and not self._spent:
            # The host's budget is over with steps under way: they are cancelled, and tried again in another drive.
            self._spent = True
            await self._steps.stop()
            return
        await self._wait_under_way(now)

    def _wait_under_way(self, now: datetime) -> Awaitable[None]:
        if self._steps.timed:
            self._steps.time_out(now)
        return self._wait(self._next_look(now), busy=True)

    def _next_look(self, now: datetime) -> datetime | None:
        """When there is something to do even if no step ends. What is due and held back by now does not count."""
        look = self._steps.next_timeout() if self._steps.timed else None
        if self._timers.heap and not self._session.yielding:
            look = _earlier(look, self._timers.next_at())
        deadline = self._environment.deadline
        if deadline is not None and deadline > now:
            look = _earlier(look, deadline)
        for step in self._waiting:
            if step.retry_at is not None and step.retry_at > now:
                look = _earlier(look, step.retry_at)
        return look

    async def _wait_in_place(self, retry_at: datetime) -> None:
        if self._ledger.pending and await self._commit():
            return
        times = [retry_at, self._timers.next_at()]
        await self._wait(min(at for at in times if at is not None), busy=False)

    async def _wait(self, until: datetime | None, *, busy: bool) -> None:
        waker = self._waker
        if not self._news:
            if until is not None:
                await waker.wait(until, busy=busy)
            else:
                if not waker.woken:
                    await waker.waiter()
                waker.woken = False
        if self._news and not self._lost:
            self._news = False
            await self._commit()

    async def _pause(self) -> None:
        operations = list(self._operations.open.values())
        if not operations:
            raise HandlerError(
                f"Run {self._session.run.run_id!r}: the handler waits for something that nothing durable can bring "
                "about (an "
                "asyncio future or event that no branch will set, or one of another loop). Wait with "
                "ctx.wait_for_event, or "
                "do the work in ctx.step."
            )
        waits = tuple(wait for operation in operations if (wait := operation.wait()) is not None)
        times = [wait.until for wait in waits if wait.until is not None]
        if (expiry := self._session.expiry) is not None and not expiry.future.done():
            times.append(expiry.at)
        await self._release(Transition("paused", min(times, default=None), waits))

    async def _release(self, transition: Transition) -> None:
        """Release the run and leave, unless news came that the handler must see first."""
        released, mail = await self._ledger.commit(transition, self._state.changed())
        self._mailbox.add(mail)
        if released:
            self.released = transition
            raise Suspension()

    async def _commit(self, now: datetime | None = None) -> bool:
        """Commit what is pending: whether it brought news that something waits for."""
        _, mail = await self._ledger.commit(None, self._state.changed(), now)
        if not mail:
            return False
        self._mailbox.add(mail)
        return self._mailbox.next_match() is not None

    def _nearly_spent(self, now: datetime) -> bool:
        deadline = self._environment.deadline
        return deadline is not None and deadline - now <= self._environment.margin and self._may_yield()

    def _may_yield(self) -> bool:
        """A drive that has got nowhere goes on even when time is short, so that a run can't stand still."""
        return self._ledger.appended > 0 or bool(self._steps.running) or self._session.run.fence == 1

    def _next_retry(self) -> datetime | None:
        return min((step.retry_at for step in self._waiting if step.retry_at is not None), default=None)

    def _short_backoff(self, now: datetime) -> datetime | None:
        retry_at = self._next_retry()
        if retry_at is None or retry_at - now > self._environment.patience:
            return None
        deadline = self._environment.deadline
        return None if deadline is not None and retry_at + self._environment.margin >= deadline else retry_at


def _earlier(one: datetime | None, other: datetime | None) -> datetime | None:
    if one is None or other is None:
        return one or other
    return min(one, other)
