"""`CloudTasksWaker`: tasks of Cloud Tasks that call the sweep when a run is due, and not a minute later."""

from __future__ import annotations

import hashlib
import importlib
import re
import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from workflow.core import InvalidArgumentError
from workflow.core.arguments import Duration
from workflow.core.events import Event
from workflow.runtime.waking import Waker

__all__ = ["CloudTasksWaker"]

_API = "https://cloudtasks.googleapis.com"
_SCOPE = "https://www.googleapis.com/auth/cloud-platform"
_QUEUE = re.compile(r"projects/[^/\s]+/locations/[^/\s]+/queues/[^/\s]+")
_LONGEST = timedelta(days=30) - timedelta(hours=1)
"""Cloud Tasks takes no task for a time further away than thirty days."""
_EXISTS = 409


class CloudTasksWaker(Waker):
    """Give it to the runtime as `publish`: when a run starts to wait for a time, it makes a task for that time.

        waker = CloudTasksWaker(queue=..., url=..., service_account=..., audience=...)
        runtime = WorkflowRuntime(store, workflows, publish=waker)

    The task calls `url` (the function that sweeps) with an identity token of `service_account` for `audience`, as Cloud
    Scheduler does. Timers that are due at one second share one. Whatever goes wrong here is logged and hurts no run:
    the periodic sweep finds all that is due, only later.

    - `queue`: "projects/PROJECT/locations/REGION/queues/QUEUE", which must exist.
    - `min_delay`: what is due sooner (seconds) is left to the periodic sweep.
    - `timeout`: how many seconds a run waits for Cloud Tasks; after a failure, nothing is asked for `pause` seconds.
    - `session`: what sends requests, with the rights of the function: `google.auth.transport.requests`' unless given.
    - `forward`: a publisher that gets every event as well.
    """

    def __init__(
        self,
        *,
        queue: str,
        url: str,
        service_account: str,
        audience: str,
        prefix: str = "workflow",
        min_delay: Duration = 5.0,
        timeout: Duration = 5.0,
        pause: Duration = 60.0,
        session: Any = None,
        api: str = _API,
        forward: Callable[[Event], Any] | None = None,
    ) -> None:
        super().__init__(min_delay=min_delay, max_delay=_LONGEST, timeout=timeout, pause=pause, forward=forward)
        if not _QUEUE.fullmatch(queue):
            raise InvalidArgumentError(f"{queue!r} is no queue: write it as projects/.../locations/.../queues/...")
        for name, value in (("url", url), ("service_account", service_account), ("audience", audience)):
            if not value:
                raise InvalidArgumentError(f"{name} is empty: is its environment variable set?")
        token = {"serviceAccountEmail": service_account, "audience": audience}
        self._call = {"url": url, "httpMethod": "POST", "oidcToken": token}
        self._queue = queue
        self._prefix = prefix[:20]
        self._api = api
        self._session: Any = session
        self._lock = threading.Lock()
        # One attempt of the request; the timeout around it bounds all of them.
        self._request_timeout = max(1.0, self._timeout)

    def create(self, due: datetime) -> None:
        task = {
            "name": f"{self._queue}/tasks/{self._name(due)}",
            "scheduleTime": f"{due:%Y-%m-%dT%H:%M:%SZ}",
            "httpRequest": self._call,
        }
        answer = self._sender().post(
            f"{self._api}/v2/{self._queue}/tasks", json={"task": task}, timeout=self._request_timeout
        )
        if answer.status_code != _EXISTS:  # somebody has made it: it is what was wanted
            answer.raise_for_status()

    def _name(self, due: datetime) -> str:
        """The same for the same moment and target, whoever makes it: a queue takes a name once."""
        digest = hashlib.sha256(f"{self._call['url']}|{due.isoformat()}".encode()).hexdigest()[:16]
        return f"{self._prefix}-{due:%Y%m%dT%H%M%SZ}-{digest}"

    def _sender(self) -> Any:
        with self._lock:
            if self._session is None:
                auth: Any = importlib.import_module("google.auth")
                requests: Any = importlib.import_module("google.auth.transport.requests")
                credentials, _ = auth.default(scopes=[_SCOPE])
                self._session = requests.AuthorizedSession(credentials)
            return self._session
