"""What the runtime answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Generic, Literal

from typing_extensions import TypeVar

from workflow.core import ErrorInfo, WorkflowError, WorkflowEvent
from workflow.core.records import RunStatus, Wait

__all__ = ["Later", "Run", "RunKind", "RunPage", "RunResult", "SweepResult", "SweepSummary"]

OutputT = TypeVar("OutputT", default=Any)

RunKind = Literal[
    "completed",
    "paused",
    "errored",
    "cancelled",
    "running",
    "queued",
    "buffered",
    "duplicate",
    "not_waiting",
    "not_found",
    "not_claimable",
]


@dataclass(frozen=True, slots=True)
class Run(Generic[OutputT]):
    """A run as its row says, with its values read back through the types of its workflow.

    Values of a workflow that this process does not have (or whose types have changed too far) are plain JSON.
    """

    run_id: str
    workflow_id: str
    workflow_version: str | None
    status: RunStatus
    input: Any
    output: OutputT | None
    error: ErrorInfo | None
    """Why it ended `errored`; for a run that is blocked or was put back: why."""
    waits: tuple[Wait, ...]
    """What a paused run waits for."""
    due_at: datetime | None
    state: Any
    created_at: datetime
    updated_at: datetime
    completed_at: datetime | None
    queue: str = ""
    """The queue it is in: one of the runtime's, or the workflow's own, which is named like the workflow."""
    key: str | None = None
    priority: int = 0
    expires_at: datetime | None = None
    """Its time limit: when it is asked to cancel."""
    schedule_id: str | None = None
    """The schedule whose tick it is."""

    @property
    def ended(self) -> bool:
        return self.status in ("completed", "errored", "cancelled")


class Later:
    """A value that is made when somebody looks at it."""

    __slots__ = ("make",)

    def __init__(self, make: Callable[[], Any]) -> None:
        self.make = make


class _Made:
    """A field of a dataclass that may be given a `Later`. Most of a worker's results are never looked at."""

    def __init__(self, default: Any) -> None:
        self._default = default

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        if instance is None:
            return self._default
        value = instance.__dict__[self._name]
        if type(value) is Later:
            value = instance.__dict__[self._name] = value.make()
        return value

    def __set__(self, instance: Any, value: Any) -> None:
        instance.__dict__[self._name] = self._default if value is self else value


def _made(default: Any) -> Any:
    """A `_Made`, for a type checker the value itself."""
    return _Made(default)


@dataclass(frozen=True)
class RunResult(Generic[OutputT]):
    """What became of a run in one call.

    - `completed`, `errored`, `cancelled`: it has ended. `paused`: it waits for a time or for mail (with `error`: it is
      blocked). `queued`: it is ready, and a sweep or worker goes on with it. `running`: somebody drives it now.
    - `buffered`: a signal was accepted, and waits in the inbox for the handler to ask for it. `duplicate`: it had been
      accepted before. `not_waiting`: the run has ended. `not_found`: there is no such run.
    - `not_claimable`: this process does not have the workflow, or its version; the run is left for one that has it.
    """

    kind: RunKind
    run_id: str
    workflow_id: str | None = None
    created: bool = False
    """Whether this call has created the run."""
    run: Run[OutputT] | None = field(default=_made(None))
    error: ErrorInfo | None = None
    exception: BaseException | None = field(default=None, repr=False, compare=False)
    """The exception behind `error`, with its traceback, where it happened in this call."""
    events: tuple[WorkflowEvent, ...] = field(default=_made(()), repr=False)
    """What this call's drive committed and published, the first ones of it."""
    event_count: int = 0
    events_truncated: bool = False

    @property
    def output(self) -> OutputT | None:
        """The output of a completed run."""
        return self.run.output if self.run is not None else None

    def __getstate__(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__dict__}

    def raise_for_error(self) -> RunResult[OutputT]:
        """Raise if the run has ended `errored`; otherwise return this result."""
        if self.kind == "errored" and self.error is not None:
            raise WorkflowError(
                f"Run {self.run_id!r} failed: {self.error.type}: {self.error.message}"
            ) from self.exception
        return self


@dataclass(frozen=True, slots=True)
class RunPage:
    """One page of `list_runs`, newest first. `next_cursor` continues it; None when there is no more."""

    runs: tuple[Run[Any], ...]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class SweepSummary:
    """Counts by `RunResult.kind` for each part of a sweep, and of events."""

    recovered: dict[str, int]
    ready: dict[str, int]
    scheduled: dict[str, int]
    timers: dict[str, int]
    event_count: int
    returned_event_count: int

    @property
    def total(self) -> int:
        return sum(sum(part.values()) for part in (self.recovered, self.ready, self.scheduled, self.timers))


@dataclass(frozen=True, slots=True)
class SweepResult:
    """What one sweep did. `recovered`: runs taken over from owners that died; `ready`: enqueued or signalled runs;
    `scheduled`: runs that ticks of schedules started; `timers`: runs whose time had come.
    """

    summary: SweepSummary
    recovered: list[RunResult[Any]]
    ready: list[RunResult[Any]]
    scheduled: list[RunResult[Any]]
    timers: list[RunResult[Any]]
    deadline_reached: bool
    """It stopped because its time was up."""
    remaining_may_exist: bool
    """Something may still be due: call again soon."""

    @staticmethod
    def summarize(parts: dict[str, Sequence[RunResult[Any]]]) -> SweepSummary:
        def counts(results: Sequence[RunResult[Any]]) -> dict[str, int]:
            kinds: dict[str, int] = {}
            for result in results:
                kinds[result.kind] = kinds.get(result.kind, 0) + 1
            return kinds

        everything = [result for results in parts.values() for result in results]
        return SweepSummary(
            **{name: counts(results) for name, results in parts.items()},
            event_count=sum(result.event_count for result in everything),
            returned_event_count=sum(len(result.events) for result in everything),
        )
