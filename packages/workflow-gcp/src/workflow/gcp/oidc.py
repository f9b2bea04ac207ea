"""Who calls, by the identity token that Google signs for Cloud Scheduler, Cloud Tasks and service accounts."""

from __future__ import annotations

import asyncio
import importlib
import logging
import threading
from collections.abc import Callable, Collection
from typing import Any

from workflow.core import InvalidArgumentError

__all__ = ["OIDC"]

logger = logging.getLogger("workflow.gcp")

_MAX_TOKEN = 8192


class OIDC:
    """Lets in who has a token of Google for this audience and one of these service accounts.

    - `audience`: what the job of Cloud Scheduler was given as its audience: usually the URL of the function.
    - `emails`: the service accounts whose tokens are good. A token for the audience alone would not do: anybody can
      have one.
    - `transport`: how Google's public keys are fetched; google-auth's over requests, unless given. They are kept as
      long as Google's answer allows.
    """

    def __init__(
        self, *, audience: str | None, emails: Collection[str] | str | None, transport: Callable[..., Any] | None = None
    ) -> None:
        self._audience = audience or ""
        self._emails = frozenset([emails] if isinstance(emails, str) else emails or ())
        if not self._audience:
            raise InvalidArgumentError(
                "audience is missing: tokens for every other service would be good here as well."
            )
        if not self._emails or not all(self._emails):
            raise InvalidArgumentError("emails is missing: name the service account that may call.")
        self._transport = transport
        self._lock = threading.Lock()

    async def verify(self, token: str) -> bool:
        """Whether the token is good. Raises what the transport raises when Google's keys can't be fetched."""
        if not token or len(token) > _MAX_TOKEN:
            return False
        return await asyncio.to_thread(self._verify, token)

    def _verify(self, token: str) -> bool:
        id_token: Any = importlib.import_module("google.oauth2.id_token")
        exceptions: Any = importlib.import_module("google.auth.exceptions")
        try:
            claims = id_token.verify_oauth2_token(
                token, self._keys(), audience=self._audience, clock_skew_in_seconds=10
            )
        except exceptions.TransportError as error:
            raise ConnectionError(f"Google's public keys could not be fetched: {error}") from error
        except (ValueError, exceptions.GoogleAuthError) as error:
            logger.warning("A token was refused: %s", error)
            return False
        if claims.get("email") not in self._emails or claims.get("email_verified") is not True:
            logger.warning(
                "A token of %r was refused: it is of none of the accounts that may call", claims.get("email")
            )
            return False
        return True

    def _keys(self) -> Callable[..., Any]:
        with self._lock:
            if self._transport is None:
                requests: Any = importlib.import_module("google.auth.transport.requests")
                self._transport = KeptAnswers(requests.Request())
            return self._transport


class KeptAnswers:
    """A transport that asks for the same thing once in a while only: Google's keys change every few days."""

    def __init__(
        self, transport: Callable[..., Any], *, seconds: float = 3600.0, clock: Callable[[], float] | None = None
    ):
        self._transport = transport
        self._seconds = seconds
        self._clock = clock or importlib.import_module("time").monotonic
        self._kept: dict[str, tuple[float, Any]] = {}

    def __call__(self, url: str, method: str = "GET", **more: Any) -> Any:
        now = self._clock()
        kept = self._kept.get(url)
        if kept is not None and now - kept[0] < self._seconds:
            return kept[1]
        answer = self._transport(url, method=method, **more)
        if answer.status == 200:
            self._kept[url] = (now, answer)
        return answer
