"""Bringing a handler back to where the log ends."""

from __future__ import annotations

from ..errors import NonDeterminismError
from ..loop import stepping
from .apply import Applier
from .handler import HandlerTask
from .session import Session

__all__ = ["replay"]


def replay(session: Session, handler: HandlerTask, applier: Applier) -> None:
    """Run the handler from its start and apply the log to it, entry by entry. Linear in the length of the log.

    Raises what `Applier.apply` raises, and `NonDeterminismError` where the handler ends before its log does.
    """
    loop = session.loop
    with stepping(loop):
        loop.run_ready()
        for event in session.history:
            if session.blocked is not None:
                raise session.blocked
            if handler.done and applier.moves(event):
                raise _ended_early(session, event.index)
            if applier.apply(event):
                loop.run_ready()
    if session.blocked is not None:
        raise session.blocked
    session.replaying = False


def _ended_early(session: Session, index: int | None) -> NonDeterminismError:
    return NonDeterminismError(
        f"Run {session.run.run_id!r} can't be replayed: the handler has ended, and its log goes on (index {index}). "
        "Deploy code that fits the log, or give the workflow a new version and keep this one in previous_versions."
    )
