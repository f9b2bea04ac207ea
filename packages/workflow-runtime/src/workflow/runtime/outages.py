"""What a worker says and does while its store can't be reached."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta

__all__ = ["Outage"]

logger = logging.getLogger("workflow.runtime")

_FIRST_DELAY = 0.5
_LONGEST_DELAY = 15.0


class Outage:
    """Counts failures in a row. One line when it begins and whenever its reason changes, one when it is over."""

    def __init__(self) -> None:
        self._since: datetime | None = None
        self._reason = ""
        self._delay = _FIRST_DELAY

    @property
    def active(self) -> bool:
        return self._since is not None

    def failed(self, error: Exception, now: datetime) -> timedelta:
        """The store has failed: how long to leave it alone now. The waits grow up to 15 seconds."""
        self._since = self._since or now
        delay, self._delay = self._delay, min(self._delay * 2, _LONGEST_DELAY)
        reason = f"{type(error).__name__}: {error}"
        if reason != self._reason:
            self._reason = reason
            logger.warning("The worker can't use its store, and goes on trying. %s", reason)
            logger.debug("What the store raised:", exc_info=error)
        return timedelta(seconds=delay)

    def over(self, now: datetime) -> None:
        """The store has answered."""
        if self._since is None:
            return
        logger.warning("The worker's store is back after %.1f s.", (now - self._since).total_seconds())
        self._since, self._reason, self._delay = None, "", _FIRST_DELAY
