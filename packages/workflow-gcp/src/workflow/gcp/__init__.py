"""Durable workflows on Google Cloud: functions for functions-framework, called by Cloud Scheduler.

sweep = functions_framework.aio.http(create_sweep_function(make_runtime, oidc=OIDC(...)))
api = functions_framework.aio.http(create_http_function(make_runtime, token=...))
"""

from .functions import create_http_function, create_sweep_function
from .oidc import OIDC

__all__ = ["OIDC", "create_http_function", "create_sweep_function"]
