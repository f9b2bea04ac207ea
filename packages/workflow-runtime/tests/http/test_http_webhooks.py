"""Webhooks: verified, mapped, delivered once."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from workflow.core import InvalidArgumentError
from workflow.runtime.http import (
    Signal,
    SignatureError,
    Webhook,
    WebhookRequest,
    hmac_signature,
    stripe_signature,
)

SECRET = "whsec_for_tests"
NOW = 1_800_000_000


def signed(body: bytes, *, secret: str = SECRET, at: int = NOW) -> str:
    digest = hmac.new(secret.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={at},v1={digest}"


def payment(event_id: str = "evt_1", run_id: str = "o", kind: str = "payment_intent.succeeded") -> bytes:
    intent = {"id": "pi_1", "metadata": {"run_id": run_id}}
    return json.dumps({"id": event_id, "type": kind, "data": {"object": intent}}).encode()


def to_signal(request: WebhookRequest) -> Signal | None:
    event = request.json()
    if event["type"] != "payment_intent.succeeded":
        return None
    intent = event["data"]["object"]
    return Signal(intent["metadata"]["run_id"], event["id"], "paid", {"payment_id": intent["id"]})


@pytest.fixture
def send(site: Any) -> Callable[..., httpx.Response]:
    """Sends an event as Stripe does."""
    hook = Webhook(verify=stripe_signature([SECRET, "older"], now=lambda: NOW + 10), signals=to_signal)
    app = site.app(webhooks={"stripe": hook})

    def send(body: bytes, signature: str | None = None, method: str = "POST") -> httpx.Response:
        headers = {"stripe-signature": signed(body) if signature is None else signature}
        return site.call(method, "/webhooks/stripe", app=app, token=None, content=body, headers=headers)

    return send


def test_an_event_of_stripe_goes_on_with_its_run(site: Any, send: Callable[..., httpx.Response]):
    """A genuine event is delivered as a signal, drives its run, and changes nothing when it is sent again."""
    site.call("POST", "/runs", json={"workflow_id": "order", "run_id": "o", "input": {"order_id": "1"}})
    assert send(payment()).json() == {"delivered": ["completed"]}
    assert site.call("GET", "/runs/o").json()["output"] == "pi_1"
    again = send(payment())
    assert (again.status_code, again.json()["delivered"]) == (200, ["duplicate"])


def test_an_event_of_another_kind_is_taken_and_dropped(send: Callable[..., httpx.Response]):
    """An event that means nothing to the app is answered as done, so that it is not sent again."""
    answer = send(payment(kind="invoice.created"))
    assert (answer.status_code, answer.json()) == (200, {"delivered": []})


def test_an_event_that_comes_before_its_run_is_sent_again(site: Any, send: Callable[..., httpx.Response]):
    """For a run that is not there yet the sender is told to come back, and then delivers."""
    assert send(payment()).status_code == 404
    site.call("POST", "/runs", json={"workflow_id": "order", "run_id": "o", "input": {"order_id": "1"}})
    assert send(payment()).status_code == 200


@pytest.mark.parametrize(
    "signature",
    [
        "",
        "t=1",
        "v1=ab",
        f"t={NOW},v1=",
        f"t={NOW},v1=äö",
        f"t=x,v1={'0' * 64}",
        "t=" + "9" * 400 + ",v1=00",
        f"t={NOW},t={NOW},v1=00",
        signed(b"another body"),
        signed(payment(), secret="another secret"),
        signed(payment(), at=NOW - 1000),
        signed(payment(), at=NOW + 1000),
        signed(payment()).replace("v1", "v0"),
        f"t={NOW}," + ",".join(["v1=00"] * 100),
    ],
)
def test_a_forged_event_is_refused(site: Any, send: Callable[..., httpx.Response], signature: str):
    """An event with a wrong, old, missing or strange signature is refused, and nothing is delivered."""
    site.call("POST", "/runs", json={"workflow_id": "order", "run_id": "o", "input": {"order_id": "1"}})
    answer = send(payment(), signature.encode())
    assert (answer.status_code, answer.json()["code"]) == (401, "bad_signature")
    assert site.call("GET", "/runs/o").json()["status"] == "paused"


def test_a_secret_is_changed_while_both_are_good(send: Callable[..., httpx.Response]):
    """Events signed with the older secret are taken, and so are events that carry both signatures."""
    body = payment(kind="other")
    assert send(body, signed(body, secret="older")).status_code == 200
    assert send(body, f"{signed(body, secret='x')},{signed(body).partition(',')[2]}").status_code == 200


def test_a_genuine_event_that_is_no_json_is_a_bad_request(send: Callable[..., httpx.Response]):
    """A body that can't be read is the sender's mistake."""
    assert send(b"{").status_code == 400


def test_a_webhook_takes_post_only(send: Callable[..., httpx.Response]):
    """Anything but POST is refused."""
    assert send(b"", method="GET").status_code == 405


def test_a_hex_signature_in_a_header_is_verified():
    """GitHub's signatures, and others that are a plain HMAC of the body, are verified."""
    verify = hmac_signature("s3cret")
    digest = hmac.new(b"s3cret", b"body", "sha256").hexdigest()
    for header, verdict in ((f"sha256={digest}", True), (digest, False), ("sha256=", False), ("sha256=é", False)):
        assert verify(WebhookRequest({"x-hub-signature-256": header}, b"body")) is verdict
    assert verify(WebhookRequest({}, b"body")) is False


