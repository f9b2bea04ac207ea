"""Workflows over HTTP: `WorkflowHTTP`, a plain ASGI app, and webhooks that become signals."""

from .app import WorkflowHTTP
from .webhook import Signal, SignatureError, Webhook, WebhookRequest, hmac_signature, stripe_signature

__all__ = [
    "Signal",
    "SignatureError",
    "Webhook",
    "WebhookRequest",
    "WorkflowHTTP",
    "hmac_signature",
    "stripe_signature",
]
