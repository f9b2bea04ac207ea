"""`EventBridgeWaker`: one-shot schedules that wake a function when a run is due, and not a minute later."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from datetime import datetime
from typing import Any

from workflow.core import InvalidArgumentError
from workflow.core.arguments import Duration
from workflow.core.events import Event
from workflow.runtime.waking import Waker

from .clients import make_client

__all__ = ["EventBridgeWaker"]


class EventBridgeWaker(Waker):
    """Give it to the runtime as `publish`: when a run starts to wait for a time, it makes a schedule for that time.

        waker = EventBridgeWaker(target_arn=..., role_arn=...)
        runtime = WorkflowRuntime(store, workflows, publish=waker)

    The schedule invokes `target_arn` (the function that sweeps) with `role_arn`, once, and is deleted after that.
    Timers that are due at one moment share one. Whatever goes wrong here is logged and hurts no run: the periodic
    sweep finds all that is due, only later.

    - `group`: the schedule group, which must exist. `client`: boto3's for "scheduler".
    - `min_delay`: what is due sooner (seconds) is left to the periodic sweep. EventBridge is exact to the minute.
    - `timeout`: how many seconds a run waits for EventBridge; after a failure, nothing is asked for `pause` seconds.
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
        timeout: Duration = 5.0,
        pause: Duration = 60.0,
        client: Any = None,
        forward: Callable[[Event], Any] | None = None,
    ) -> None:
        super().__init__(min_delay=min_delay, timeout=timeout, pause=pause, forward=forward)
        for name, value in (("target_arn", target_arn), ("role_arn", role_arn), ("group", group)):
            if not value:
                raise InvalidArgumentError(f"{name} is empty: is its environment variable set?")
        self._target = {"Arn": target_arn, "RoleArn": role_arn, "RetryPolicy": {"MaximumRetryAttempts": 2}}
        self._group = group
        self._prefix = prefix[:20]
        self._client: Any = client

    def create(self, due: datetime) -> None:
        client = self._scheduler()
        try:
            client.create_schedule(
                Name=self._name(due),
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

    def _scheduler(self) -> Any:
        if self._client is None:
            # A function in a VPC without a way to EventBridge gets no answer at all: don't wait for it for minutes.
            self._client = make_client("scheduler", connect_timeout=2, read_timeout=3, attempts=2)
        return self._client
