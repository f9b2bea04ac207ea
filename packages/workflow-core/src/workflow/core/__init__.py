"""Durable workflows: definitions, the primitives of their handlers, and the replay engine.

    @create_workflow(id="fulfillment")
    async def fulfillment(ctx: Context[Order]) -> Shipped: ...

`workflow.runtime` runs them on a store; `run_workflow` here is the low-level engine over a `RunStore`.
"""

from .clock import Clock, SystemClock
from .context import Context
from .definition import Workflow, create_workflow
from .errors import (
    DefinitionError,
    EventTimeoutError,
    HandlerError,
    InvalidArgumentError,
    LeaseLostError,
    LogConflictError,
    MiddlewareError,
    NonDeterminismError,
    NonRetryableError,
    PayloadError,
    PoisonedRunError,
    RunNotFoundError,
    StepError,
    StepInterruptedError,
    StepResultError,
    StepTimeoutError,
    StoreError,
    StoreUnavailableError,
    WorkflowError,
    WorkflowVersionError,
)
from .events import ErrorInfo, WorkflowEvent, event_adapter
from .memory import InMemoryRunStore
from .middleware import Middleware, middleware
from .results import Approval
from .retry import Retry, RetryAfter
from .run import ApprovalDelivery, SignalDelivery, run_workflow
from .step import StepContext, current_step
from .store import RunStore

__all__ = [
    "Approval",
    "ApprovalDelivery",
    "Clock",
    "Context",
    "DefinitionError",
    "ErrorInfo",
    "EventTimeoutError",
    "HandlerError",
    "InMemoryRunStore",
    "InvalidArgumentError",
    "LeaseLostError",
    "LogConflictError",
    "Middleware",
    "MiddlewareError",
    "NonDeterminismError",
    "NonRetryableError",
    "PayloadError",
    "PoisonedRunError",
    "Retry",
    "RetryAfter",
    "RunNotFoundError",
    "RunStore",
    "SignalDelivery",
    "StepContext",
    "StepError",
    "StepInterruptedError",
    "StepResultError",
    "StepTimeoutError",
    "StoreError",
    "StoreUnavailableError",
    "SystemClock",
    "Workflow",
    "WorkflowError",
    "WorkflowEvent",
    "WorkflowVersionError",
    "create_workflow",
    "current_step",
    "event_adapter",
    "middleware",
    "run_workflow",
]
