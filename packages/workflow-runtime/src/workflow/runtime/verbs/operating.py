"""What people do with runs that went wrong, or are over."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from workflow.core import RunNotFoundError
from workflow.core.arguments import aware
from workflow.runtime.diagnosis import Diagnosis, diagnose, diagnose_open
from workflow.runtime.spans import count, span

from .parts import RuntimeParts

__all__ = ["Operating"]

_PURGE_BATCH = 1000


class Operating(RuntimeParts):
    """The verbs of an operator."""

    async def why_stuck(self, run_id: str) -> Diagnosis:
        """What a run does or waits for, in plain words, and what helps if it is stuck. Raises `RunNotFoundError`."""
        run = await self.store.get_run(run_id)
        if run is None:
            raise RunNotFoundError(run_id)
        return diagnose(run, self._registry, self.clock.now())

    async def diagnose_open(self, *, limit: int = 1000) -> Sequence[Diagnosis]:
        """The same for the runs that have not ended, the newest `limit` of them."""
        count(limit, "limit", least=1)
        return await diagnose_open(self.store, self._registry, self.clock.now(), limit)

    async def purge(
        self,
        older_than: datetime | timedelta,
        *,
        workflow_id: str | None = None,
        limit: int | None = None,
        now: datetime | None = None,
    ) -> int:
        """Delete runs that have ended before that time (or longer ago than that), in batches; returns how many.

        Runs that have not ended are never deleted. `limit` bounds the number.
        """
        if isinstance(older_than, timedelta):
            before = self._budget(now, None).clock.now() - span(older_than, "older_than")
        else:
            before = aware(older_than, "older_than")
        left = None if limit is None else count(limit, "limit")
        total = 0
        while left is None or total < left:
            batch = _PURGE_BATCH if left is None else min(_PURGE_BATCH, left - total)
            deleted = await self.store.purge(before, workflow_id=workflow_id, limit=batch)
            total += deleted
            if deleted < batch:
                break
        return total
