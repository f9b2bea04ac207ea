"""Values that operations give to a handler."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .errors import PayloadError

__all__ = ["Approval"]


@dataclass(frozen=True, slots=True)
class Approval:
    """A human decision, as `ctx.approve` gives it and `deliver_approval` brings it."""

    approval_id: str
    approved: bool
    feedback: str | None = None
    meta: dict[str, Any] | None = None

    @classmethod
    def from_decision(cls, approval_id: str, decision: Any) -> Approval:
        """The approval that a recorded decision says. Raises `PayloadError` for what is no decision."""
        match decision:
            case {"approved": bool(approved)}:
                return cls(approval_id, approved, decision.get("feedback"), decision.get("meta"))
            case _:
                raise PayloadError(
                    f"What is recorded as the decision on approval {approval_id!r} is not one: {decision!r:.100}."
                )
