"""`MemoryStore`: the whole store contract in this process's memory. For tests and demos only.

Due runs are found through heaps, one for each workflow and status, whose entries are corrected when they come up
rather than when a run moves. A run has at most one current entry in a heap, at its due time or earlier: a lease that
is prolonged with every commit costs a comparison each time, not a new entry.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Collection, Sequence
from datetime import datetime
from heapq import heappop, heappush

from workflow.core.memory import InMemoryRunStore, StoredRun
from workflow.core.records import ClaimedRun, Lease, RunRecord, RunStatus

from .contract import Capabilities, ClaimLimits, ExecutionStore, HeldLease, Renewal, RunFilter

__all__ = ["MemoryStore"]

_Entry = tuple[datetime, str]
"""A time and a run id."""
_Queue = tuple[str, RunStatus]
"""The runs of one workflow that have one status."""


class MemoryStore(InMemoryRunStore, ExecutionStore):
    """An `ExecutionStore` that forgets everything with its process. Use it on one event loop."""

    capabilities = Capabilities(durable=False, shared=False, renews_from_any_loop=False)

    def __init__(self) -> None:
        super().__init__()
        self._due: defaultdict[_Queue, list[_Entry]] = defaultdict(list)
        self._entered: dict[tuple[str, RunStatus], datetime] = {}
        """The time of each run's current entry in the queue of that status."""
        self._ended: defaultdict[str, list[_Entry]] = defaultdict(list)
        """Ended runs of each workflow, a heap by `completed_at`."""
        self._by_creation: list[_Entry] = []

    async def claim_due(
        self, workflow_ids: Collection[str], lease: Lease, *, limits: ClaimLimits, now: datetime
    ) -> Sequence[ClaimedRun]:
        kinds: tuple[tuple[RunStatus, int], ...] = (
            ("running", limits.recovered),
            ("queued", limits.ready),
            ("paused", limits.timers),
        )
        ids = set(workflow_ids)
        found = [entry for status, limit in kinds for entry in self._take_due(ids, status, limit, now)]
        return [self._claim(self._runs[run_id], lease, now) for _, run_id in sorted(found)]

    async def renew(self, held: Collection[HeldLease], *, until: datetime, now: datetime) -> Sequence[Renewal]:
        return [renewal for lease in held if (renewal := self._renew(lease, until)) is not None]

    async def next_due(self, workflow_ids: Collection[str]) -> datetime | None:
        statuses: tuple[RunStatus, ...] = ("running", "queued", "paused")
        tops = (self._top((workflow_id, status)) for workflow_id in workflow_ids for status in statuses)
        return min((top[0] for top in tops if top is not None), default=None)

    async def list_runs(self, query: RunFilter) -> Sequence[RunRecord]:
        found: list[RunRecord] = []
        position = self._newest(query)
        while position > 0 and len(found) < query.limit:
            position -= 1
            created_at, run_id = self._by_creation[position]
            if query.created_from is not None and created_at < query.created_from:
                break
            if _matches(self._runs[run_id], query):
                found.append(self._runs[run_id].record())
        return found

    async def purge(self, older_than: datetime, *, workflow_id: str | None = None, limit: int = 1000) -> int:
        heaps = list(self._ended.values()) if workflow_id is None else [self._ended.get(workflow_id, [])]
        purged: set[str] = set()
        for heap in heaps:
            while heap and heap[0][0] < older_than and len(purged) < limit:
                purged.add(heappop(heap)[1])
        for run_id in purged:
            self._forget(run_id)
        if purged:
            self._by_creation = [entry for entry in self._by_creation if entry[1] not in purged]
        return len(purged)

    async def migrate(self) -> None:
        """There is no schema."""

    async def check(self) -> None:
        """There is nothing that could be wrong."""

    async def close(self) -> None:
        """There is nothing to let go of; what is stored stays readable."""

    def _renew(self, held: HeldLease, until: datetime) -> Renewal | None:
        run = self._runs.get(held.run_id)
        if run is None or run.status != "running" or run.fence != held.fence:
            return None
        run.due_at = until
        self._moved(run)
        return Renewal(held.run_id, held.fence, run.mail_count)

    def _added(self, run: StoredRun) -> None:
        insort(self._by_creation, (run.created_at, run.run_id))

    def _moved(self, run: StoredRun) -> None:
        due_at = run.due_at
        if due_at is not None:
            entered = self._entered.get((run.run_id, run.status))
            if entered is None or due_at < entered:
                self._enter(run, due_at)
        elif run.completed_at is not None:
            heappush(self._ended[run.workflow_id], (run.completed_at, run.run_id))

    def _enter(self, run: StoredRun, due_at: datetime) -> None:
        self._entered[run.run_id, run.status] = due_at
        heappush(self._due[run.workflow_id, run.status], (due_at, run.run_id))

    def _take_due(self, workflow_ids: Collection[str], status: RunStatus, limit: int, now: datetime) -> set[_Entry]:
        """Take at most `limit` due runs of a status out of their queues, the longest due first.

        A run that went to and fro between two times may have left two equal entries: it is taken once.
        """
        taken: set[_Entry] = set()
        while len(taken) < limit:
            tops = [(top, id_) for id_ in workflow_ids if (top := self._top((id_, status))) is not None]
            if not tops or (first := min(tops))[0][0] > now:
                break
            taken.add(first[0])
            self._leave((first[1], status))
        return taken

    def _top(self, queue: _Queue) -> _Entry | None:
        """The first run of a queue, after the correction of entries whose run has moved since."""
        heap = self._due.get(queue, ())
        while heap:
            due_at, run_id = heap[0]
            run = self._runs.get(run_id)
            if run is not None and run.status == queue[1] and run.due_at == due_at:
                return heap[0]
            self._leave(queue)
            if run is not None and run.status == queue[1]:
                self._moved(run)
        return None

    def _leave(self, queue: _Queue) -> None:
        due_at, run_id = heappop(self._due[queue])
        if self._entered.get((run_id, queue[1])) == due_at:
            del self._entered[run_id, queue[1]]

    def _forget(self, run_id: str) -> None:
        del self._runs[run_id]
        for status in ("running", "queued", "paused"):
            self._entered.pop((run_id, status), None)

    def _newest(self, query: RunFilter) -> int:
        """The position after the first row to look at, from the newest on."""
        end = len(self._by_creation)
        if query.before is not None:
            end = bisect_left(self._by_creation, query.before)
        if query.created_until is not None:
            end = min(end, bisect_left(self._by_creation, (query.created_until, "")))
        return end


def _matches(run: StoredRun, query: RunFilter) -> bool:
    if query.workflow_id is not None and run.workflow_id != query.workflow_id:
        return False
    return query.status is None or run.status in query.status
