"""How a drive lets go of its run: ended, or put back for another drive. Each way is one commit, and the outcome."""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from typing import Any

from workflow.core.errors import PayloadError, WorkflowError
from workflow.core.events import ErrorInfo, RunCancelled, RunErrored
from workflow.core.payload import PayloadType, check_size
from workflow.core.records import ENDED, RunRecord, Transition, Wait

from .environment import DriveEnvironment
from .ledger import Ledger
from .outcome import DriveKind, DriveOutcome
from .session import Session
from .state import StateTracker

__all__ = ["Release"]

logger = logging.getLogger("workflow.core")


class Release:
    """The end of one drive. What it knows of the drive's session and state, it is told as soon as they exist."""

    def __init__(self, run: RunRecord, environment: DriveEnvironment) -> None:
        self._run = run
        self._environment = environment
        self.session: Session | None = None
        self.state: StateTracker | None = None
        self._putting_back: Ledger | None = None
        """What puts the run back, where the session's own ledger must not be written."""

    # Ended

    async def completed(self, result: Any, output_type: PayloadType) -> DriveOutcome:
        what = f"The output of run {self._run.run_id!r}"
        try:
            text, output = output_type.round_trip(result, what)
            check_size(text, self._environment.max_payload, what)
        except PayloadError as error:
            return await self.errored(error)
        state = self._final_state()
        self._ledger.append_output(text)
        return await self._end(Transition("completed", output=text), state, output=output)

    async def errored(self, error: BaseException) -> DriveOutcome:
        info = ErrorInfo.of(error)
        ledger, state = self._ledger, self._final_state()
        ledger.append(RunErrored(**ledger.head(), error=info))
        logger.debug("Run %r failed.", self._run.run_id, exc_info=error)
        transition = Transition("errored", error=info.model_dump_json())
        return await self._end(transition, state, error=info, exception=error)

    async def given_up(self, error: Exception) -> DriveOutcome:
        """A middleware has cut the handler off, say by a time limit of its own: that is an error of the run."""
        ledger = self._ledger
        unanswered = ledger.unanswered
        if await ledger.repeat_unanswered() and unanswered is not None and unanswered.transition is not None:
            return self.outcome(unanswered.transition, ledger)  # it was just being released
        return await self.errored(error)

    async def cancelled(self) -> DriveOutcome:
        ledger, state = self._ledger, self._final_state()
        ledger.append(RunCancelled(**ledger.head()))
        return await self._end(Transition("cancelled"), state)

    async def _end(self, transition: Transition, state: str | None, **outcome: Any) -> DriveOutcome:
        ledger = self._ledger
        await ledger.commit(transition, state, ledger.latest)
        return self.outcome(transition, ledger, **outcome)

    def _final_state(self) -> str | None:
        """To be asked for before the end is appended, which is the last thing that observers hear of."""
        try:
            return self.state.changed() if self.state is not None else None
        except PayloadError as error:
            logger.error("%s", error)
            return None

    # Not now

    async def blocked(self, error: WorkflowError) -> DriveOutcome:
        """Leave the run as it is, with the reason: a deploy that fits its log goes on with it."""
        logger.error("%s", error)
        until = self._later()
        waits = self._kept_waits(Wait("blocked", "blocked", detail=str(error), until=until))
        return await self._put_back(Transition("paused", until, waits), "paused", error)

    async def postponed(self, error: BaseException, recoveries: int | None = None) -> DriveOutcome:
        """Put the run back untouched, with the reason, to be looked at again later."""
        until = self._later()
        waits = self._kept_waits(Wait("blocked", "postponed", detail=str(error), until=until))
        return await self._put_back(Transition("paused", until, waits, recoveries=recoveries), "postponed", error)

    def _later(self) -> datetime:
        return self._environment.clock.now() + self._environment.blocked_delay

    def _kept_waits(self, blocked: Wait) -> tuple[Wait, ...]:
        """What the run waited for still wakes it."""
        return (*(wait for wait in self._run.waits if wait.kind != "blocked"), blocked)

    async def _put_back(self, transition: Transition, kind: DriveKind, error: BaseException) -> DriveOutcome:
        """Release the run with nothing but the reason written: what was appended in vain is not part of the outcome."""
        info = ErrorInfo.of(error)
        transition = replace(transition, error=info.model_dump_json())
        ledger = self._putting_back = Ledger(self._run, self._environment, None)
        released, _ = await ledger.commit(transition)
        if not released:  # mail came meanwhile: whoever can go on with the run will find it
            await ledger.commit(replace(transition, status="queued"))
        return self.outcome(transition, None, kind, error=info, exception=error)

    async def hand_back(self) -> None:
        """The host wants this drive to end: keep what is done, and let somebody else go on at once."""
        ledger = self._putting_back or (self.session.ledger if self.session is not None else None)
        if ledger is None:
            return
        with suppress(Exception):
            # What was on its way when the host cancelled is finished first: it may be the end of the run.
            if not await ledger.repeat_unanswered():
                await ledger.commit(Transition("queued", ledger.now(), None, recoveries=None))

    # The outcome

    @property
    def _ledger(self) -> Ledger:
        assert self.session is not None
        return self.session.ledger

    def outcome(
        self,
        transition: Transition,
        ledger: Ledger | None,
        kind: DriveKind | None = None,
        output: Any = None,
        error: ErrorInfo | None = None,
        exception: BaseException | None = None,
    ) -> DriveOutcome:
        """What the drive has come to, with the row as the last commit left it, without asking the store."""
        record = self._record_after(transition, ledger)
        return DriveOutcome(kind or _kind(transition), record, output, error, exception)

    def _record_after(self, transition: Transition, ledger: Ledger | None) -> RunRecord:
        run = self._run
        now = self._environment.clock.now() if ledger is None else ledger.latest
        return RunRecord(  # `dataclasses.replace` would take three times as long
            run.run_id,
            run.workflow_id,
            run.workflow_version,
            transition.status,
            run.input,
            run.created_at,
            now,
            transition.due_at,
            run.started_at,
            now if transition.status in ENDED else None,
            transition.output,
            transition.error,
            run.waits if transition.waits is None else transition.waits,
            self.state.text if self.state is not None else run.state,
            run.fence,
            None,
            run.log_length if ledger is None else ledger.next_index,
            run.mail_count if ledger is None else ledger.seen_mail,
            run.recoveries if transition.recoveries is None else transition.recoveries,
            run.queue,
            run.key,
            run.priority,
            run.expires_at,
            run.schedule_id,
        )


def _kind(transition: Transition) -> DriveKind:
    status = transition.status
    assert status != "running"
    return status
