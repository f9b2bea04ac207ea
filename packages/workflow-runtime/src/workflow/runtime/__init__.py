"""The runtime of durable workflows: no server, no platform.

    runtime = WorkflowRuntime(store=SQLiteStore("workflow.db"), workflows=[fulfillment])
    await runtime.start_run("fulfillment", run_id=..., input=...)
    await runtime.sweep()
"""

from .codec import Codec
from .contract import Capabilities, ClaimLimits, ExecutionStore, HeldLease, Renewal, RunFilter
from .memory import MemoryStore
from .registry import Registration
from .results import Run, RunKind, RunPage, RunResult, SweepResult, SweepSummary
from .runtime import WorkflowRuntime

__all__ = [
    "Capabilities",
    "ClaimLimits",
    "Codec",
    "ExecutionStore",
    "HeldLease",
    "MemoryStore",
    "Registration",
    "Renewal",
    "Run",
    "RunFilter",
    "RunKind",
    "RunPage",
    "RunResult",
    "SweepResult",
    "SweepSummary",
    "WorkflowRuntime",
]
