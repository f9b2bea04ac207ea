"""ASGI in small: a request with a bounded body, and answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any, TypeVar
from urllib.parse import parse_qsl, quote, unquote_to_bytes

from pydantic import BaseModel, ValidationError

from workflow.runtime.answers import to_bytes

from .bodies import Query
from .problems import Problem

__all__ = ["Answer", "ClientGoneError", "Receive", "Request", "Scope", "Send"]

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

ModelT = TypeVar("ModelT", bound=BaseModel)
QueryT = TypeVar("QueryT", bound=Query)

_MAX_QUERY = 16_384
_MAX_PARAMETERS = 50


class ClientGoneError(Exception):
    """The client went away before its request was whole: there is nobody to answer."""


class Request:
    """An HTTP request of ASGI."""

    def __init__(self, scope: Scope, receive: Receive, *, prefix: str = "", max_body: int) -> None:
        self.scope = scope
        self.receive = receive
        self.method: str = scope["method"].upper()
        self.headers: Sequence[tuple[bytes, bytes]] = [(bytes(name), bytes(value)) for name, value in scope["headers"]]
        self.segments = _segments(scope, prefix)
        self.prefix = prefix
        self._max_body = max_body

    def header(self, name: str) -> str | None:
        """The value of a header, the first if there are several."""
        wanted = name.lower().encode()
        return next((value.decode("latin-1") for key, value in self.headers if key.lower() == wanted), None)

    async def body(self) -> bytes:
        """The body. Raises `Problem` as soon as it is too large, and reads no more of it."""
        if (length := self.header("content-length")) is not None:
            self._check_length(length)
        chunks: list[bytes] = []
        size, more = 0, True
        while more:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                raise ClientGoneError
            chunks.append(message.get("body", b""))
            size += len(chunks[-1])
            more = message.get("more_body", False)
            if size > self._max_body:
                raise self._too_large()
        return b"".join(chunks)

    async def read(self, model: type[ModelT], *, required: bool = True) -> ModelT:
        """The body as a model. An empty one is one without fields, where that will do."""
        body = await self.body()
        if not body and not required:
            return model()
        kind = (self.header("content-type") or "").partition(";")[0].strip().lower()
        # Also what keeps a form on a foreign page from calling us: its content type can't be JSON.
        if kind != "application/json" and not (kind.startswith("application/") and kind.endswith("+json")):
            raise Problem(415, "unsupported_media_type", "Send JSON, with Content-Type: application/json.")
        try:
            return model.model_validate_json(body)
        except ValidationError as error:
            raise Problem.invalid(error, "body") from error

    def query(self, model: type[QueryT]) -> QueryT:
        """The query parameters as a model. Only its lists may be given several times."""
        values: dict[str, Any] = {}
        for name, value in self._parameters():
            if name in model.lists:
                values.setdefault(name, []).append(value)
            elif name in values:
                raise Problem(422, "invalid_request", "A query parameter is given twice.")
            else:
                values[name] = value
        try:
            return model.model_validate(values)
        except ValidationError as error:
            raise Problem.invalid(error, "query") from error

    def _parameters(self) -> list[tuple[str, str]]:
        raw: bytes = self.scope.get("query_string", b"")
        if len(raw) > _MAX_QUERY:
            raise Problem(422, "invalid_request", "The query is too long.")
        try:
            return parse_qsl(
                raw.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=_MAX_PARAMETERS
            )
        except ValueError as error:  # with UnicodeDecodeError, which is one
            raise Problem(422, "invalid_request", "The query can't be read.") from error

    def _check_length(self, length: str) -> None:
        if not (length.isascii() and length.isdigit()):
            raise Problem(400, "invalid_request", "Content-Length is no number.")
        if len(length) > 15 or int(length) > self._max_body:
            raise self._too_large()

    def _too_large(self) -> Problem:
        # The rest of the body is not read, so the connection is of no more use.
        detail = f"A body may have at most {self._max_body:,} bytes."
        return Problem(413, "body_too_large", detail, headers={"connection": "close"})


def _segments(scope: Scope, prefix: str) -> list[str] | None:
    """The parts of the path below where the app is, each decoded by itself: an id may hold a slash (as %2F).

    None for a path that is not below it, or is no UTF-8.
    """
    path: str = scope["path"]
    root: str = scope.get("root_path", "").rstrip("/")
    raw = _raw_path(scope)
    skip = 0
    below = root and (path == root or path.startswith(root + "/"))
    # Some servers and frameworks leave the mount point in the path, others take it off, but not off the raw one.
    if below or (root and _decoded(raw) == root + path):
        skip = root.count("/")
    parts = [_decoded(part) for part in raw.split(b"/")[1 + skip :]]
    wanted = [part for part in prefix.split("/") if part]
    if any(part is None for part in parts) or parts[: len(wanted)] != wanted:
        return None
    rest = [part for part in parts[len(wanted) :] if part is not None]
    return rest[:-1] if rest and rest[-1] == "" else rest


def _raw_path(scope: Scope) -> bytes:
    raw: bytes | None = scope.get("raw_path")
    if raw is None:
        return quote(scope["path"], errors="surrogateescape").encode()
    return raw.partition(b"?")[0]


def _decoded(raw: bytes) -> str | None:
    try:
        return unquote_to_bytes(raw).decode()
    except UnicodeDecodeError:
        return None


class Answer:
    """A whole answer."""

    def __init__(
        self,
        body: BaseModel | bytes | None,
        status: int = 200,
        *,
        headers: dict[str, str] | None = None,
        media_type: str = "application/json",
    ) -> None:
        self.status = status
        self.body = to_bytes(body) if isinstance(body, BaseModel) else (body or b"")
        self.headers = {"content-type": media_type} if body is not None else {}
        self.headers |= {"cache-control": "no-store", "x-content-type-options": "nosniff", **(headers or {})}

    @classmethod
    def of_problem(cls, problem: Problem) -> Answer:
        body = problem.answer.model_dump_json(exclude_none=True).encode()
        return cls(body, problem.status, headers=problem.headers, media_type="application/problem+json")

    async def send(self, send: Send) -> None:
        headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in self.headers.items()]
        if self.status != 204:
            headers.append((b"content-length", str(len(self.body)).encode()))
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": self.body})
