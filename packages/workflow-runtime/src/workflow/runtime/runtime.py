"""`WorkflowRuntime`: starts and resumes runs, delivers to them, sweeps what is due, and shows them."""

from __future__ import annotations

from types import TracebackType

from .verbs.delivering import Delivering
from .verbs.looking import Looking
from .verbs.operating import Operating
from .verbs.scheduling import Scheduling
from .verbs.starting import Starting
from .verbs.working import Working

__all__ = ["WorkflowRuntime"]


class WorkflowRuntime(Starting, Delivering, Working, Looking, Scheduling, Operating):
    """The runtime of an app: its workflows, on its store. Use it as an async context manager, or `close()` it.

    - `queues`: the queues that runs can be started in, with their limits.
    - `lease`: for how long a drive owns a run without a sign of life (seconds or a timedelta). A run whose process has
      died goes on after that.
    - `concurrency`: how many runs a sweep drives at once.
    - `publish(event)`: called, sync or async, with every event after it was committed. Its failures are logged.
    - `telemetry`: OpenTelemetry spans, where its API is installed.
    - `codec`: encrypts or compresses payloads on their way to the store.
    - `max_recoveries`: how often in a row a run may kill its owner before it is ended as `errored`.

    Every verb takes `now`, for tests: the call then begins at that time.
    """

    async def __aenter__(self) -> WorkflowRuntime:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()
