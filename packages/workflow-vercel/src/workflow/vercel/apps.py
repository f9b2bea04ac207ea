"""ASGI apps for Vercel's Python runtime, which runs an `app` on one event loop for the life of its process."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from workflow.core.arguments import Duration
from workflow.runtime.hosting import RuntimeLike, RuntimeSource, SweepLimits
from workflow.runtime.http import WorkflowHTTP
from workflow.runtime.http.bridge import ASGIApp
from workflow.runtime.http.messages import Receive, Request, Scope, Send
from workflow.runtime.http.sweeping import SweepApp

__all__ = ["create_app", "create_sweep_app", "remaining"]

_HOST = "vercel"


def create_sweep_app(
    runtime: RuntimeLike,
    *,
    cron_secret: Any,
    limits: SweepLimits | None = None,
    max_duration: Duration | None = None,
    include_sweep_result: bool = False,
) -> SweepApp:
    """The route that a Vercel cron job calls: GET (or POST) with `Authorization: Bearer $CRON_SECRET` sweeps once.

    Vercel sends the secret by itself if the project has a variable CRON_SECRET; without a secret the app is not made.
    `runtime` is a runtime, or a (sync or async) function that makes it at the first request. A sweep takes what
    Vercel has left for the request, less a margin.

    `max_duration` (seconds or a timedelta) and `include_sweep_result`
    (answer with the result of every run, for debugging) can be given by themselves or in `limits`.
    """
    return SweepApp(
        runtime,
        secret=cron_secret,
        name="cron_secret",
        host=_HOST,
        limits=SweepLimits.of(limits, max_duration=max_duration, include_sweep_result=include_sweep_result),
        remaining=lambda request: remaining(),
        invocation=_invocation,
    )


def create_app(
    runtime: RuntimeLike,
    *,
    token: Any,
    cron_secret: Any,
    cron_path: str = "/api/cron",
    prefix: str = "/api",
    limits: SweepLimits | None = None,
    **options: Any,
) -> ASGIApp:
    """The cron route and `WorkflowHTTP` in one function, which then has one runtime and one pool of connections.

    `cron_path` is what `vercel.json` names; everything else below `prefix` is the API. Options are `WorkflowHTTP`'s.
    """
    source = RuntimeSource(runtime)
    sweep = create_sweep_app(source.get, cron_secret=cron_secret, limits=limits)
    settings: dict[str, Any] = {"host": _HOST, "remaining": remaining, "prefix": prefix, **options}
    api = WorkflowHTTP(source.get, token=token, limits=limits, **settings)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        is_cron = scope["type"] == "http" and scope["path"].rstrip("/") == cron_path.rstrip("/")
        await (sweep if is_cron else api)(scope, receive, send)

    return app


def remaining() -> float | None:
    """Seconds until Vercel ends the request; None where nobody says (another server, an older runtime)."""
    deadline = _get_deadline()
    return None if deadline is None else max(0.0, (deadline - datetime.now(UTC)).total_seconds())


def _get_deadline() -> datetime | None:
    try:
        tell: Callable[[], datetime | None] = importlib.import_module("vercel_runtime").get_deadline
    except (ImportError, AttributeError):
        return None
    return tell()


def _invocation(request: Request) -> str | None:
    return request.header("x-vercel-id")
