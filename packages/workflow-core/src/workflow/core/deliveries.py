"""What is delivered to runs, as the mail that stores keep."""

from __future__ import annotations

from typing import Any

from pydantic_core import to_json

from .arguments import identifier
from .payload import payload_type, plain_text
from .records import NewMail

__all__ = ["approval_mail", "cancel_mail", "signal_mail", "value_text"]


def signal_mail(signal_id: str, name: str, payload: Any) -> NewMail:
    """A signal. The payload is plain JSON, or an instance of a type that pydantic knows (a model, a dataclass)."""
    identifier(signal_id, "signal_id")
    identifier(name, "signal name")
    return NewMail("signal", signal_id, name, value_text(payload, f"The payload of signal {name!r}"))


def approval_mail(approval_id: str, approved: bool, feedback: str | None, meta: dict[str, Any] | None) -> NewMail:
    """A decision about an approval. The first one counts."""
    identifier(approval_id, "approval_id")
    decision = {"approved": bool(approved), "feedback": feedback, "meta": meta}
    return NewMail("approval", approval_id, approval_id, plain_text(decision, f"The decision on {approval_id!r}"))


def cancel_mail(reason: str | None) -> NewMail:
    """A request to cancel. One run takes one."""
    return NewMail("cancel", "cancel", "cancel", to_json(reason).decode())


def value_text(value: Any, what: str) -> str:
    """The JSON text of a value that knows its own type, or is plain JSON."""
    kind = type(value)
    if kind in (dict, list, str, int, float, bool) or value is None:
        return plain_text(value, what)
    return payload_type(kind).encode(value, what)
