"""`SweepApp`: what a cron service of a platform calls. One secret, one thing to do, at any path."""

from __future__ import annotations

from collections.abc import Callable, Collection

from workflow.runtime.answers import to_bytes
from workflow.runtime.hosting import RuntimeLike, RuntimeSource, SweepLimits, lease_owner, sweep_within

from .auth import NoAuthentication, Tokens, check_bearer, secrets_of
from .messages import Answer, Receive, Request, Scope, Send
from .problems import Problem, problem_of

__all__ = ["SweepApp"]


class SweepApp:
    """An ASGI app that sweeps when it is called with its secret as bearer token, and answers with the summary.

    - `secret`: the secret, or several while it is changed. Without one the app is not made, but for
      NO_AUTHENTICATION: the host has checked its callers already.
    - `host`, `invocation`: what the owner of leases is called: the platform, and the id that it gave to the request.
    - `remaining`: how many seconds the platform has left for the request, where it tells.
    - `methods`: GET as well where the platform's cron can do nothing else. A body is not read.

    It answers 503 where a retry helps, and 500 where somebody has to look at the log first.
    """

    def __init__(
        self,
        runtime: RuntimeLike,
        *,
        secret: Tokens | NoAuthentication | None,
        name: str = "secret",
        host: str = "http",
        methods: Collection[str] = ("GET", "POST"),
        limits: SweepLimits | None = None,
        remaining: Callable[[Request], float | None] = lambda request: None,
        invocation: Callable[[Request], str | None] = lambda request: None,
    ) -> None:
        self._source = RuntimeSource(runtime)
        self._secrets = secrets_of(secret, name)
        self._host = host
        self._methods = tuple(sorted(methods))
        self._limits = limits or SweepLimits()
        self._remaining = remaining
        self._invocation = invocation

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await (await self._answer(Request(scope, receive, max_body=0))).send(send)
        elif scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1000})

    async def _answer(self, request: Request) -> Answer:
        try:
            self._check(request)
            owner = lease_owner(self._host, self._invocation(request))
            answer = await sweep_within(
                self._source, owner=owner, remaining=self._remaining(request), limits=self._limits
            )
            return Answer(to_bytes(answer))
        except Exception as error:
            return Answer.of_problem(problem_of(error))

    def _check(self, request: Request) -> None:
        if not check_bearer(request.headers, self._secrets):
            detail = "Send the secret as 'Authorization: Bearer ...'."
            raise Problem(401, "unauthenticated", detail, headers={"www-authenticate": "Bearer"})
        if request.method not in self._methods:
            allowed = ", ".join(self._methods)
            raise Problem(405, "method_not_allowed", f"A sweep takes {allowed}.", headers={"allow": allowed})

    async def _live(self, receive: Receive, send: Send) -> None:
        while True:
            kind = (await receive())["type"]
            if kind == "lifespan.shutdown":
                await self._source.close()
            await send({"type": f"{kind}.complete"})
            if kind == "lifespan.shutdown":
                return
