"""Runs kept in Cloudflare D1: by a Worker's binding, or from anywhere by Cloudflare's REST API.

    store = D1Store(env.DB)                                               # in a Python Worker
    store = D1Store.from_http(account_id, database_id, api_token)         # elsewhere; needs the extra `http`

The logic and the SQL are those of `workflow.store.sqlite`. This package brings the two doors, and keeps within D1's
limits.
"""

from __future__ import annotations

from .errors import D1UnavailableError
from .store import D1Store
from .usage import Usage

__all__ = ["D1Store", "D1UnavailableError", "Usage"]
