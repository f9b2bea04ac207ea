"""`EventBridgeWaker`: one-shot schedules that wake a function when a run is due, and not a minute later."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from collections import OrderedDict
from datetime import UTC, datetime, timedelta
from typing import Any

from workflow.core import InvalidArgumentError
from workflow.core.arguments import Duration, seconds
from workflow.core.events import ApprovalRequested, Event, SignalAwaited, StepRetrying, TimerStarted

from .clients import make_client

__all__ = ["EventBridgeWaker", "due_time"]

logger = logging.getLogger("workflow.aws_lambda")

_REMEMBERED = 1000


class EventBridgeWaker:
    """Give it to the runtime as `publish`: when a run starts to wait for a time, it makes a schedule for that time.

        waker = EventBridgeWaker(target_arn=..., role_arn=...)
        runtime = WorkflowRuntime(store, workflows, publish=waker)

    The schedule invokes `target_arn` (the function that sweeps) with `role_arn`, once, and is deleted after that.
    Timers that are due at one moment share one. Whatever goes wrong here is logged and hurts no run: the periodic
    sweep finds all that is due, only later.

    - `group`: the schedule group, which must exist. `client`: boto3's for "scheduler".
    - `min_delay`: what is due sooner is left to the periodic sweep. EventBridge is exact to the minute.
    - `forward`: a publisher that gets every event as well.
    """

    def __init__(
        self,
        *,
        target_arn: str,
        role_arn: str,
        group: str = "default",
        prefix: str = "workflow",
        min_delay: Duration = 30.0,
        client: Any = None,
        forward: Any = None,
    ) -> None:
        for name, value in (("target_arn", target_arn), ("role_arn", role_arn), ("group", group)):
            if not value:
                raise InvalidArgumentError(f"{name} is empty: is its environment variable set?")
        self._target = {"Arn": target_arn, "RoleArn": role_arn, "RetryPolicy": {"MaximumRetryAttempts": 2}}
        self._group = group
        self._prefix = prefix[:20]
        self._min_delay = seconds(min_delay, "min_delay")
        self._client: Any = client
        self._forward = forward
        self._made: OrderedDict[str, None] = OrderedDict()

    async def __call__(self, event: Event) -> None:
        """Take an event of the runtime."""
        due = due_time(event)
        if due is not None:
            await self.wake_at(due)
        if self._forward is not None:
            result = self._forward(event)
            if asyncio.iscoroutine(result):
                await result

    async def wake_at(self, due: datetime) -> bool:
        """Have the function invoked at that time: whether a schedule is there for it. Never raises."""
        due = _up_to_second(due)
        if (due - datetime.now(UTC)).total_seconds() < self._min_delay:
            return False
        name = self._name(due)
        if name in self._made:
            return True
        try:
            await asyncio.to_thread(self._create, name, due)
        except Exception:
            logger.warning("No schedule could be made for %s; the periodic sweep does it, later", due, exc_info=True)
            return False
        self._remember(name)
        return True

    def _create(self, name: str, due: datetime) -> None:
        client = self._scheduler()
        try:
            client.create_schedule(
                Name=name,
                GroupName=self._group,
                ScheduleExpression=f"at({due:%Y-%m-%dT%H:%M:%S})",
                ScheduleExpressionTimezone="UTC",
                FlexibleTimeWindow={"Mode": "OFF"},
                ActionAfterCompletion="DELETE",
                Target={**self._target, "Input": json.dumps({"source": "workflow.waker", "due_at": due.isoformat()})},
            )
        except client.exceptions.ConflictException:
            pass  # somebody has made it: it is what was wanted

    def _name(self, due: datetime) -> str:
        """The same for the same moment and target, whoever makes it: up to 64 letters of those that are allowed."""
        digest = hashlib.sha256(f"{self._target['Arn']}|{due.isoformat()}".encode()).hexdigest()[:16]
        return f"{self._prefix}-{due:%Y%m%dT%H%M%SZ}-{digest}"

    def _remember(self, name: str) -> None:
        self._made[name] = None
        if len(self._made) > _REMEMBERED:
            self._made.popitem(last=False)

    def _scheduler(self) -> Any:
        if self._client is None:
            self._client = make_client("scheduler")
        return self._client


def due_time(event: Event) -> datetime | None:
    """When a run has to be looked at because of this event; None for most."""
    if isinstance(event, TimerStarted):
        return event.due_at
    if isinstance(event, (SignalAwaited, ApprovalRequested)):
        return event.until
    return event.retry_at if isinstance(event, StepRetrying) else None


def _up_to_second(due: datetime) -> datetime:
    """Schedules have no fractions, and to wake before the time would be in vain."""
    due = due.astimezone(UTC)
    return due.replace(microsecond=0) + timedelta(seconds=1 if due.microsecond else 0)
