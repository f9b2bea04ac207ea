"""`ctx.state`: what of it is saved with a commit, and how its change is told."""

from __future__ import annotations

from typing import Any

from pydantic_core import from_json

from workflow.core.events import StateDelta
from workflow.core.payload import PayloadType, check_size

from .session import Session

__all__ = ["StateTracker"]


class StateTracker:
    """Compares the state with what was saved last.

    Replay makes the state anew, by running the handler: what is saved is a projection, for those who look at the run.
    """

    def __init__(self, session: Session, type_: PayloadType | None, ctx: Any) -> None:
        self._session = session
        self._type = type_
        self._ctx = ctx
        self._saved = session.run.state

    def changed(self) -> str | None:
        """The new JSON text if the state has changed since the last call; publishes the change. None if it hasn't."""
        if self._type is None:
            return None
        what = f"The state of run {self._session.run.run_id!r}"
        text = self._type.encode(self._ctx.state, what)
        if text == self._saved:
            return None
        check_size(text, self._session.environment.max_payload, what)
        if self._session.environment.publish is not None:
            self._publish(self._saved, text)
        self._saved = text
        return text

    def _publish(self, before: str | None, after: str) -> None:
        import jsonpatch  # late: most workflows have no state

        old: Any = None if before is None else from_json(before)
        patch: Any = jsonpatch.make_patch(old, from_json(after))  # pyright: ignore[reportUnknownMemberType]
        ledger = self._session.ledger
        ledger.emit(StateDelta(run_id=ledger.run_id, at=ledger.now(), delta=tuple(patch.patch)))

    @property
    def text(self) -> str | None:
        return self._saved
