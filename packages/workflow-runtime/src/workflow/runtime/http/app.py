"""`WorkflowHTTP`: a runtime over HTTP, as a plain ASGI callable."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import ClassVar

from workflow.core import InvalidArgumentError
from workflow.core.arguments import seconds
from workflow.runtime.hosting import RuntimeLike, RuntimeSource, SweepLimits
from workflow.runtime.spans import count, limit_span

from .auth import NO_AUTHENTICATION, NoAuthentication, Tokens, check_bearer, secrets_of
from .messages import Answer, ClientGoneError, Receive, Request, Scope, Send
from .operations import Operations, Settings, checked_id
from .problems import Problem, problem_of
from .routes import Match, find_route
from .sse import EventStream
from .webhook import Webhook, receive_webhook

__all__ = ["WorkflowHTTP"]

_PREFIX = re.compile(r"(/[A-Za-z0-9._~-]+)*")
_HOOK = re.compile(r"[A-Za-z0-9._~-]+")


class WorkflowHTTP:
    """An ASGI app that starts, signals, approves, cancels, retries, shows and streams runs, pauses and triggers
    schedules, and sweeps. Serve or mount it.

        app = WorkflowHTTP(runtime, token=os.environ["WORKFLOW_TOKEN"])

    - `runtime`: a runtime, or a (sync or async) function that makes it when the first request comes.
    - `token`: what callers must send as a bearer token; several while they are changed. Without one nothing starts:
      `token=WorkflowHTTP.NO_AUTHENTICATION` where something in front of the app checks callers.
    - `sweep_token`: what allows sweeps and nothing else, for a cron service. `token` allows them as well.
    - `webhooks`: by name, what answers at `/webhooks/<name>`. They check signatures instead of tokens.
    - `prefix`: where the app is ("/api/workflows"), if nothing that mounts it takes that off the path.
    - `max_body`: the largest body in bytes.
    - `max_duration`: for how many seconds one request may drive a run; what is left then is for a sweep or worker.
    - `remaining`: tells how many seconds the host has left for the request, where it knows.
    - `limits`: the bounds of a sweep.
    - `max_stream`: after how many seconds a stream is ended; its reader comes back. `heartbeat`: how often it gets
      a comment.

    It needs no lifespan events; where there are some, a runtime that it has made is closed at the end.
    """

    NO_AUTHENTICATION: ClassVar[NoAuthentication] = NO_AUTHENTICATION

    def __init__(
        self,
        runtime: RuntimeLike,
        *,
        token: Tokens | NoAuthentication | None,
        sweep_token: Tokens | None = None,
        webhooks: Mapping[str, Webhook] | None = None,
        prefix: str = "",
        max_body: int = 1024 * 1024,
        max_duration: float | None = 30.0,
        remaining: Callable[[], float | None] | None = None,
        limits: SweepLimits | None = None,
        max_stream: float | None = None,
        heartbeat: float = 15.0,
        host: str = "http",
    ) -> None:
        instead = ", or say token=WorkflowHTTP.NO_AUTHENTICATION if something in front of this app checks callers"
        self._tokens = secrets_of(token, "token", instead=instead)
        sweeping = secrets_of(sweep_token, "sweep_token") if sweep_token is not None else None
        self._sweep_tokens = self._tokens if sweeping is None else (*(self._tokens or ()), *sweeping)
        self._webhooks = dict(webhooks or {})
        self._prefix = prefix.rstrip("/")
        self._max_body = max_body
        self._source = RuntimeSource(runtime)
        self._check_settings()
        settings = Settings(
            max_duration=None if max_duration is None else seconds(max_duration, "max_duration"),
            limits=limits or SweepLimits(),
            remaining=remaining or (lambda: None),
            host=host,
            max_stream=None if max_stream is None else seconds(max_stream, "max_stream"),
            heartbeat=limit_span(heartbeat, "heartbeat").total_seconds(),
        )
        self._settings = settings
        self._operations = Operations(self._source, settings)

    def _check_settings(self) -> None:
        if not _PREFIX.fullmatch(self._prefix):
            raise InvalidArgumentError(f"prefix {self._prefix!r} is no path: write it like '/api/workflows'.")
        count(self._max_body, "max_body", least=1)
        for name in self._webhooks:
            if not _HOOK.fullmatch(name):
                raise InvalidArgumentError(
                    f"The name of webhook {name!r} would need escapes in a URL: choose a plain one."
                )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._serve(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1000})

    async def close(self) -> None:
        """Close the runtime, if this app has made it."""
        await self._source.close()

    async def _live(self, receive: Receive, send: Send) -> None:
        while True:
            kind = (await receive())["type"]
            if kind == "lifespan.shutdown":
                await self.close()
            await send({"type": f"{kind}.complete"})
            if kind == "lifespan.shutdown":
                return

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            request = Request(scope, receive, prefix=self._prefix, max_body=self._max_body)
            answer = await self._answer(request)
        except ClientGoneError:
            return
        except Exception as error:
            answer = Answer.of_problem(problem_of(error))
        if isinstance(answer, EventStream):
            await answer.run(receive, send)
            return
        if scope["method"] == "HEAD":
            answer.body = b""
        await answer.send(send)

    async def _answer(self, request: Request) -> Answer | EventStream:
        hook = self._webhook(request)
        if hook is not None:
            return await receive_webhook(hook, request, self._source, self._settings.budget)
        match = find_route(request.method, request.segments)
        self._authenticate(request, match)
        if match.route is None:
            raise _no_route(match)
        id = checked_id(match.id, match.route.id_name or "id") if match.id is not None else ""
        return await self._operations.find(match.route.name)(request, id)

    def _webhook(self, request: Request) -> Webhook | None:
        segments = request.segments or []
        if len(segments) == 2 and segments[0] == "webhooks" and segments[1] in self._webhooks:
            return self._webhooks[segments[1]]
        return None

    def _authenticate(self, request: Request, match: Match) -> None:
        """Before anything else: strangers don't learn which paths there are."""
        for_sweeps = match.route is not None and match.route.for_sweeps
        if not check_bearer(request.headers, self._sweep_tokens if for_sweeps else self._tokens):
            detail = "Send the token as 'Authorization: Bearer ...'."
            raise Problem(401, "unauthenticated", detail, headers={"www-authenticate": "Bearer"})


def _no_route(match: Match) -> Problem:
    if not match.methods:
        return Problem(404, "no_such_path", "There is nothing at this path.")
    allowed = ", ".join(sorted(match.methods))
    return Problem(405, "method_not_allowed", f"This path has {allowed}.", headers={"allow": allowed})
