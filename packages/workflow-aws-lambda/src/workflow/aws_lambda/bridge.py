"""HTTP events of payload format 2.0, as requests and answers of an ASGI app."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any

from workflow.runtime.http.bridge import ASGIApp, BridgedRequest, call_app

__all__ = ["answer_event", "request_of"]

_TEXT = ("text/", "application/json", "application/problem+json")
# Lambda sets these itself.
_NOT_OURS = frozenset({"connection", "content-length", "transfer-encoding"})


def request_of(event: Mapping[str, Any]) -> BridgedRequest:
    """The request that an event is."""
    context = event["requestContext"]
    given: Mapping[str, Any] = event.get("headers") or {}
    headers = [(name, str(value)) for name, value in given.items()]
    if cookies := event.get("cookies"):
        headers.append(("cookie", "; ".join(cookies)))
    return BridgedRequest(
        method=str(context["http"]["method"]),
        path=str(event.get("rawPath") or "/"),
        query=str(event.get("rawQueryString") or ""),
        headers=headers,
        body=_body(event),
        root=_stage(event, context),
        client=(str(context["http"].get("sourceIp", "")), 0),
    )


def _body(event: Mapping[str, Any]) -> bytes:
    body = event.get("body") or ""
    if not event.get("isBase64Encoded"):
        return body.encode()
    try:
        return base64.b64decode(body)
    except binascii.Error:
        return body.encode()


def _stage(event: Mapping[str, Any], context: Mapping[str, Any]) -> str:
    """A stage with a name is the first part of the path that API Gateway hands on."""
    stage = context.get("stage")
    prefix = f"/{stage}"
    path = str(event.get("rawPath") or "/")
    below = path == prefix or path.startswith(f"{prefix}/")
    return prefix if stage and stage != "$default" and below else ""


async def answer_event(app: ASGIApp, request: BridgedRequest) -> dict[str, Any]:
    """What Lambda makes an HTTP answer of."""
    answer = await call_app(app, request)
    headers = {name: value for name, value in answer.headers if name not in _NOT_OURS}
    text = headers.get("content-type", "text/").startswith(_TEXT)
    body = answer.body.decode() if text else base64.b64encode(answer.body).decode()
    return {"statusCode": answer.status, "headers": headers, "body": body, "isBase64Encoded": not text}
