"""Functions for functions-framework: requests of Starlette into calls of the runtime, on the one loop of the
process.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Awaitable, Callable
from typing import Any

from workflow.core import InvalidArgumentError
from workflow.core.arguments import Duration
from workflow.runtime.hosting import RuntimeLike, SweepLimits
from workflow.runtime.http import WorkflowHTTP
from workflow.runtime.http.auth import NO_AUTHENTICATION
from workflow.runtime.http.bridge import ASGIApp, BridgedRequest, call_app
from workflow.runtime.http.messages import Request
from workflow.runtime.http.sweeping import SweepApp

from .oidc import OIDC

__all__ = ["GCPFunction", "create_http_function", "create_sweep_function"]

GCPFunction = Callable[[Any], Awaitable[Any]]
"""What `functions_framework.aio.http` takes: a coroutine function of a Starlette request."""

_HOST = "gcp"
_MAX_STREAM = 10.0
_MAX_BODY = 1024 * 1024


def create_sweep_function(
    runtime: RuntimeLike,
    *,
    oidc: OIDC | None = None,
    secret: Any = None,
    limits: SweepLimits | None = None,
    max_duration: Duration | None = None,
    include_sweep_result: bool = False,
    name: str = "sweep",
) -> GCPFunction:
    """A function that Cloud Scheduler (or Cloud Tasks) calls to sweep; its answer is the summary.

    Callers show an identity token (`oidc`), or a secret as their bearer token. Without either the function is not made.
    `runtime` is a runtime, or a (sync or async) function that makes it at the first request. A sweep takes what the
    timeout of the function allows, less a margin. It answers 503 where a retry helps, and 500 where somebody has to
    look.

    `max_duration` (seconds or a timedelta) and `include_sweep_result`
    (answer with the result of every run, for debugging) can be given by themselves or in `limits`.
    functions-framework knows a function by its `name`, which must be that of the variable (the `--target`).
    """
    if (oidc is None) == (secret is None):
        raise InvalidArgumentError("Say who may call: either oidc=OIDC(audience=..., emails=...) or secret=...")
    app = SweepApp(
        runtime,
        secret=NO_AUTHENTICATION if oidc is not None else secret,
        host=_HOST,
        limits=SweepLimits.of(limits, max_duration=max_duration, include_sweep_result=include_sweep_result),
        remaining=lambda request: remaining(),
        invocation=_invocation,
        methods=("GET", "POST"),
    )

    async def sweep(request: Any) -> Any:
        if oidc is not None and (refusal := await _refusal(oidc, request)) is not None:
            return refusal
        return await _answer(app, request, read_body=False)

    return _named(sweep, name)


def create_http_function(runtime: RuntimeLike, *, token: Any, name: str = "api", **options: Any) -> GCPFunction:
    """A function that serves `WorkflowHTTP`, whose options it takes. A stream of events ends after ten seconds.

    functions-framework knows a function by its `name`, which must be that of the variable (the `--target`).
    """
    settings: dict[str, Any] = {"host": _HOST, "remaining": remaining, "max_stream": _MAX_STREAM, **options}
    app = WorkflowHTTP(runtime, token=token, **settings)
    limit = int(settings.get("max_body", _MAX_BODY))

    async def api(request: Any) -> Any:
        return await _answer(app, request, limit=limit)

    return _named(api, name)


def _named(function: GCPFunction, name: str) -> GCPFunction:
    function.__name__ = function.__qualname__ = name
    return function


def remaining() -> float | None:
    """The timeout of the function: what is left of it when a request comes. None where nobody says."""
    text = os.environ.get("CLOUD_RUN_TIMEOUT_SECONDS", "")
    return float(text) if text.isascii() and text.isdigit() else None


async def _refusal(oidc: OIDC, request: Any) -> Any:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    try:
        if scheme.lower() == "bearer" and await oidc.verify(token.strip()):
            return None
    except ConnectionError as error:
        return _response(
            503, {"retry-after": "5"}, f'{{"status":503,"code":"unavailable","detail":"{type(error).__name__}"}}'
        )
    return _response(401, {"www-authenticate": "Bearer"}, '{"status":401,"code":"unauthenticated"}')


async def _answer(app: ASGIApp, request: Any, *, read_body: bool = True, limit: int = _MAX_BODY) -> Any:
    scope = request.scope
    bridged = BridgedRequest(
        method=scope["method"],
        path=scope.get("raw_path", scope["path"].encode()).decode("ascii", "replace"),
        query=scope.get("query_string", b"").decode("latin-1"),
        headers=[(name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]],
        body=await _body(request, limit) if read_body else b"",
        root=scope.get("root_path", ""),
        client=scope.get("client"),
    )
    answer = await call_app(app, bridged)
    return _response(answer.status, dict(answer.headers), answer.body)


async def _body(request: Any, limit: int) -> bytes:
    """The body, as far as the app would take it: one byte more is enough for it to say that it is too much."""
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        chunks.append(chunk)
        size += len(chunk)
        if size > limit:
            break
    return b"".join(chunks)


def _response(status: int, headers: dict[str, str], body: bytes | str) -> Any:
    responses: Any = importlib.import_module("starlette.responses")
    kind = headers.pop("content-type", None if status == 204 else "application/problem+json")
    headers.pop("content-length", None)
    return responses.Response(body, status_code=status, headers=headers, media_type=kind)


def _invocation(request: Request) -> str | None:
    """Cloud's trace id, under which the log of the request is found."""
    trace = request.header("x-cloud-trace-context")
    return trace.partition("/")[0] if trace else None
