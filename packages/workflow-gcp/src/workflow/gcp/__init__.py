"""Durable workflows on Google Cloud: functions for functions-framework, called by Cloud Scheduler.

sweep = functions_framework.aio.http(create_sweep_function(make_runtime, oidc=OIDC(...)))
api = functions_framework.aio.http(create_http_function(make_runtime, token=...))
"""

from typing import TYPE_CHECKING, Any

from .functions import create_http_function, create_sweep_function
from .oidc import OIDC

if TYPE_CHECKING:
    from .waker import CloudTasksWaker

__all__ = ["OIDC", "CloudTasksWaker", "create_http_function", "create_sweep_function"]


def __getattr__(name: str) -> Any:
    # Late: a cold start is waited for, and most have no use for it.
    if name == "CloudTasksWaker":
        from .waker import CloudTasksWaker

        return CloudTasksWaker
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
