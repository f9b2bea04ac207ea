"""The runtime of durable workflows: no server, no platform.

runtime = WorkflowRuntime(store=SQLiteStore("workflow.db"), workflows=[fulfillment])
await runtime.start_run("fulfillment", run_id=..., input=...)
await runtime.sweep()
"""

from typing import TYPE_CHECKING, Any

from .codec import Codec
from .contract import Capabilities, ClaimLimits, ExecutionStore, HeldLease, Renewal, RunFilter
from .diagnosis import Diagnosis
from .memory import MemoryStore
from .queues import Queue, RateLimit
from .registry import Registration
from .results import Run, RunKind, RunPage, RunResult, SweepResult, SweepSummary
from .runtime import WorkflowRuntime
from .worker import WorkerReport

if TYPE_CHECKING:
    from .http import WorkflowHTTP
    from .schedules.schedule import Schedule
    from .schedules.spec import cron, every
    from .schedules.views import Backfill, ScheduleHistory, ScheduleInfo, ScheduleNotFoundError, ScheduleTick

__all__ = [
    "Backfill",
    "Capabilities",
    "ClaimLimits",
    "Codec",
    "Diagnosis",
    "ExecutionStore",
    "HeldLease",
    "MemoryStore",
    "Queue",
    "RateLimit",
    "Registration",
    "Renewal",
    "Run",
    "RunFilter",
    "RunKind",
    "RunPage",
    "RunResult",
    "Schedule",
    "ScheduleHistory",
    "ScheduleInfo",
    "ScheduleNotFoundError",
    "ScheduleTick",
    "SweepResult",
    "SweepSummary",
    "WorkerReport",
    "WorkflowHTTP",
    "WorkflowRuntime",
    "cron",
    "every",
]


_SCHEDULING = {
    "Schedule": ".schedules.schedule",
    "cron": ".schedules.spec",
    "every": ".schedules.spec",
    **dict.fromkeys(
        ("Backfill", "ScheduleHistory", "ScheduleInfo", "ScheduleNotFoundError", "ScheduleTick"), ".schedules.views"
    ),
}


def __getattr__(name: str) -> Any:
    # Late: who only runs workflows should not wait for the models of an HTTP API, nor for schedules.
    if name == "WorkflowHTTP":
        from .http import WorkflowHTTP

        return WorkflowHTTP
    if name in _SCHEDULING:
        import importlib

        return getattr(importlib.import_module(_SCHEDULING[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
