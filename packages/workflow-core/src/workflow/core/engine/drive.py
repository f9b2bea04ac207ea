"""`Drive`: one bounded piece of work on one claimed run, from its claim to its release.

    replay the log, go on, then end or pause the run, and give up the lease

Whatever happens, a drive leaves the run ended, paused with something that will wake it, ready for the next drive, or
(if the process dies, or the store can't be reached) leased until the lease runs out.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Coroutine
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from typing import Any, TypeGuard

from workflow.core.definition import Workflow
from workflow.core.errors import (
    HandlerError,
    LeaseLostError,
    LogConflictError,
    MiddlewareError,
    NonDeterminismError,
    NonRetryableError,
    PayloadError,
    PoisonedRunError,
    StoreError,
    WorkflowError,
    WorkflowVersionError,
)
from workflow.core.events import ErrorInfo, RunCancelled, RunErrored, RunStarted
from workflow.core.journal import read_history
from workflow.core.middleware import compose
from workflow.core.payload import check_size
from workflow.core.records import ENDED, ClaimedRun, RunRecord, Transition, Wait
from workflow.core.telemetry import NO_TELEMETRY

from .apply import Applier
from .environment import DriveEnvironment
from .handler import HandlerTask
from .ledger import Ledger
from .live import Live
from .outcome import DriveKind, DriveOutcome
from .primitives import Primitives
from .replay import replay
from .session import Session
from .state import StateTracker
from .suspension import Suspension

__all__ = ["Drive"]

logger = logging.getLogger("workflow.core")

_REFUSED = (LeaseLostError, LogConflictError)


class _Blocked(Exception):  # noqa: N818 - a state of the run, not an error of its own
    """The run can't be brought back to where it was, for this reason."""

    def __init__(self, reason: WorkflowError) -> None:
        super().__init__(str(reason))
        self.reason = reason


