"""Values that operations give to a handler."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["Approval"]


@dataclass(frozen=True, slots=True)
class Approval:
    """A human decision, as `ctx.approve` gives it and `deliver_approval` brings it."""

    approval_id: str
    approved: bool
    feedback: str | None = None
    meta: dict[str, Any] | None = None

    @classmethod
    def from_decision(cls, approval_id: str, decision: dict[str, Any]) -> Approval:
        return cls(approval_id, bool(decision["approved"]), decision.get("feedback"), decision.get("meta"))
