"""`Drive`: one bounded piece of work on one claimed run, from its claim to its release.

    replay the log, go on, then end or pause the run, and give up the lease

Whatever happens, a drive leaves the run ended, paused with something that will wake it, ready for the next drive, or
(if the process dies, or the store can't be reached) leased until the lease runs out.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Coroutine, Sequence
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
from workflow.core.events import Event, RunStarted
from workflow.core.journal import Result, read_history
from workflow.core.middleware import compose
from workflow.core.records import ClaimedRun
from workflow.core.telemetry import NO_TELEMETRY

from .apply import Applier
from .environment import DriveEnvironment
from .handler import HandlerTask
from .live import Live
from .outcome import DriveOutcome
from .primitives import Primitives
from .releasing import Release
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
        self._release = Release(claimed.run, environment)
        self._session: Session | None = None
        self._handler: HandlerTask | None = None
        self._live: Live | None = None
        self._interruption: BaseException | None = None
        self._lost = False
        self._news = False

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
            return await self._release.postponed(error)
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
            return await self._release.postponed(self._unknown_version())
        try:
            return await self._drive(definition)
        except _Blocked as blocked:
            return await self._release.blocked(blocked.reason)
        finally:
            self._interruption = None  # whose traceback leads back here: no cycle for the garbage collector

    # The drive proper

    async def _drive(self, definition: Workflow[Any, Any]) -> DriveOutcome:
        session, input = self._restore(definition)
        try:
            ctx = self._make_context(definition, session, input)
        except Exception as error:  # the user's `initialize`
            return await self._release.errored(error)
        if not session.history:
            self._emit_started(session)

        try:
            handled = self._within_middleware if definition.middleware else self._handle
            result = await handled(definition, ctx, session)
        except (Exception, asyncio.CancelledError, Suspension) as error:
            return await self._left_with(definition, error)
        return await self._left_with(definition, None, result)

    def _restore(self, definition: Workflow[Any, Any]) -> tuple[Session, Any]:
        try:
            history = read_history(self._run.run_id, self._claimed.log)
            input = definition.input_type.decode(self._run.input, f"The input of run {self._run.run_id!r}")
        except (StoreError, PayloadError) as error:
            raise _Blocked(error) from error
        return self._begin(history), input

    def _begin(self, history: Sequence[Event | Result]) -> Session:
        session = self._session = self._release.session = Session(self._claimed, history, self._environment)
        return session

    def _make_context(self, definition: Workflow[Any, Any], session: Session, input: Any) -> Any:
        primitives = Primitives(session, definition.default_retry)
        ctx = definition.context_type(session, primitives, input, definition.initial_state(input))
        self._release.state = StateTracker(session, definition.state_type, ctx)
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
        assert self._release.state is not None
        handler = self._handler = HandlerTask(session, definition.handler, ctx)
        applier = Applier(session)
        live = self._live = Live(session, handler, applier, self._release.state)
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

    async def _left_with(
        self, definition: Workflow[Any, Any], error: BaseException | None, result: Any = None
    ) -> DriveOutcome:
        """What the onion returned or raised. What interrupted the handler beats it: nobody can swallow that."""
        if self._handler is None:
            return await self._not_handled(error)
        if self._interruption is not None:
            return await self._interrupted(self._interruption, error)
        if _by_host(error) and not self._handler.main.cancelled():
            raise error  # while middleware was ending
        assert self._session is not None
        if self._session.cancelled and (error is None or isinstance(error, asyncio.CancelledError)):
            return await self._release.cancelled()
        if error is not None:
            return await self._release.errored(error)
        return await self._release.completed(result, definition.output_type)

    async def _interrupted(self, interruption: BaseException, error: BaseException | None) -> DriveOutcome:
        """The handler did not end: the run pauses, can't be replayed, or its code can't go on."""
        assert self._session is not None
        assert self._live is not None
        if self._live.released is not None:
            if _by_host(error):
                raise error
            if error is not None and error is not interruption:
                logger.error("Middleware of run %r failed while it paused.", self._run.run_id, exc_info=error)
            return self._release.outcome(self._live.released, self._session.ledger)
        if isinstance(interruption, (NonDeterminismError, PayloadError)) and self._session.replaying:
            raise _Blocked(interruption) from interruption
        if isinstance(interruption, (HandlerError, PayloadError)):
            return await self._release.errored(interruption)
        if isinstance(interruption, asyncio.CancelledError) and not _host_cancels():
            return await self._release.given_up(error if isinstance(error, Exception) else self._let_down())
        raise interruption

    def _let_down(self) -> MiddlewareError:
        return MiddlewareError(
            f"A middleware of run {self._run.run_id!r} cancelled the call_next that it had begun. To end a run that "
            "takes too long, raise an error after that (asyncio.timeout does), or give the run a timeout."
        )

    async def _not_handled(self, error: BaseException | None) -> DriveOutcome:
        """A middleware failed before the handler started. Its resources may be there again later: the run waits."""
        assert error is not None
        if _by_host(error):
            raise error
        if isinstance(error, (MiddlewareError, NonRetryableError)):
            return await self._release.errored(error)
        recoveries = self._run.recoveries + 1
        if recoveries > self._environment.max_recoveries:
            return await self._release.errored(error)
        logger.error("Middleware of run %r failed; the run is tried again later.", self._run.run_id, exc_info=error)
        return await self._release.postponed(error, recoveries)

    async def _hand_back(self) -> None:
        if not self._lost and (self._live is None or self._live.released is None):
            await self._release.hand_back()

    async def _give_up(self) -> DriveOutcome:
        """A run that has killed its owners again and again must not kill the next one."""
        self._begin([])
        return await self._release.errored(
            PoisonedRunError(
                f"Run {self._run.run_id!r} was recovered {self._run.recoveries - 1} times from owners that died or "
                "stalled while they drove it, without any progress to a pause. Look for a step that kills its process, "
                "or raise max_recoveries."
            )
        )

    # Parts

    @property
    def _definition(self) -> Workflow[Any, Any] | None:
        return None if self._workflow is None else self._workflow.for_version(self._run.workflow_version)

    def _unknown_version(self) -> WorkflowVersionError:
        known = ", ".join(repr(version) for version in (self._workflow.versions if self._workflow else ())) or "none"
        return WorkflowVersionError(
            f"Run {self._run.run_id!r} belongs to version {self._run.workflow_version!r} of workflow "
            f"{self._run.workflow_id!r}, and this process has {known}. It is left for a process that has it; keep old "
            "versions in previous_versions."
        )


def _by_host(error: BaseException | None) -> TypeGuard[asyncio.CancelledError]:
    """Whether the host cancels this drive. A middleware can raise a CancelledError of another task's: that is its
    failure, and nobody's wish to end the drive."""
    return isinstance(error, asyncio.CancelledError) and _host_cancels()


def _host_cancels() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