class Drive:
    """Drives a claimed run with its definition. `await drive.run()` once; it never raises because of the workflow."""

    def __init__(self, workflow: Workflow[Any, Any] | None, claimed: ClaimedRun, environment: DriveEnvironment) -> None:
        self._workflow = workflow
        self._claimed = claimed
        self._environment = environment
        self._run = claimed.run
        self._session: Session | None = None
        self._handler: HandlerTask | None = None
        self._live: Live | None = None
        self._state: StateTracker | None = None
        self._interruption: BaseException | None = None
        self._lost = False
        self._news = False
        self._releasing: Ledger | None = None
        """What puts the run back, where the session's own ledger must not be written."""

    @property
    def run_id(self) -> str:
        return self._run.run_id

    @property
    def fence(self) -> int:
        return self._run.fence

    @property
    def seen_mail(self) -> int:
        """The `seq` of the last mail that this drive knows of."""
        return self._session.ledger.seen_mail if self._session is not None else self._run.mail_count

    def tell_news(self) -> None:
        """Mail has arrived in the store: look at it soon. May be called at any time, on the drive's event loop."""
        self._news = True
        if self._live is not None:
            self._live.tell_news()

    def tell_lost(self) -> None:
        """The lease is lost: stop without writing anything more."""
        self._lost = True
        if self._live is not None:
            self._live.tell_lost()

    def run(self) -> Coroutine[Any, Any, DriveOutcome]:
        """Drive the run: await it. Errors of the workflow are in the outcome.

        Raises what the store raises when it can't be reached (the lease runs out then, and another drive takes over),
        and `asyncio.CancelledError` when the host cancels it, after the run was released for somebody else.
        """
        return self._run_guarded() if self._environment.telemetry is NO_TELEMETRY else self._run_traced()

    async def _run_traced(self) -> DriveOutcome:
        with self._environment.telemetry.drive(self._run) as span:
            outcome = await self._run_guarded()
            failed = outcome.exception if outcome.kind == "errored" else None
            span.end(outcome.kind, failed)
            return outcome

    async def decline(self, error: WorkflowError) -> DriveOutcome:
        """Put the run back untouched, with the reason, to be looked at again later: this process can't drive it."""
        try:
            return await self._postpone(error)
        except _REFUSED as refused:
            return DriveOutcome("lost", self._run, exception=refused)

    async def _run_guarded(self) -> DriveOutcome:
        try:
            return await self._attempt()
        except _REFUSED as error:
            logger.warning("%s", error)
            return DriveOutcome("lost", self._run, exception=error)
        except asyncio.CancelledError:
            await self._hand_back()
            raise

    async def _attempt(self) -> DriveOutcome:
        if self._run.recoveries > self._environment.max_recoveries:
            return await self._give_up()
        definition = self._definition
        if definition is None:
            return await self._postpone(self._unknown_version())
        try:
            return await self._drive(definition)
        except _Blocked as blocked:
            return await self._block(blocked.reason)
        finally:
            self._interruption = None  # whose traceback leads back here: no cycle for the garbage collector

    # The drive proper

    async def _drive(self, definition: Workflow[Any, Any]) -> DriveOutcome:
        session, input = self._restore(definition)
        try:
            ctx = self._make_context(definition, session, input)
        except Exception as error:  # the user's `initialize`
            return await self._errored(error)
        if not session.history:
            self._emit_started(session)

        try:
            handled = self._within_middleware if definition.middleware else self._handle
            result = await handled(definition, ctx, session)
        except (Exception, asyncio.CancelledError, Suspension) as error:
            return await self._left_with(error)
        return await self._left_with(None, result)

    def _restore(self, definition: Workflow[Any, Any]) -> tuple[Session, Any]:
        try:
            history = read_history(self._run.run_id, self._claimed.log)
            input = definition.input_type.decode(self._run.input, f"The input of run {self._run.run_id!r}")
        except (StoreError, PayloadError) as error:
            raise _Blocked(error) from error
        self._session = Session(self._claimed, history, self._environment)
        return self._session, input

    def _make_context(self, definition: Workflow[Any, Any], session: Session, input: Any) -> Any:
        primitives = Primitives(session, definition.default_retry)
        ctx = definition.context_type(session, primitives, input, definition.initial_state(input))
        self._state = StateTracker(session, definition.state_type, ctx)
        return ctx

    def _emit_started(self, session: Session) -> None:
        run, ledger = self._run, session.ledger
        ledger.emit_unmade(
            RunStarted, at=ledger.now(), workflow_id=run.workflow_id, workflow_version=run.workflow_version
        )

    def _within_middleware(self, definition: Workflow[Any, Any], ctx: Any, session: Session) -> Awaitable[Any]:
        async def handle() -> Any:
            return await self._handle(definition, ctx, session)

        return compose(definition.middleware, ctx, ctx._give, handle)()

    async def _handle(self, definition: Workflow[Any, Any], ctx: Any, session: Session) -> Any:
        """The innermost of the onion: run the handler until it ends (return or raise what it did) or the run pauses."""
        ctx._check_given()
        assert self._state is not None
        handler = self._handler = HandlerTask(session, definition.handler, ctx)
        applier = Applier(session)
        live = self._live = Live(session, handler, applier, self._state)
        if self._lost:
            live.tell_lost()
        if self._news:
            live.tell_news()
        try:
            replay(session, handler, applier)
            await live.run()
        except BaseException as error:
            self._interruption = error
            if isinstance(error, asyncio.CancelledError):
                live.take_completed()
            raise
        finally:
            handler.tear_down()
            session.loop.retire()
            await live.stop()
        return handler.result()

    async def _left_with(self, error: BaseException | None, result: Any = None) -> DriveOutcome:
        """What the onion returned or raised. What interrupted the handler beats it: nobody can swallow that."""
        if self._handler is None:
            return await self._not_handled(error)
        if self._interruption is not None:
            return await self._interrupted(self._interruption, error)
        if _by_host(error) and not self._handler.main.cancelled():
            raise error  # while middleware was ending
        assert self._session is not None
        if self._session.cancelled and (error is None or isinstance(error, asyncio.CancelledError)):
            return await self._cancelled()
        return await self._completed(result) if error is None else await self._errored(error)

    async def _interrupted(self, interruption: BaseException, error: BaseException | None) -> DriveOutcome:
        """The handler did not end: the run pauses, can't be replayed, or its code can't go on."""
        assert self._session is not None
        assert self._live is not None
        if self._live.released is not None:
            if _by_host(error):
                raise error
            if error is not None and error is not interruption:
                logger.error("Middleware of run %r failed while it paused.", self._run.run_id, exc_info=error)
            return self._outcome(_kind(self._live.released), self._live.released)
        if isinstance(interruption, (NonDeterminismError, PayloadError)) and self._session.replaying:
            raise _Blocked(interruption) from interruption
        if isinstance(interruption, (HandlerError, PayloadError)):
            return await self._errored(interruption)
        raise interruption

    async def _not_handled(self, error: BaseException | None) -> DriveOutcome:
        """A middleware failed before the handler started. Its resources may be there again later: the run waits."""
        assert error is not None
        if _by_host(error):
            raise error
        if isinstance(error, (MiddlewareError, NonRetryableError)):
            return await self._errored(error)
        recoveries = self._run.recoveries + 1
        if recoveries > self._environment.max_recoveries:
            return await self._errored(error)
        logger.error("Middleware of run %r failed; the run is tried again later.", self._run.run_id, exc_info=error)
        return await self._postpone(error, recoveries)

    # The ends

    async def _completed(self, result: Any) -> DriveOutcome:
        what = f"The output of run {self._run.run_id!r}"
        definition = self._definition
        assert definition is not None
        output_type = definition.output_type
        try:
            text, output = output_type.round_trip(result, what)
            check_size(text, self._environment.max_payload, what)
        except PayloadError as error:
            return await self._errored(error)
        self._ledger.append_output(text)
        return await self._end(Transition("completed", output=text), output=output)

    async def _errored(self, error: BaseException) -> DriveOutcome:
        info = ErrorInfo.of(error)
        ledger = self._ledger
        ledger.append(RunErrored(**ledger.head(), error=info))
        logger.debug("Run %r failed.", self._run.run_id, exc_info=error)
        return await self._end(Transition("errored", error=info.model_dump_json()), error=info, exception=error)

    async def _cancelled(self) -> DriveOutcome:
        ledger = self._ledger
        ledger.append(RunCancelled(**ledger.head()))
        return await self._end(Transition("cancelled"))

    async def _give_up(self) -> DriveOutcome:
        """A run that has killed its owners again and again must not kill the next one."""
        self._session = Session(self._claimed, [], self._environment)
        return await self._errored(
            PoisonedRunError(
                f"Run {self._run.run_id!r} was recovered {self._run.recoveries - 1} times from owners that died or "
                "stalled while "
                "they drove it, without any progress to a pause. Look for a step that kills its process, or raise "
                "max_recoveries."
            )
        )

    async def _end(self, transition: Transition, **outcome: Any) -> DriveOutcome:
        state = self._final_state()
        ledger = self._ledger
        await ledger.commit(transition, state, ledger.latest)
        return self._outcome(_kind(transition), transition, **outcome)

    def _final_state(self) -> str | None:
        try:
            return self._state.changed() if self._state is not None else None
        except PayloadError as error:
            logger.error("%s", error)
            return None

    # Not now

    async def _block(self, error: WorkflowError) -> DriveOutcome:
        """Leave the run as it is, with the reason: a deploy that fits its log goes on with it."""
        logger.error("%s", error)
        waits = self._kept_waits(Wait("blocked", "blocked", detail=str(error), until=self._later()))
        return await self._put_back(Transition("paused", self._later(), waits), "paused", error)

    async def _postpone(self, error: BaseException, recoveries: int | None = None) -> DriveOutcome:
        waits = self._kept_waits(Wait("blocked", "postponed", detail=str(error), until=self._later()))
        return await self._put_back(
            Transition("paused", self._later(), waits, recoveries=recoveries), "postponed", error
        )

    def _kept_waits(self, blocked: Wait) -> tuple[Wait, ...]:
        """What the run waited for still wakes it."""
        return (*(wait for wait in self._run.waits if wait.kind != "blocked"), blocked)

    async def _put_back(self, transition: Transition, kind: DriveKind, error: BaseException) -> DriveOutcome:
        """Release the run with nothing but the reason written."""
        info = ErrorInfo.of(error)
        transition = replace(transition, error=info.model_dump_json())
        ledger = self._releasing = Ledger(self._run, self._environment, None)
        released, _ = await ledger.commit(transition)
        if not released:  # mail came meanwhile: whoever can go on with the run will find it
            await ledger.commit(replace(transition, status="queued"))
        self._session = None  # what it appended in vain is not part of the outcome
        return self._outcome(kind, transition, error=info, exception=error)

    def _later(self) -> datetime:
        return self._environment.clock.now() + self._environment.blocked_delay

    async def _hand_back(self) -> None:
        """The host wants this drive to end: keep what is done, and let somebody else go on at once."""
        ledger = self._releasing or (self._session.ledger if self._session is not None else None)
        if ledger is None or self._lost or (self._live is not None and self._live.released is not None):
            return
        with suppress(Exception):
            # What was on its way when the host cancelled is finished first: it may be the end of the run.
            if not await ledger.repeat_unanswered():
                await ledger.commit(Transition("queued", ledger.now(), None, recoveries=None))

    # Parts

    @property
    def _ledger(self) -> Ledger:
        assert self._session is not None
        return self._session.ledger

    @property
    def _definition(self) -> Workflow[Any, Any] | None:
        return None if self._workflow is None else self._workflow.for_version(self._run.workflow_version)

    def _unknown_version(self) -> WorkflowVersionError:
        known = ", ".join(repr(version) for version in (self._workflow.versions if self._workflow else ())) or "none"
        return WorkflowVersionError(
            f"Run {self._run.run_id!r} belongs to version {self._run.workflow_version!r} of workflow "
            f"{self._run.workflow_id!r}, and "
            f"this process has {known}. It is left for a process that has it; keep old versions in previous_versions."
        )

    def _outcome(
        self,
        kind: DriveKind,
        transition: Transition,
        output: Any = None,
        error: ErrorInfo | None = None,
        exception: BaseException | None = None,
    ) -> DriveOutcome:
        return DriveOutcome(kind, self._record_after(transition), output, error, exception)

    def _record_after(self, transition: Transition) -> RunRecord:
        """The row as the last commit left it, without asking the store."""
        run, ledger = self._run, self._session.ledger if self._session is not None else None
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
            self._state.text if self._state is not None else run.state,
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


def _by_host(error: BaseException | None) -> TypeGuard[asyncio.CancelledError]:
    """Whether the host cancels this drive. A middleware can raise a CancelledError of another task's: that is its
    failure, and nobody's wish to end the drive."""
    task = asyncio.current_task()
    return isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling() > 0
