"""Where a page of runs ended, as an opaque string."""

from __future__ import annotations

import base64
import binascii
from datetime import datetime

from pydantic_core import from_json, to_json

from workflow.core import InvalidArgumentError
from workflow.core.arguments import aware

__all__ = ["decode_cursor", "encode_cursor"]


def encode_cursor(created_at: datetime, run_id: str) -> str:
    return base64.urlsafe_b64encode(to_json([created_at.isoformat(), run_id])).decode().rstrip("=")


def decode_cursor(cursor: str) -> tuple[datetime, str]:
    """Raises `InvalidArgumentError` for a string that `encode_cursor` has not made."""
    try:
        created_at, run_id = from_json(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        if not isinstance(run_id, str):
            raise ValueError("no run id")
        return aware(datetime.fromisoformat(created_at), "created_at"), run_id
    except (ValueError, TypeError, OverflowError, binascii.Error) as error:
        raise InvalidArgumentError(f"{cursor!r} is not a cursor of list_runs: pass next_cursor on as it is.") from error
