"""`MemoryStore`: the whole store contract in this process's memory. For tests and demos only.

Due runs are found through heaps, one for each workflow, queue and status, whose entries are corrected when they come up
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
from workflow.core.records import ClaimedRun, Lease, NewRun, RunRecord, RunStatus

from .contract import Capabilities, ClaimLimits, ExecutionStore, HeldLease, Renewal, RunFilter
from .memory_queues import pick
from .memory_schedules import MemorySchedules
from .queues import Queue

__all__ = ["MemoryStore"]

_Entry = tuple[datetime, str]
"""A time and a run id."""
_Lane = tuple[str, str]
"""A workflow and a queue."""
_Due = tuple[_Lane, RunStatus]
"""The runs of one lane that have one status."""


class MemoryStore(MemorySchedules, InMemoryRunStore, ExecutionStore):
    """An `ExecutionStore` that forgets everything with its process. Use it on one event loop."""

    capabilities = Capabilities(durable=False, shared=False, renews_from_any_loop=False, queues=True, schedules=True)

    def __init__(self) -> None:
        super().__init__()
        self._lanes: defaultdict[str, set[_Lane]] = defaultdict(set)
        """The lanes of each workflow."""
        self._due: defaultdict[_Due, list[_Entry]] = defaultdict(list)
        self._entered: dict[tuple[str, RunStatus], datetime] = {}
        """The time of each run's current entry in the queue of that status."""
        self._ended: defaultdict[str, list[_Entry]] = defaultdict(list)
        """Ended runs of each workflow, a heap by `completed_at`."""
        self._by_creation: list[_Entry] = []

    async def claim_due(
        self,
        workflow_ids: Collection[str],
        lease: Lease,
        *,
        limits: ClaimLimits,
        now: datetime,
        without: Collection[str] = (),
    ) -> Sequence[ClaimedRun]:
        kinds: tuple[tuple[RunStatus, int], ...] = (
            ("running", limits.recovered),
            ("queued", limits.ready),
            ("paused", limits.timers),
        )
        lanes = self._lanes_of(workflow_ids, without)
        found = [entry for status, limit in kinds for entry in self._take_due(lanes, status, limit, now)]
        return [self._claim(self._runs[run_id], lease, now) for _, run_id in sorted(found)]

    async def claim_queue(
        self,
        queue: Queue,
        workflow_ids: Collection[str],
        lease: Lease,
        *,
        limits: ClaimLimits,
        now: datetime,
        by_age: bool = False,
        run_id: str | None = None,
    ) -> Sequence[ClaimedRun]:
        runs = [run for run in self._runs.values() if run.queue_name == queue.name]
        ids = frozenset(workflow_ids)
        wanted = [run for run in runs if run.workflow_id in ids and run_id in (None, run.run_id)]
        picked = pick(queue, runs, wanted, limits=limits, now=now, by_age=by_age)
        return [self._claim(run, lease, now) for run in picked]

    async def renew(self, held: Collection[HeldLease], *, until: datetime, now: datetime) -> Sequence[Renewal]:
        return [renewal for lease in held if (renewal := self._renew(lease, until)) is not None]

    async def next_due(self, workflow_ids: Collection[str], *, without: Collection[str] = ()) -> datetime | None:
        statuses: tuple[RunStatus, ...] = ("running", "queued", "paused")
        lanes = self._lanes_of(workflow_ids, without)
        tops = (self._top((lane, status)) for lane in lanes for status in statuses)
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
                completed_at, run_id = heappop(heap)
                run = self._runs.get(run_id)  # one that was reopened has an entry for each of its ends
                if run is not None and run.completed_at == completed_at:
                    purged.add(run_id)
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

    def _lanes_of(self, workflow_ids: Collection[str], without: Collection[str]) -> list[_Lane]:
        lanes = [lane for workflow_id in set(workflow_ids) for lane in self._lanes.get(workflow_id, ())]
        return [lane for lane in lanes if lane[1] not in without]

    def _added(self, run: StoredRun) -> None:
        super()._added(run)
        self._lanes[run.workflow_id].add(_lane(run))
        insort(self._by_creation, (run.created_at, run.run_id))

    def _replace(self, run: StoredRun, new: NewRun, now: datetime) -> None:
        self._entered.pop((run.run_id, run.status), None)  # it may leave its lane
        super()._replace(run, new, now)
        self._lanes[run.workflow_id].add(_lane(run))

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
        heappush(self._due[_lane(run), run.status], (due_at, run.run_id))

    def _take_due(self, lanes: Collection[_Lane], status: RunStatus, limit: int, now: datetime) -> set[_Entry]:
        """Take at most `limit` due runs of a status out of their queues, the longest due first.

        A run that went to and fro between two times may have left two equal entries: it is taken once.
        """
        taken: set[_Entry] = set()
        while len(taken) < limit:
            tops = [(top, lane) for lane in lanes if (top := self._top((lane, status))) is not None]
            if not tops or (first := min(tops))[0][0] > now:
                break
            taken.add(first[0])
            self._leave((first[1], status))
        return taken

    def _top(self, queue: _Due) -> _Entry | None:
        """The first run of a queue, after the correction of entries whose run has moved since."""
        heap = self._due.get(queue, ())
        while heap:
            due_at, run_id = heap[0]
            run = self._runs.get(run_id)
            if run is not None and (_lane(run), run.status) == queue and run.due_at == due_at:
                return heap[0]
            self._leave(queue)
            if run is not None and run.status == queue[1]:
                self._moved(run)
        return None

    def _leave(self, queue: _Due) -> None:
        due_at, run_id = heappop(self._due[queue])
        if self._entered.get((run_id, queue[1])) == due_at:
            del self._entered[run_id, queue[1]]

    def _forget(self, run_id: str) -> None:
        for status in ("running", "queued", "paused"):
            self._entered.pop((run_id, status), None)
        super()._forget(run_id)

    def _newest(self, query: RunFilter) -> int:
        """The position after the first row to look at, from the newest on."""
        end = len(self._by_creation)
        if query.before is not None:
            end = bisect_left(self._by_creation, query.before)
        if query.created_until is not None:
            end = min(end, bisect_left(self._by_creation, (query.created_until, "")))
        return end


def _lane(run: StoredRun) -> _Lane:
    return run.workflow_id, run.queue_name


def _matches(run: StoredRun, query: RunFilter) -> bool:
    if query.workflow_id is not None and run.workflow_id != query.workflow_id:
        return False
    return query.status is None or run.status in query.status
