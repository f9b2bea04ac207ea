"""What is delivered to runs, as the mail that stores keep."""

from __future__ import annotations

from typing import Any, cast

from .arguments import identifier
from .errors import DefinitionError, InvalidArgumentError, PayloadError
from .payload import JSON_TYPES, payload_type, plain_text
from .records import NewMail

__all__ = ["approval_mail", "cancel_mail", "reason_text", "signal_mail", "value_text"]


_REMEDY = "Convert it to JSON values, or give one model or dataclass that knows the types of its fields."


def signal_mail(signal_id: str, name: str, payload: Any) -> NewMail:
    """A signal. The payload is plain JSON, or an instance of a type that pydantic knows (a model, a dataclass).

    Raises `InvalidArgumentError` for a bad id or name, and `PayloadError` for what can't be written without loss.
    """
    signal_id, name = identifier(signal_id, "signal_id"), identifier(name, "signal name")
    return NewMail("signal", signal_id, name, value_text(payload, f"The payload of signal {name!r}"))


def approval_mail(approval_id: str, approved: bool, feedback: str | None, meta: dict[str, Any] | None) -> NewMail:
    """A decision about an approval. The first one counts."""
    approval_id = identifier(approval_id, "approval_id")
    _check(approved, "approved", bool)
    _check(feedback, "feedback", str, optional=True)
    _check(meta, "meta", dict, optional=True)
    decision = {"approved": approved, "feedback": feedback, "meta": meta}
    return NewMail(
        "approval", approval_id, approval_id, plain_text(decision, f"The decision on {approval_id!r}", _REMEDY)
    )


def cancel_mail(reason: str | None) -> NewMail:
    """A request to cancel. One run takes one."""
    return NewMail("cancel", "cancel", "cancel", reason_text(reason, "The reason to cancel"))


def reason_text(reason: str | None, what: str) -> str:
    """The JSON text of a person's reason. Raises `InvalidArgumentError` or `PayloadError` for what is none."""
    _check(reason, "reason", str, optional=True)
    return plain_text(reason, what, _REMEDY)


def value_text(value: Any, what: str) -> str:
    """The JSON text of a value that knows its own type, or is plain JSON. Raises `PayloadError` for any other."""
    kind = cast("type[Any]", type(value))
    if kind in JSON_TYPES:
        return plain_text(value, what, _REMEDY)
    try:
        held = payload_type(kind)
    except DefinitionError as error:
        raise PayloadError(f"{what}: {error}") from error
    return held.encode(value, what)


def _check(value: object, name: str, kind: type, *, optional: bool = False) -> None:
    if not (isinstance(value, kind) or (optional and value is None)):
        expected = f"a {kind.__name__}{' or None' if optional else ''}"
        raise InvalidArgumentError(f"{name} must be {expected}, not {type(value).__name__}.")
