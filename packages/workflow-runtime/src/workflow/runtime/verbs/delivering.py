"""Delivering to runs: signals, decisions, cancel requests."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any

from workflow.core.arguments import Duration, identifier
from workflow.core.deliveries import approval_mail, cancel_mail, signal_mail
from workflow.core.payload import check_size
from workflow.core.records import Delivered, NewMail, RunRecord
from workflow.runtime.results import RunKind, RunResult

from .parts import RuntimeParts

__all__ = ["Delivering"]


class Delivering(RuntimeParts):
    """The verbs that put mail into inboxes."""

    async def deliver_signal(
        self,
        *,
        run_id: str,
        signal_id: str,
        name: str,
        payload: Any = None,
        drive: bool = True,
        connection: Any = None,
        max_duration: Duration | None = None,
        include_events: bool = True,
        now: datetime | None = None,
    ) -> RunResult[Any]:
        """Deliver an event to a run, durably, and drive the run if it is ready now.

        When this returns (other than `not_found` and `not_waiting`), the sender can forget the signal: no crash loses
        or doubles it. Idempotent by `signal_id` within the run: `duplicate`. A signal that nobody waits for yet is
        `buffered`. `payload` is plain JSON or an instance of a type that pydantic knows. Raises `PayloadError` for
        anything else.

        With a `connection` it is delivered in the transaction that is open on it, of the store's database, and counts
        when that is committed; the run is not driven here, whatever `drive` says, and nobody else moves it until then.
        Raises `InvalidArgumentError` for a connection that won't do.
        """
        mail = signal_mail(signal_id, name, payload)
        return await self._deliver(run_id, mail, drive, connection, max_duration, include_events, now)

    async def deliver_approval(
        self,
        *,
        run_id: str,
        approval_id: str,
        approved: bool,
        feedback: str | None = None,
        meta: dict[str, Any] | None = None,
        drive: bool = True,
        connection: Any = None,
        max_duration: Duration | None = None,
        include_events: bool = True,
        now: datetime | None = None,
    ) -> RunResult[Any]:
        """Deliver a decision, as `deliver_signal` does. The first one on an approval counts, others are `duplicate`."""
        mail = approval_mail(approval_id, approved, feedback, meta)
        return await self._deliver(run_id, mail, drive, connection, max_duration, include_events, now)

    async def cancel_run(
        self,
        run_id: str,
        *,
        reason: str | None = None,
        drive: bool = True,
        connection: Any = None,
        max_duration: Duration | None = None,
        include_events: bool = True,
        now: datetime | None = None,
    ) -> RunResult[Any]:
        """Ask a run to cancel, and drive it if nobody does.

        Its handler gets `asyncio.CancelledError` and may compensate. For a run that has ended the result is its
        state. A second request is `duplicate`, whenever it comes. `connection`: see `deliver_signal`.
        """
        result = await self._deliver(run_id, cancel_mail(reason), drive, connection, max_duration, include_events, now)
        if result.kind == "not_waiting" and result.run is not None:
            return replace(result, kind=result.run.status)
        return result

    async def _deliver(
        self,
        run_id: str,
        mail: NewMail,
        drive: bool,
        connection: Any,
        max_duration: Duration | None,
        include_events: bool,
        now: datetime | None,
    ) -> RunResult[Any]:
        identifier(run_id, "run_id")
        check_size(mail.payload, self.store.capabilities.max_payload, f"The payload of {mail.kind} {mail.id!r}")
        budget = self._budget(now, max_duration)
        at = budget.clock.now()
        if connection is not None:
            return self._delivered(await self.store.deliver_within(connection, run_id, mail, now=at), run_id)
        # Where queues have limits, the run's queue is known only after the delivery.
        lease = self._driver.lease(self.owner, at) if drive and not self._registry.queues else None
        delivered = await self.store.deliver(run_id, mail, lease=lease, now=at)
        claimed = delivered.claimed
        if drive and lease is None and _is_ready(delivered, at):
            assert delivered.run is not None
            # What has not begun does nothing but meet the request to cancel: it need not wait for room to do that.
            unlimited = mail.kind == "cancel" and delivered.run.fence == 0
            claimed = await self._claim_one(delivered.run, at, unlimited=unlimited)
        if claimed is not None:
            return await self._driver.drive(claimed, self.owner, budget, keep_events=include_events)
        if delivered.outcome == "accepted":
            self._keeper.tell_news(run_id)
            if delivered.run is not None and delivered.run.status == "queued" and delivered.run.due_at is not None:
                self._bell.ring(delivered.run.due_at)
        return self._delivered(delivered, run_id)

    def _delivered(self, delivered: Delivered, run_id: str) -> RunResult[Any]:
        """The answer to a delivery that was not followed by a drive."""
        if delivered.run is None:
            return RunResult("not_found", run_id)
        return self._state_result(delivered.run, _delivered_kind(delivered, delivered.run))


def _is_ready(delivered: Delivered, at: datetime) -> bool:
    run = delivered.run
    if delivered.outcome != "accepted" or run is None or run.due_at is None:
        return False
    return run.status == "queued" and run.due_at <= at


def _delivered_kind(delivered: Delivered, run: RunRecord) -> RunKind:
    if delivered.outcome == "duplicate":
        return "duplicate"
    if delivered.outcome == "ended":
        return "not_waiting"
    return run.status if delivered.awaited else "buffered"
