"""A batch of SQS messages: which were done, and which must come again."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from workflow.core import WorkflowError
from workflow.runtime import RunResult, WorkflowRuntime
from workflow.runtime.hosting import RuntimeSource, allowance

from .loop import Invocation
from .messages import ApproveMessage, CancelMessage, Message, SignalMessage, StartMessage, message_adapter

__all__ = ["Batch"]

logger = logging.getLogger("workflow.aws_lambda")

Record = Mapping[str, Any]


class Batch:
    """Handles the messages of one invocation, several at once; those of one FIFO group one after another."""

    def __init__(self, source: RuntimeSource, invocation: Invocation, *, concurrency: int, margin: float) -> None:
        self._source = source
        self._invocation = invocation
        self._margin = margin
        self._places = asyncio.Semaphore(concurrency)

    async def run(self, records: Sequence[Record]) -> list[str]:
        """The ids of the messages that must come again, in their order."""
        lanes: dict[str, list[Record]] = {}
        for record in records:
            lanes.setdefault(_group(record), []).append(record)
        failed = await asyncio.gather(*(self._lane(lane) for lane in lanes.values()))
        ids = {message_id for lane in failed for message_id in lane}
        return [_id(record) for record in records if _id(record) in ids]

    async def _lane(self, lane: Sequence[Record]) -> list[str]:
        for done, record in enumerate(lane):
            if not await self._handled(record):
                # What follows in the group waits for this one: it must not overtake it.
                return [_id(later) for later in lane[done:]]
        return []

    async def _handled(self, record: Record) -> bool:
        async with self._places:
            if (budget := self._budget()) is not None and budget <= 0:
                logger.warning("No time is left for message %s; it comes again", _id(record))
                return False
            try:
                message = message_adapter.validate_json(record["body"])
                result = await deliver(await self._source.get(), message, budget)
            except ValidationError as error:
                problems = error.errors(include_url=False, include_input=False, include_context=False)
                logger.error("Message %s is no message for workflows: %s", _id(record), problems)
                return False
            except WorkflowError as error:
                logger.error("Message %s can't be delivered: %s", _id(record), error)
                return False
            except Exception:
                logger.exception("Message %s failed; it comes again", _id(record))
                return False
            return _settled(record, result)

    def _budget(self) -> float | None:
        remaining = self._invocation.remaining()
        return None if remaining is None else allowance(None, remaining, self._margin)


async def deliver(runtime: WorkflowRuntime, message: Message, budget: float | None) -> RunResult[Any]:
    """Do what a message says, and drive its run for as long as there is time."""
    driving: dict[str, Any] = {"max_duration": budget, "include_events": False}
    if isinstance(message, StartMessage):
        delay = message.delay(runtime.clock.now())
        return await runtime.start_run(
            message.workflow_id, run_id=message.run_id, input=message.input, delay=delay, **driving
        )
    if isinstance(message, SignalMessage):
        return await runtime.deliver_signal(
            run_id=message.run_id, signal_id=message.signal_id, name=message.name, payload=message.payload, **driving
        )
    if isinstance(message, ApproveMessage):
        decision = message.model_dump(include={"run_id", "approval_id", "approved", "feedback", "meta"})
        return await runtime.deliver_approval(**decision, **driving)
    assert isinstance(message, CancelMessage)
    return await runtime.cancel_run(message.run_id, reason=message.reason, **driving)


def _settled(record: Record, result: RunResult[Any]) -> bool:
    if result.kind == "not_found":
        # Its start may still be on the way, in another queue or another message.
        logger.warning("Message %s is for run %r, which there is not; it comes again", _id(record), result.run_id)
        return False
    if result.kind == "not_waiting":
        logger.warning("Message %s is for run %r, which has ended; it is dropped", _id(record), result.run_id)
    return True


def _id(record: Record) -> str:
    return str(record["messageId"])


def _group(record: Record) -> str:
    """The FIFO group; a message of another queue is a group of its own."""
    attributes: Mapping[str, Any] = record.get("attributes") or {}
    group = attributes.get("MessageGroupId")
    return f"group:{group}" if group is not None else f"message:{_id(record)}"
