"""The door from outside of Cloudflare: D1's REST API, over httpx.

Cloudflare means it for administration and limits its rate (1,200 requests in five minutes for each user, whatever they
ask for). It suits deploy scripts, dashboards and apps with little traffic.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any, cast
from weakref import WeakKeyDictionary

from workflow.core.errors import InvalidArgumentError, StoreError, WorkflowError
from workflow.store.sqlite import Batch, Row

from .errors import D1UnavailableError, d1_error
from .usage import Usage

if TYPE_CHECKING:
    import ssl

    import httpx

__all__ = ["BASE_URL", "RestExecutor"]

BASE_URL = "https://api.cloudflare.com/client/v4"

_LONGEST_TEXT = 300


class RestExecutor:
    """Runs batches by `POST .../d1/database/{id}/raw`, each in one request.

    A connection belongs to the event loop that opened it, so there is a client for each loop, unless one is given.
    """

    def __init__(
        self, url: str, token: str, usage: Usage, where: str, *, timeout: float, client: httpx.AsyncClient | None
    ) -> None:
        try:
            import httpx
        except ImportError as error:
            raise InvalidArgumentError(
                "D1Store.from_http needs httpx: install `workflow-store-d1[http]`. In a Worker use D1Store(env.DB)."
            ) from error
        self._httpx = httpx
        self._url = url
        self._headers = {"Authorization": f"Bearer {token}"}
        self._usage = usage
        self._where = where
        self._timeout = timeout
        self._given = client
        self._clients: WeakKeyDictionary[asyncio.AbstractEventLoop, httpx.AsyncClient] = WeakKeyDictionary()

    async def batch(self, statements: Batch, *, readonly: bool = False) -> list[list[Row]]:
        self._usage.add(len(statements))
        answer = await self._post({"batch": [{"sql": sql, "params": list(values)} for sql, values in statements]})
        results = cast("list[dict[str, Any]]", answer.get("result") or [])
        if len(results) != len(statements):
            raise StoreError(f"{self._where} answered {len(results)} results to {len(statements)} statements.")
        return [[tuple(row) for row in result["results"]["rows"]] for result in results]

    async def close(self) -> None:
        """Close the client of this loop. Those of other loops went with them; one that was given is its giver's."""
        client = self._clients.pop(asyncio.get_running_loop(), None)
        if client is not None:
            await client.aclose()

    def _client(self) -> httpx.AsyncClient:
        if self._given is not None:
            return self._given
        loop = asyncio.get_running_loop()
        if loop not in self._clients:
            self._clients[loop] = self._httpx.AsyncClient(timeout=self._timeout, verify=_certificates())
        return self._clients[loop]

    async def _post(self, body: dict[str, Any]) -> dict[str, Any]:
        try:
            response = await self._client().post(self._url, json=body, headers=self._headers)
        except self._httpx.TransportError as error:
            raise self._unreachable(error) from error
        answer = _document(response)
        if response.is_success and answer.get("success") is True:
            return answer
        raise self._error(response, answer)

    def _unreachable(self, error: httpx.TransportError) -> D1UnavailableError:
        never_sent = (self._httpx.ConnectError, self._httpx.ConnectTimeout, self._httpx.PoolTimeout)
        return D1UnavailableError(
            f"{self._where} can't be reached: {type(error).__name__}: {error}",
            maybe_written=not isinstance(error, never_sent),
        )

    def _error(self, response: httpx.Response, answer: dict[str, Any]) -> WorkflowError:
        status, text = response.status_code, _messages(response, answer)
        if status == 429:
            pause = _retry_after(response.headers)
            hint = "" if pause is None else f" It asks to wait {pause:.0f} s."
            return D1UnavailableError(
                f"Cloudflare's API takes no more requests for now: {text}.{hint} Nothing was written.",
                maybe_written=False,
                retry_after=pause,
            )
        if status in (401, 403):
            return StoreError(f"{self._where} refused the API token ({text}). It needs the permission D1:Edit.")
        if status == 404:
            return StoreError(
                f"{self._where} is unknown to Cloudflare ({text}). Check the ids of account and database."
            )
        error = d1_error(text, self._where)
        # Without a word about SQLite, an error of the server says nothing about what became of the statements.
        if status >= 500 and type(error) is StoreError and "sqlite_" not in text.lower():
            return D1UnavailableError(f"{self._where} failed: {text}. It may have been written.", maybe_written=True)
        if response.is_success and not answer:
            return D1UnavailableError(
                f"{self._where} gave no JSON: {text}. It may have been written.", maybe_written=True
            )
        return error


@lru_cache(maxsize=1)
def _certificates() -> ssl.SSLContext:
    """To load them takes longer than many a request."""
    import httpx

    return httpx.create_ssl_context()


def _document(response: httpx.Response) -> dict[str, Any]:
    """The answer's JSON object; an empty one where it has none."""
    try:
        found = response.json()
    except ValueError:
        return {}
    return cast("dict[str, Any]", found) if isinstance(found, dict) else {}


def _messages(response: httpx.Response, answer: dict[str, Any]) -> str:
    errors = cast("list[dict[str, Any]]", answer.get("errors") or [])
    found = "; ".join(f"{error.get('message')} [code {error.get('code')}]" for error in errors)
    return found or f"HTTP {response.status_code} {response.text[:_LONGEST_TEXT]}".strip()


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait, which HTTP writes as such or as a date."""
    value = headers.get("Retry-After", "")
    if value.isdecimal():
        return float(value)
    from email.utils import parsedate_to_datetime  # here: it imports sockets

    try:
        until = parsedate_to_datetime(value)
    except ValueError:
        return None
    return max(0.0, (until - datetime.now(UTC)).total_seconds()) if until.tzinfo else None
