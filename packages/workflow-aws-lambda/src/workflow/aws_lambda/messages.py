"""What travels in a queue: starts and deliveries as JSON."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, TypeAdapter

__all__ = ["ApproveMessage", "CancelMessage", "Message", "SignalMessage", "StartMessage", "message_adapter"]


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid")

    run_id: str

    @property
    def deduplication(self) -> str:
        """What is the same in two messages of which one would do."""
        raise NotImplementedError


class StartMessage(_Message):
    """Start a run: once, however often the message comes. `not_before` delays it further than SQS can."""

    type: Literal["start"] = "start"
    workflow_id: str
    input: Any = None
    not_before: AwareDatetime | None = None

    @property
    def deduplication(self) -> str:
        return f"start:{self.run_id}"

    def delay(self, now: datetime) -> float | None:
        """Seconds until it may start; None for now."""
        if self.not_before is None or self.not_before <= now:
            return None
        return (self.not_before - now).total_seconds()


class SignalMessage(_Message):
    type: Literal["signal"] = "signal"
    signal_id: str
    name: str
    payload: Any = None

    @property
    def deduplication(self) -> str:
        return f"signal:{self.run_id}:{self.signal_id}"


class ApproveMessage(_Message):
    type: Literal["approve"] = "approve"
    approval_id: str
    approved: bool
    feedback: str | None = None
    meta: dict[str, Any] | None = None

    @property
    def deduplication(self) -> str:
        return f"approve:{self.run_id}:{self.approval_id}"


class CancelMessage(_Message):
    type: Literal["cancel"] = "cancel"
    reason: str | None = None

    @property
    def deduplication(self) -> str:
        return f"cancel:{self.run_id}"


Message = Annotated[
    StartMessage | SignalMessage | ApproveMessage | CancelMessage,
    Field(discriminator="type"),
]
message_adapter: TypeAdapter[StartMessage | SignalMessage | ApproveMessage | CancelMessage] = TypeAdapter(Message)
