"""Who may call: bearer tokens, compared in constant time. No token is an error, unless told otherwise."""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from typing import Final

from workflow.core import InvalidArgumentError

__all__ = ["NO_AUTHENTICATION", "NoAuthentication", "Tokens", "check_bearer", "is_one_of", "secrets_of"]


class NoAuthentication:
    """The type of `NO_AUTHENTICATION`."""

    def __repr__(self) -> str:
        return "NO_AUTHENTICATION"


NO_AUTHENTICATION: Final = NoAuthentication()
"""Everybody may call: for apps that check callers themselves, in front of this one."""

Tokens = str | bytes | Sequence[str | bytes]
"""A secret, or several of which each is good: the new and the old one while they are changed."""

_SCHEME = b"bearer"


def secrets_of(tokens: Tokens | NoAuthentication | None, name: str, *, instead: str = "") -> tuple[bytes, ...] | None:
    """The secrets as bytes; None for `NO_AUTHENTICATION`. Raises `InvalidArgumentError` where there is none."""
    if isinstance(tokens, NoAuthentication):
        return None
    many = [tokens] if isinstance(tokens, (str, bytes)) else list(tokens or ())
    if not many:
        raise InvalidArgumentError(
            f"{name} is missing: nothing would keep strangers out. "
            f"Give a secret (is its environment variable set?){instead}."
        )
    return tuple(_secret(token, name) for token in many)


def _secret(token: object, name: str) -> bytes:
    secret = token.encode() if isinstance(token, str) else token
    if not isinstance(secret, bytes):
        raise InvalidArgumentError(f"{name} must be text or bytes, not {type(token).__name__}.")
    if not secret:
        raise InvalidArgumentError(f"{name} is empty: is its environment variable set?")
    if secret.strip() != secret or not all(32 < byte != 127 for byte in secret):
        # A header never arrives with it, so nobody could ever use this secret.
        raise InvalidArgumentError(
            f"{name} holds white space or control characters (a newline at its end?): remove them."
        )
    return secret


def is_one_of(given: bytes, secrets: tuple[bytes, ...]) -> bool:
    """Whether it is one of the secrets, in a time that tells nothing about them."""
    found = False
    for secret in secrets:
        found |= hmac.compare_digest(given, secret)
    return found


def check_bearer(headers: Sequence[tuple[bytes, bytes]], secrets: tuple[bytes, ...] | None) -> bool:
    """Whether a request carries one of the secrets as its bearer token. Two Authorization headers are none."""
    if secrets is None:
        return True
    given = [value for name, value in headers if name.lower() == b"authorization"]
    if len(given) != 1:
        return False
    scheme, _, token = given[0].strip().partition(b" ")
    return scheme.lower() == _SCHEME and is_one_of(token.strip(), secrets)
