"""What the site's function calls."""

from __future__ import annotations

from typing import Any

from workflow.core.arguments import Duration
from workflow.runtime.hosting import RuntimeLike, SweepLimits
from workflow.runtime.http.messages import Request
from workflow.runtime.http.sweeping import SweepApp

__all__ = ["create_sweep_app"]

_HOST = "netlify"
_LONGEST = 900.0


def create_sweep_app(
    runtime: RuntimeLike,
    *,
    secret: Any,
    limits: SweepLimits | None = None,
    max_duration: Duration | None = None,
    include_sweep_result: bool = False,
) -> SweepApp:
    """An ASGI app that sweeps when the site's function posts to it with the secret. Mount it, or serve it by itself.

    The function says how long it can wait for the answer, and the sweep ends before that. Without a secret the app is
    not made. `runtime` is a runtime, or a (sync or async) function that makes it at the first request.

    `max_duration` (seconds or a timedelta; else what the function waits, less a margin) and `include_sweep_result`
    (answer with the result of every run, for debugging) can be given by themselves or in `limits`.
    """
    return SweepApp(
        runtime,
        secret=secret,
        host=_HOST,
        methods=("POST",),
        limits=SweepLimits.of(limits, max_duration=max_duration, include_sweep_result=include_sweep_result),
        remaining=_remaining,
        invocation=lambda request: request.header("x-nf-request-id"),
    )


def _remaining(request: Request) -> float | None:
    """What the function says that it waits, in seconds."""
    text = request.header("x-workflow-seconds") or ""
    if not (text.isascii() and text.isdigit() and len(text) <= 6):
        return None
    return min(float(text), _LONGEST)
