"""The time limit of a whole run."""

from __future__ import annotations

import asyncio
import json
from datetime import datetime

from workflow.core.loop import DurableLoop

from .operations import Operation

__all__ = ["Expiry"]


class Expiry(Operation):
    """Waits with the handler's timers for the time when the run is asked to cancel. The handler knows nothing of it."""

    __slots__ = ("at",)
    kind = "expiry"

    def __init__(self, until: datetime, loop: DurableLoop) -> None:
        super().__init__("$expiry", asyncio.Future(loop=loop))
        self.until = self.at = until

    @property
    def reason(self) -> str:
        """JSON text: what the cancel request says."""
        return json.dumps(f"the run had not ended by {self.at.isoformat()}, its time limit")

    def lift(self) -> None:
        """It is of no account any more: the run has been asked to cancel."""
        self.future.cancel()
