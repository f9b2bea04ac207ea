"""What to claim next, so that every kind of work and every workflow gets its turn."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import cycle

from workflow.core.records import ClaimedRun, Lease, RunStatus

from .contract import ClaimLimits, ExecutionStore
from .queues import Queue

__all__ = ["PARTS", "Group", "Quota", "Rota", "Turn", "part_counts", "shares"]

_BY_AGE = 4
"""Every how manyth claim of a queue goes by age alone."""

PARTS: dict[RunStatus, str] = {"running": "recovered", "queued": "ready", "paused": "timers"}
"""What a claimed run is called, by the status it was claimed from."""


def shares(parts: Sequence[str], left: Mapping[str, int], free: int) -> dict[str, int]:
    """How many to ask for of each part, so that it is `free` in all at most, and each part has its turn.

    Only the `parts` are asked for, in this order, none for more than is `left` of it.
    """
    asked = dict.fromkeys(left, 0)
    for part in cycle(parts):
        if not free or all(asked[other] == left[other] for other in parts):
            break
        if asked[part] < left[part]:
            asked[part] += 1
            free -= 1
    return asked


def part_counts(claimed: Iterable[ClaimedRun]) -> Counter[str]:
    """How many of each part a claim has brought."""
    return Counter(PARTS[run.claimed_from] for run in claimed)


@dataclass(slots=True, eq=False)
class Quota:
    """How many runs of a workflow this process may drive at once, and how many it does."""

    limit: int
    busy: int = 0

    @property
    def room(self) -> int:
        return self.limit - self.busy


@dataclass(slots=True, eq=False)
class Group:
    """Runs that are claimed together: those of a queue with limits, or those in none of the queues `without`."""

    ids: frozenset[str]
    quota: Quota | None = None
    queue: Queue | None = None
    without: frozenset[str] = frozenset()
    open: list[str] = field(default_factory=list[str])
    """The parts that there may be more of. The first one is asked first where there is room for few."""
    claims: int = 0
    """How many have brought something. Others don't count: they could come between in such a way that every turn by
    age is one of them."""
    flood: str | None = None
    """The workflow that the last claim brought nothing but runs of, and as many as were asked for."""
    others_dry: bool = False
    """Beside such a workflow there was nothing else to claim when that was tried."""

    @property
    def has_room(self) -> bool:
        return self.quota is None or self.quota.room > 0

    def reopen(self) -> None:
        """Something may have become due: ask for every part again."""
        self.others_dry = False
        self.open += [part for part in PARTS.values() if part not in self.open]

    def room(self, free: int) -> int:
        return free if self.quota is None else min(free, self.quota.room)

    def begun(self) -> None:
        if self.quota is not None:
            self.quota.busy += 1

    def ended(self) -> None:
        """A drive has ended. Where that makes room again, here or in the queue, nobody has looked for a while."""
        if self.queue is not None or not self.has_room:
            self.reopen()
        if self.quota is not None:
            self.quota.busy -= 1

    @property
    def ids_in_turn(self) -> frozenset[str]:
        """All, or after a claim of nothing but one workflow the others: a flood of one must not keep them waiting."""
        if self.flood is None or self.others_dry:
            return self.ids
        return self.ids - {self.flood}


@dataclass(frozen=True, slots=True)
class Turn:
    """One claim to make: of this group, of these workflows, so many of each part."""

    group: Group
    asked: dict[str, int]
    ids: frozenset[str]

    @property
    def limits(self) -> ClaimLimits:
        return ClaimLimits(**self.asked)

    async def claim(self, store: ExecutionStore, lease: Lease, now: datetime) -> Sequence[ClaimedRun]:
        group = self.group
        if group.queue is None:
            return await store.claim_due(self.ids, lease, limits=self.limits, now=now, without=group.without)
        by_age = group.claims % _BY_AGE == _BY_AGE - 1
        return await store.claim_queue(group.queue, self.ids, lease, limits=self.limits, now=now, by_age=by_age)

    def note(self, claimed: Collection[ClaimedRun]) -> None:
        """A part that brought less than was asked for is done; one that brought it all goes to the end of the line."""
        full = len(claimed) >= sum(self.asked.values())
        self.group.claims += bool(claimed)
        if self.ids != self.group.ids:
            self.group.flood, self.group.others_dry = None, not full
            return
        self._note_flood({run.run.workflow_id for run in claimed} if full else set())
        counts = part_counts(claimed)
        for part in [part for part in self.group.open if self.asked[part]]:
            self.group.open.remove(part)
            if counts[part] >= self.asked[part]:
                self.group.open.append(part)

    def _note_flood(self, workflows: set[str]) -> None:
        alone = len(workflows) == 1 and len(self.group.ids) > 1 and self.group.queue is None
        self.group.flood = workflows.pop() if alone else None


class Rota:
    """Whose turn it is. A group or part that had its turn is behind the others then, however much there is of it."""

    def __init__(self, groups: Iterable[Group]) -> None:
        self._groups = deque(groups)

    @classmethod
    def of(
        cls,
        ids: Collection[str],
        per_workflow: int | Mapping[str, int] | None = None,
        queues: Iterable[Queue] = (),
        *,
        claims: int = 0,
    ) -> Rota:
        """Queues are claimed each by itself, workflows that have a limit in this process too, all others together.

        `claims`: how many of each queue are taken to have been made, which decides when age has its turn.
        """
        limits = dict.fromkeys(ids, per_workflow) if isinstance(per_workflow, int) else dict(per_workflow or {})
        quotas = {workflow_id: Quota(limit) for workflow_id, limit in limits.items()}
        limited = sorted((queue for queue in queues if queue.limited), key=lambda queue: queue.name)
        without = frozenset(queue.name for queue in limited)
        groups = _split(frozenset(ids), quotas, without=without)
        for queue in limited:
            own = frozenset(ids) & {queue.name}
            groups += _split(own or frozenset(ids), quotas, queue=queue, claims=claims)
        return cls(groups)

    def reopen(self) -> None:
        for group in self._groups:
            group.reopen()

    def close(self, part: str | None = None) -> None:
        """Ask for nothing (of this part) until something is said to be due."""
        for group in self._groups:
            group.open = [other for other in group.open if part not in (None, other)]

    @property
    def dry(self) -> bool:
        """Whether nothing more can be claimed, as far as is known."""
        return not any(group.open and group.has_room for group in self._groups)

    @property
    def ids(self) -> frozenset[str]:
        """The workflows that could be claimed if they were due."""
        return frozenset[str]().union(*(group.ids for group in self._groups if group.has_room))

    def next(self, free: int, left: Mapping[str, int] | None = None) -> Turn | None:
        """The claim to make with `free` places, of each part at most what is `left`; None where there is none."""
        for _ in range(len(self._groups) if free > 0 else 0):
            group = self._groups[0]
            self._groups.rotate(-1)
            if group.open and group.has_room:
                room = group.room(free)
                asked = shares(group.open, left or dict.fromkeys(PARTS.values(), room), room)
                return Turn(group, asked, group.ids_in_turn)
        return None


def _split(
    ids: frozenset[str],
    quotas: Mapping[str, Quota],
    *,
    queue: Queue | None = None,
    without: frozenset[str] = frozenset(),
    claims: int = 0,
) -> list[Group]:
    """One group for each workflow that has a quota, and one for the rest."""
    groups = [Group(frozenset({id}), quotas[id], queue, without, claims=claims) for id in sorted(ids & quotas.keys())]
    rest = ids - quotas.keys()
    return [Group(rest, None, queue, without, claims=claims), *groups] if rest else groups
