"""Looking at runs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence
from datetime import datetime
from typing import Any, cast

from workflow.core import WorkflowEvent
from workflow.core.arguments import Duration, identifier
from workflow.core.records import RunStatus
from workflow.runtime.results import Run, RunPage
from workflow.runtime.spans import count

from .parts import RuntimeParts

__all__ = ["Looking"]


class Looking(RuntimeParts):
    """The verbs that read."""

    async def get_run(self, run_id: str) -> Run[Any] | None:
        """The run, or None."""
        return await self._reader.get_run(identifier(run_id, "run_id"))

    async def list_runs(
        self,
        *,
        workflow_id: str | None = None,
        status: RunStatus | Collection[RunStatus] | None = None,
        created_from: datetime | None = None,
        created_until: datetime | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> RunPage:
        """A page of runs, newest first. Pass `next_cursor` of a page as `cursor` to get the next one."""
        return await self._reader.list_runs(workflow_id, status, created_from, created_until, limit, cursor)

    async def get_timeline(self, run_id: str, *, after: int = -1, limit: int | None = None) -> Sequence[WorkflowEvent]:
        """The logged events of a run with an index greater than `after`. Raises `RunNotFoundError`."""
        count(after, "after", least=-1)
        if limit is not None:
            count(limit, "limit", least=1)
        return cast(
            "Sequence[WorkflowEvent]", await self._reader.get_timeline(identifier(run_id, "run_id"), after, limit)
        )

    def stream(self, run_id: str, *, after: int = -1) -> AsyncIterator[WorkflowEvent]:
        """The logged events of a run after that index, and then each as it is committed, until the run has ended.

        Sees what other processes do by polling, at most a second later. Raises `RunNotFoundError`.
        """
        return cast(
            "AsyncIterator[WorkflowEvent]",
            self._reader.stream(identifier(run_id, "run_id"), count(after, "after", least=-1)),
        )

    async def wait_for_run(self, run_id: str, timeout: Duration | None = None) -> Run[Any] | None:
        """Wait until the run has ended; None if there is no such run. Does not drive it.

        Raises `TimeoutError` after `timeout` seconds.
        """
        return await self._reader.wait_for_run(identifier(run_id, "run_id"), timeout)