@pytest.mark.parametrize("make", [hmac_signature, stripe_signature])
@pytest.mark.parametrize("secret", [None, "", []])
def test_a_signature_without_a_secret_is_no_signature(make: Callable[[Any], Any], secret: Any):
    """A missing secret fails where it is written, not open."""
    with pytest.raises(InvalidArgumentError):
        make(secret)


@pytest.mark.parametrize("verdict", [None, 0, 1, "yes", False])
def test_only_true_lets_an_event_in(site: Any, verdict: Any):
    """A check that forgets its answer keeps everybody out."""
    app = site.app(webhooks={"hook": Webhook(verify=lambda request: verdict, signals=lambda request: None)})
    assert site.call("POST", "/webhooks/hook", app=app, token=None).status_code == 401


def test_checks_and_maps_may_be_async_and_give_many_signals(site: Any):
    """An event may become several signals; both functions may be coroutines; senders of unknown runs may be dropped."""

    async def verify(request: WebhookRequest) -> bool:
        if request.headers.get("x-key") != "k":
            raise SignatureError("no key")
        return True

    async def signals(request: WebhookRequest) -> list[Signal]:
        return [Signal(run_id, request.json()["id"], "paid", {"payment_id": "p"}) for run_id in ("a", "b", "none")]

    for run_id in ("a", "b"):
        site.call("POST", "/runs", json={"workflow_id": "order", "run_id": run_id, "input": {"order_id": "1"}})
    app = site.app(webhooks={"hook": Webhook(verify=verify, signals=signals, retry_unknown=False)})
    answer = site.call("POST", "/webhooks/hook", app=app, token=None, headers={"x-key": "k"}, json={"id": "e"})
    assert answer.json() == {"delivered": ["completed", "completed", "not_found"]}
    assert site.call("POST", "/webhooks/hook", app=app, token=None).status_code == 401


def test_a_webhook_needs_no_token_but_other_names_do(site: Any):
    """Only names that were given answer without a token; the name must be fit for a path."""
    app = site.app(webhooks={"hook": Webhook(verify=lambda request: True, signals=lambda request: None)})
    assert site.call("POST", "/webhooks/hook", app=app, token=None).status_code == 200
    assert site.call("POST", "/webhooks/other", app=app, token=None).status_code == 401
    assert site.call("POST", "/webhooks/other", app=app).status_code == 404
    with pytest.raises(InvalidArgumentError):
        site.app(webhooks={"a/b": Webhook(verify=lambda request: True, signals=lambda request: None)})
