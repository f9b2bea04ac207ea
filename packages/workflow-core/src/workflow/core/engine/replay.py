"""Bringing a handler back to where the log ends."""

from __future__ import annotations

from workflow.core.errors import NonDeterminismError
from workflow.core.events import Event
from workflow.core.journal import Result
from workflow.core.loop import stepping

from .apply import Applier
from .handler import HandlerTask
from .mismatch import entry, mismatch
from .session import Session

__all__ = ["replay"]


def replay(session: Session, handler: HandlerTask, applier: Applier) -> None:
    """Run the handler from its start and apply the log to it, entry by entry. Linear in the length of the log.

    Raises what `Applier.apply` raises, and `NonDeterminismError` where the handler ends before its log does.
    """
    loop, history = session.loop, session.history
    with stepping(loop):
        loop.run_ready()
        while (event := history.take()) is not None:
            if session.blocked is not None:
                raise session.blocked
            if handler.done and applier.moves(event):
                raise _ended_early(session, event)
            if applier.apply(event):
                loop.run_ready()
    if session.blocked is not None:
        raise session.blocked
    session.replaying = False


def _ended_early(session: Session, event: Event | Result) -> NonDeterminismError:
    main = session.main
    error = main.exception() if main is not None and not main.cancelled() else None
    how = "has ended" if error is None else f"has ended with {error!r}"
    return mismatch(session.run.run_id, entry(event), f"the handler {how} before that")
