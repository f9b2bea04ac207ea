"""`fetch()`: the routes of `WorkflowHTTP`, through the ASGI bridge of Cloudflare's SDK."""

from __future__ import annotations

import importlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from workflow.core import InvalidArgumentError
from workflow.runtime.hosting import SweepLimits
from workflow.runtime.http import Webhook, WorkflowHTTP

from .invocation import PAID_PLAN, MakeRuntime, checked_queries, runtime_factory

__all__ = ["FetchHandler", "create_fetch_handler"]

FetchHandler = Callable[[Any, Any, Any], Awaitable[Any]]

_DURATION = 20.0
"""Seconds for which a request drives a run. What is left then is for the next trigger."""


def create_fetch_handler(
    runtime: MakeRuntime,
    *,
    token: Callable[[Any], Any],
    sweep_token: Callable[[Any], Any] | None = None,
    webhooks: Callable[[Any], Mapping[str, Webhook]] | None = None,
    prefix: str = "",
    max_duration: float = _DURATION,
    limits: SweepLimits | None = None,
    queries: int | None = PAID_PLAN,
) -> FetchHandler:
    """A handler for `fetch(request)`, called as `handler(request, env, ctx)`: see `WorkflowHTTP` for its routes.

    `token(env)` gives what callers must send as a bearer token, a secret of the Worker; an empty or missing one fails
    the request, and lets nobody in. `sweep_token(env)` and `webhooks(env)` likewise. `queries`: see
    `create_scheduled_handler`.
    """
    if not callable(token):
        raise InvalidArgumentError("token must be a function of env, such as lambda env: env.WORKFLOW_TOKEN.")
    checked_queries(queries)

    async def fetch(request: Any, env: Any, ctx: Any) -> Any:
        app = WorkflowHTTP(
            runtime_factory(runtime, env, queries),
            token=token(env),
            sweep_token=None if sweep_token is None else sweep_token(env),
            webhooks=None if webhooks is None else webhooks(env),
            prefix=prefix,
            max_duration=max_duration,
            limits=limits,
            host="cloudflare",
        )
        # The bridge sends lifespan events around each request: the app closes its runtime by them, after a stream too.
        return await _bridge().fetch(app, request, env, ctx)

    return fetch


def _bridge() -> Any:
    """`workers.asgi` of the SDK, which is there in a Worker only."""
    return importlib.import_module("workers.asgi")
