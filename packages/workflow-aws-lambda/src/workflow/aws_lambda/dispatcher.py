"""`SQSDispatcher`: hands starts and deliveries to a queue, for a function that `create_queue_handler` has made."""

from __future__ import annotations

import asyncio
import hashlib
from datetime import UTC, datetime, timedelta
from math import ceil
from typing import Any
from uuid import uuid4

from pydantic_core import from_json

from workflow.core import InvalidArgumentError, PayloadError
from workflow.core.arguments import Duration, identifier, seconds
from workflow.core.deliveries import value_text

from .clients import make_client
from .messages import ApproveMessage, CancelMessage, Message, SignalMessage, StartMessage

__all__ = ["SQSDispatcher"]

MAX_BODY = 256 * 1024
_MAX_DELAY = 900


class SQSDispatcher:
    """Sends messages to an SQS queue; a URL that ends in `.fifo` is a FIFO queue, where each run is a group.

    When a call returns, the message is kept by SQS, and comes until it is done. A start that is sent twice starts one
    run. `client` is boto3's for SQS; without one it is made when it is first needed. Errors of boto3 are raised: the
    app that sends decides whether to try again.
    """

    def __init__(self, queue_url: str, *, client: Any = None) -> None:
        if not queue_url:
            raise InvalidArgumentError("queue_url is empty: is its environment variable set?")
        self._url = queue_url
        self._client: Any = client
        self._fifo = queue_url.endswith(".fifo")

    async def start_run(
        self, workflow_id: str, *, run_id: str | None = None, input: Any = None, delay: Duration | None = None
    ) -> str:
        """Have a run started, and get its id. `input` is plain JSON or an instance of a type that pydantic knows."""
        run_id = run_id or f"{workflow_id}:{uuid4()}"
        wait = seconds(delay, "delay") if delay is not None else 0.0
        not_before = datetime.now(UTC) + timedelta(seconds=wait) if wait else None
        await self._send(
            StartMessage(
                run_id=identifier(run_id, "run_id"),
                workflow_id=identifier(workflow_id, "workflow_id"),
                input=_plain(input, f"The input of run {run_id!r}"),
                not_before=not_before,
            ),
            wait,
        )
        return run_id

    async def deliver_signal(self, *, run_id: str, signal_id: str, name: str, payload: Any = None) -> None:
        """Have a signal delivered."""
        await self._send(
            SignalMessage(
                run_id=identifier(run_id, "run_id"),
                signal_id=identifier(signal_id, "signal_id"),
                name=identifier(name, "name"),
                payload=_plain(payload, f"The payload of signal {name!r}"),
            )
        )

    async def deliver_approval(
        self,
        *,
        run_id: str,
        approval_id: str,
        approved: bool,
        feedback: str | None = None,
        meta: dict[str, Any] | None = None,
    ) -> None:
        """Have a decision delivered."""
        await self._send(
            ApproveMessage(
                run_id=identifier(run_id, "run_id"),
                approval_id=identifier(approval_id, "approval_id"),
                approved=approved,
                feedback=feedback,
                meta=meta,
            )
        )

    async def cancel_run(self, run_id: str, *, reason: str | None = None) -> None:
        """Have a run asked to cancel."""
        await self._send(CancelMessage(run_id=identifier(run_id, "run_id"), reason=reason))

    async def _send(self, message: Message, wait: float = 0.0) -> None:
        body = message.model_dump_json()
        if len(body.encode()) > MAX_BODY:
            raise PayloadError(
                f"The message for run {message.run_id!r} has more than {MAX_BODY:,} bytes, which SQS does not take. "
                "Keep large data elsewhere and pass a reference to it."
            )
        request: dict[str, Any] = {"QueueUrl": self._url, "MessageBody": body}
        if self._fifo:
            request["MessageGroupId"] = _digest(message.run_id)
            request["MessageDeduplicationId"] = _digest(message.deduplication)
        elif wait:
            # What SQS can't wait for, the runtime does: the message holds the time as well.
            request["DelaySeconds"] = min(ceil(wait) + 1, _MAX_DELAY)
        await asyncio.to_thread(self._sqs().send_message, **request)

    def _sqs(self) -> Any:
        if self._client is None:
            self._client = make_client("sqs")
        return self._client


def _plain(value: Any, what: str) -> Any:
    return from_json(value_text(value, what))


def _digest(text: str) -> str:
    """An id of any length and letters, in those that SQS takes."""
    return hashlib.sha256(text.encode()).hexdigest()
