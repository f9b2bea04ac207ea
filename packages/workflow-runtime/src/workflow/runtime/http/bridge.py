"""Calling an ASGI app with one whole request: for hosts that have no ASGI server, but events."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote

__all__ = ["ASGIApp", "BridgedAnswer", "BridgedRequest", "call_app"]

ASGIApp = Callable[[MutableMapping[str, Any], Callable[[], Awaitable[Any]], Callable[[Any], Awaitable[None]]], Any]


@dataclass(frozen=True)
class BridgedRequest:
    """A request whose body is there. `path` is as it was on the wire, with its escapes; `root` is where the app is."""

    method: str
    path: str
    query: str = ""
    headers: Sequence[tuple[str, str]] = ()
    body: bytes = b""
    root: str = ""
    client: tuple[str, int] | None = None

    def scope(self) -> dict[str, Any]:
        raw = quote(self.path, safe="/%:@!$&'()*+,;=~-._")
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "method": self.method,
            "scheme": "https",
            "path": unquote(raw),
            "raw_path": raw.encode("ascii"),
            "root_path": self.root,
            "query_string": self.query.encode("utf-8", "surrogateescape"),
            "headers": [(name.lower().encode("latin-1", "replace"), _value(value)) for name, value in self.headers],
            "client": self.client,
            "server": None,
        }


@dataclass(frozen=True)
class BridgedAnswer:
    status: int
    headers: list[tuple[str, str]]
    body: bytes


async def call_app(app: ASGIApp, request: BridgedRequest) -> BridgedAnswer:
    """The whole answer of an app. Raises what the app raises."""
    exchange = _Exchange(request)
    await app(request.scope(), exchange.receive, exchange.send)
    if exchange.status is None:
        raise RuntimeError("The ASGI app has not answered.")
    return BridgedAnswer(exchange.status, exchange.headers, b"".join(exchange.chunks))


class _Exchange:
    def __init__(self, request: BridgedRequest) -> None:
        self._body: bytes | None = request.body
        self.status: int | None = None
        self.headers: list[tuple[str, str]] = []
        self.chunks: list[bytes] = []

    async def receive(self) -> dict[str, Any]:
        if self._body is None:
            # The client is there until it has its answer: a disconnect would be a lie.
            await asyncio.get_running_loop().create_future()
        body, self._body = self._body, None
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(self, message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in message["headers"]]
        elif message["type"] == "http.response.body":
            self.chunks.append(message.get("body", b""))


def _value(text: str) -> bytes:
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        return text.encode()
