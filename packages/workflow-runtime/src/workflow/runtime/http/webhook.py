"""Webhooks: the events of others, verified by their signature, become signals of runs.

def to_signal(request: WebhookRequest) -> Signal | None:
    event = request.json()
    if event["type"] != "payment_intent.succeeded":
        return None
    intent = event["data"]["object"]
    return Signal(intent["metadata"]["run_id"], event["id"], "payment-received", {"payment_id": intent["id"]})

stripe = Webhook(verify=stripe_signature(os.environ["STRIPE_WEBHOOK_SECRET"]), signals=to_signal)
app = WorkflowHTTP(runtime, token=..., webhooks={"stripe": stripe})     # POST /webhooks/stripe
"""

from __future__ import annotations

import hashlib
import hmac
import inspect
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from pydantic_core import from_json

from workflow.core import InvalidArgumentError
from workflow.runtime.answers import RunResultAnswer
from workflow.runtime.hosting import RuntimeSource

from .auth import Tokens, is_one_of, secrets_of
from .bodies import WebhookAnswer
from .messages import Answer, Request
from .problems import Problem

__all__ = [
    "Signal",
    "SignatureError",
    "Webhook",
    "WebhookRequest",
    "hmac_signature",
    "receive_webhook",
    "stripe_signature",
]

_MAX_CANDIDATES = 10


class SignatureError(Exception):
    """The signature of a webhook is missing or wrong."""


@dataclass(frozen=True)
class WebhookRequest:
    """What came: headers by lower-case name, and the body as it was signed."""

    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """The body as JSON. What is no JSON is answered with 400."""
        return self._json

    @cached_property
    def _json(self) -> Any:
        try:
            return from_json(self.body)
        except ValueError as error:
            raise Problem(400, "invalid_json", "The body is not JSON.") from error


@dataclass(frozen=True, slots=True)
class Signal:
    """A signal to deliver. Take `signal_id` from the event: its sender repeats events."""

    run_id: str
    signal_id: str
    name: str
    payload: Any = None


Verify = Callable[[WebhookRequest], bool | Awaitable[bool]]
Found = Signal | Iterable[Signal] | None
Signals = Callable[[WebhookRequest], Awaitable[Found] | Found]


@dataclass(frozen=True)
class Webhook:
    """How the events of one sender are taken.

    - `verify(request)`: only True lets it through. Sync or async, as is `signals`.
    - `signals(request)`: which signals an event is, one, several or none.
    - `drive`, `max_duration`: go on with the run before the answer, for so many seconds: senders are impatient.
    - `retry_unknown`: answer 404 for a run that there is not, so that the sender tries again later: an event may well
      come before its run is started. False: such an event is dropped.
    """

    verify: Verify
    signals: Signals
    drive: bool = True
    max_duration: float = field(default=5.0)
    retry_unknown: bool = True


async def receive_webhook(
    hook: Webhook, request: Request, source: RuntimeSource, budget: Callable[[], float]
) -> Answer:
    """Verify, map, deliver. An event that can never be delivered is answered as done: a retry would not help."""
    if request.method != "POST":
        raise Problem(405, "method_not_allowed", "A webhook takes POST.", headers={"allow": "POST"})
    headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in request.headers}
    event = WebhookRequest(headers, await request.body())
    await _verify(hook, event)
    found = hook.signals(event)
    signals = await found if inspect.isawaitable(found) else found
    answers: list[RunResultAnswer] = []
    for signal in [signals] if isinstance(signals, Signal) else list(signals or ()):
        answers.append(await _deliver(hook, signal, source, budget))
    return Answer(WebhookAnswer(delivered=[answer.kind for answer in answers]))


async def _verify(hook: Webhook, event: WebhookRequest) -> None:
    try:
        verdict = hook.verify(event)
        genuine: bool = (await verdict if inspect.isawaitable(verdict) else verdict) is True
    except SignatureError:
        genuine = False
    if not genuine:
        raise Problem(401, "bad_signature", "The signature is missing or wrong.")


async def _deliver(
    hook: Webhook, signal: Signal, source: RuntimeSource, budget: Callable[[], float]
) -> RunResultAnswer:
    runtime = await source.get()
    result = await runtime.deliver_signal(
        run_id=signal.run_id,
        signal_id=signal.signal_id,
        name=signal.name,
        payload=signal.payload,
        drive=hook.drive,
        max_duration=min(hook.max_duration, budget()),
        include_events=False,
    )
    if result.kind == "not_found" and hook.retry_unknown:
        raise Problem(404, "run_not_found", "There is no such run yet.")
    return RunResultAnswer.of(result)


# -- Signatures


def hmac_signature(
    secret: Tokens | None, *, header: str = "x-hub-signature-256", prefix: str = "sha256=", digest: str = "sha256"
) -> Verify:
    """Verifies an HMAC of the body in a header, in hexadecimal, as GitHub and many others send it."""
    secrets = _secrets(secret)

    def verify(request: WebhookRequest) -> bool:
        given = request.headers.get(header.lower(), "")
        expected = tuple(hmac.new(key, request.body, digest).hexdigest().encode() for key in secrets)
        return given.startswith(prefix) and is_one_of(given[len(prefix) :].lower().encode(), expected)

    return verify


def stripe_signature(
    secret: Tokens | None,
    *,
    tolerance: float = 300.0,
    header: str = "stripe-signature",
    now: Callable[[], float] = time.time,
) -> Verify:
    """Verifies `t=<seconds>,v1=<HMAC of "t.body">,...`, as Stripe sends it. Too old or from the future is refused.

    Several secrets, or several `v1`: each pair that fits will do, while a secret is being changed.
    """
    secrets = _secrets(secret)

    def verify(request: WebhookRequest) -> bool:
        parts = [part.strip().partition("=") for part in request.headers.get(header.lower(), "").split(",")]
        times = [value for name, _, value in parts if name == "t"]
        given = [value.encode() for name, _, value in parts if name == "v1"][:_MAX_CANDIDATES]
        if len(times) != 1 or not (times[0].isascii() and times[0].isdigit() and len(times[0]) < 16):
            raise SignatureError("no time")
        if abs(now() - int(times[0])) > tolerance:
            raise SignatureError("too old")
        signed = times[0].encode() + b"." + request.body
        expected = tuple(hmac.new(key, signed, hashlib.sha256).hexdigest().encode() for key in secrets)
        return sum(is_one_of(value, expected) for value in given) > 0

    return verify


def _secrets(secret: Tokens | None) -> tuple[bytes, ...]:
    found = secrets_of(secret, "The secret of the webhook")
    if found is None:
        raise InvalidArgumentError("A webhook without a secret could be sent by anybody: write your own verify.")
    return found
