"""What D1 says when something goes wrong, sorted by what it means for whoever asked.

D1 has no codes worth the name (the REST API answers 7500 for a syntax error and for an outage alike), so errors are
told apart by what their messages say.
"""

from __future__ import annotations

from workflow.core.errors import PayloadError, StoreError, StoreUnavailableError, WorkflowError

__all__ = ["D1UnavailableError", "d1_error"]


class D1UnavailableError(StoreUnavailableError):
    """D1 could not answer, and probably can a little later.

    `maybe_written` is False where it is certain that nothing was written. Otherwise the operation may have happened, as
    after any lost connection: each operation's docstring says what its repetition does then. `retry_after` is how many
    seconds to wait, where the answer said so.
    """

    def __init__(self, message: str, *, maybe_written: bool, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.maybe_written = maybe_written
        self.retry_after = retry_after


# Refused at the door: the statements have not been looked at.
_BUSY = ("overloaded", "too many requests queued", "queued for too long", "cannot resolve d1 db")
# Broken off: they may have been carried out.
_LOST = (
    "client disconnected",
    "connection lost",
    "cpu time limit",
    "exceeded timeout",
    "fetch failed",
    "internal error",
    "memory limit",
    "network",
    "object reset",
    "to be reset",
    "was reset",
    "db reset",
    "timed out",
)
_TOO_BIG = ("sqlite_toobig", "too big")
_FULL = ("sqlite_full", "maximum db size", "disk is full")
_NO_SCHEMA = "no such table: workflow_"


def d1_error(message: str, where: str) -> WorkflowError:
    """The error to raise for what D1 said."""
    said = message.lower()
    if any(phrase in said for phrase in _TOO_BIG):
        return PayloadError(f"A value is too large for a row of {where} (2 MB): {message}. Nothing was written.")
    if any(phrase in said for phrase in _FULL):
        return StoreError(
            f"{where} is full: {message}. Nothing was written. Purge ended runs, then repeat what was refused."
        )
    if _NO_SCHEMA in said:
        return StoreError(f"{where} has no workflow schema ({message}): {MIGRATE} first.")
    if any(phrase in said for phrase in _BUSY):
        return D1UnavailableError(f"{where} is overloaded: {message}. Nothing was written.", maybe_written=False)
    # An SQLite error is one of the statement, whatever words it is made of.
    if "sqlite_" not in said and any(phrase in said for phrase in _LOST):
        return D1UnavailableError(f"{where} broke off: {message}. It may have been written.", maybe_written=True)
    return StoreError(f"{where} refused a statement: {message}. Nothing was written.")


MIGRATE = "apply the migrations (`wrangler d1 migrations apply`, or `python -m workflow.store.d1 migrate`)"
