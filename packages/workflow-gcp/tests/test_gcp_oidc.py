"""Identity tokens, verified with google-auth against keys of our own."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from workflow.core import InvalidArgumentError
from workflow.gcp import OIDC, create_http_function, create_sweep_function
from workflow.gcp.oidc import KeptAnswers
from workflow.runtime import MemoryStore, WorkflowRuntime

AUDIENCE = "https://sweep-abc.run.app"
ACCOUNT = "scheduler@project.iam.gserviceaccount.com"


def make_runtime() -> WorkflowRuntime:
    return WorkflowRuntime(MemoryStore(), [])


class Signer:
    """A key and its certificate, as Google publishes them."""

    def __init__(self) -> None:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import rsa

        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
        now = datetime.now(UTC)
        builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        builder = builder.serial_number(1).not_valid_before(now - timedelta(days=1))
        certificate = builder.not_valid_after(now + timedelta(days=1)).sign(key, hashes.SHA256())
        form = serialization.PrivateFormat.PKCS8
        plain = serialization.NoEncryption()
        self._key = key.private_bytes(serialization.Encoding.PEM, form, plain)
        self.certificate = certificate.public_bytes(serialization.Encoding.PEM).decode()

    def token(self, **claims: Any) -> str:
        from google.auth import crypt, jwt

        now = int(time.time())
        payload = {
            "iss": "https://accounts.google.com",
            "aud": AUDIENCE,
            "email": ACCOUNT,
            "email_verified": True,
            "iat": now,
            "exp": now + 600,
            **claims,
        }
        signer = crypt.RSASigner.from_string(self._key, key_id="k1")
        return jwt.encode(signer, payload).decode()


class Keys:
    """A transport that answers with the certificates, as Google does."""

    def __init__(self, certificate: str, status: int = 200) -> None:
        self.status = status
        self.data = json.dumps({"k1": certificate}).encode()
        self.calls = 0

    def __call__(self, url: str, method: str = "GET", **more: Any) -> Keys:
        self.calls += 1
        return self


@pytest.fixture(scope="module")
def signer() -> Signer:
    pytest.importorskip("google.auth")
    pytest.importorskip("cryptography")
    return Signer()


class FakeRequest:
    """What a function gets from functions-framework."""

    def __init__(self, token: str | None) -> None:
        from starlette.requests import Request

        headers = [] if token is None else [(b"authorization", f"Bearer {token}".encode())]
        self.scope = {"type": "http", "method": "POST", "path": "/", "query_string": b"", "headers": headers}
        self.headers = Request(self.scope).headers


def call(oidc: OIDC, token: str | None) -> Any:
    return asyncio.run(_awaited(create_sweep_function(make_runtime, oidc=oidc)(FakeRequest(token))))


async def _awaited(work: Any) -> Any:
    return await work


def test_the_scheduler_is_let_in(signer: Signer):
    """A token of the right account for this audience sweeps."""
    answer = call(OIDC(audience=AUDIENCE, emails=[ACCOUNT], transport=Keys(signer.certificate)), signer.token())
    assert answer.status_code == 200 and json.loads(answer.body)["summary"]["ready"] == {}


@pytest.mark.parametrize(
    "claims",
    [
        {"aud": "https://other.run.app"},
        {"email": "somebody@else.iam.gserviceaccount.com"},
        {"email": None},
        {"email_verified": False},
        {"email_verified": "true"},
        {"iss": "https://accounts.evil.com"},
        {"exp": 1, "iat": 0},
        {"iat": 4_000_000_000, "exp": 4_000_000_600},
    ],
)
def test_a_token_for_something_else_is_refused(signer: Signer, claims: dict[str, Any]):
    """Another audience, account or issuer, an account that is not verified, or another time: each is refused."""
    oidc = OIDC(audience=AUDIENCE, emails=ACCOUNT, transport=Keys(signer.certificate))
    assert call(oidc, signer.token(**claims)).status_code == 401


@pytest.mark.parametrize("token", [None, "", "x", "a.b.c", "é", "e30.e30.", "x" * 10_000])
def test_what_is_no_token_is_refused(signer: Signer, token: str | None):
    """Missing, malformed or huge tokens are refused."""
    oidc = OIDC(audience=AUDIENCE, emails=ACCOUNT, transport=Keys(signer.certificate))
    assert call(oidc, token).status_code == 401


def test_a_token_signed_by_somebody_else_is_refused(signer: Signer):
    """A token that another key has signed is refused, whatever it says."""
    oidc = OIDC(audience=AUDIENCE, emails=ACCOUNT, transport=Keys(signer.certificate))
    assert call(oidc, Signer().token()).status_code == 401


def test_without_googles_keys_nobody_is_let_in(signer: Signer):
    """When the keys can't be fetched the answer is 503: neither in, nor refused for good."""
    answer = call(OIDC(audience=AUDIENCE, emails=ACCOUNT, transport=Keys("", status=500)), signer.token())
    assert answer.status_code == 503


def test_googles_keys_are_kept_for_a_while():
    """The keys are fetched once in a while, not for each sweep; a failure is not kept."""
    now = [0.0]
    keys = Keys("x")
    kept = KeptAnswers(keys, seconds=10, clock=lambda: now[0])
    for now[0] in (0, 5, 11, 12):
        kept("https://keys")
    assert keys.calls == 2
    keys.status = 500
    for now[0] in (30, 31):
        kept("https://keys")
    assert keys.calls == 4


@pytest.mark.parametrize(
    "make",
    [
        lambda: OIDC(audience=None, emails=ACCOUNT),
        lambda: OIDC(audience=AUDIENCE, emails=None),
        lambda: OIDC(audience=AUDIENCE, emails=[""]),
        lambda: create_sweep_function(make_runtime),
        lambda: create_sweep_function(make_runtime, secret=""),
        lambda: create_sweep_function(make_runtime, secret="s", oidc=OIDC(audience="a", emails="e")),
        lambda: create_http_function(make_runtime, token=None),
    ],
)
def test_a_function_that_anybody_could_call_is_not_made(make: Callable[[], Any]):
    """A function without a complete check of its callers is an error where it is written."""
    with pytest.raises(InvalidArgumentError):
        make()


def test_functions_have_the_names_of_their_targets():
    """functions-framework finds a function by its name, which can be chosen."""
    assert create_sweep_function(make_runtime, secret="s").__name__ == "sweep"
    assert create_http_function(make_runtime, token="t", name="shop").__name__ == "shop"
