"""What to claim next, so that every kind of work and every workflow gets its turn."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import cycle

from workflow.core.records import ClaimedRun, RunStatus

from .contract import ClaimLimits

__all__ = ["PARTS", "Group", "Rota", "Turn", "part_counts", "shares"]

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
class Group:
    """Workflows that are claimed together, and how many of their runs may be driven at once (None: no limit here)."""

    ids: frozenset[str]
    limit: int | None = None
    busy: int = 0
    open: list[str] = field(default_factory=list[str])
    """The parts that there may be more of. The first one is asked first where there is room for few."""

    @property
    def has_room(self) -> bool:
        return self.limit is None or self.busy < self.limit

    def reopen(self) -> None:
        """Something may have become due: ask for every part again."""
        self.open += [part for part in PARTS.values() if part not in self.open]

    def room(self, free: int) -> int:
        return free if self.limit is None else min(free, self.limit - self.busy)

    def begun(self) -> None:
        self.busy += 1

    def ended(self) -> None:
        """A drive has ended. Where that makes room again, nobody has looked for a while."""
        if not self.has_room:
            self.reopen()
        self.busy -= 1


@dataclass(frozen=True, slots=True)
class Turn:
    """One claim to make: of this group, so many of each part."""

    group: Group
    asked: dict[str, int]

    @property
    def limits(self) -> ClaimLimits:
        return ClaimLimits(**self.asked)

    def note(self, claimed: Collection[ClaimedRun]) -> None:
        """A part that brought less than was asked for is done; one that brought it all goes to the end of the line."""
        counts = part_counts(claimed)
        for part in [part for part in self.group.open if self.asked[part]]:
            self.group.open.remove(part)
            if counts[part] >= self.asked[part]:
                self.group.open.append(part)


class Rota:
    """Whose turn it is. A group or part that had its turn is behind the others then, however much there is of it."""

    def __init__(self, groups: Iterable[Group]) -> None:
        self._groups = deque(groups)

    @classmethod
    def of(cls, ids: Collection[str], per_workflow: int | Mapping[str, int] | None) -> Rota:
        """Workflows with a limit are claimed by themselves, the others together."""
        limits = dict.fromkeys(ids, per_workflow) if isinstance(per_workflow, int) else dict(per_workflow or {})
        free = frozenset(ids) - limits.keys()
        groups = [Group(frozenset({workflow_id}), limit) for workflow_id, limit in sorted(limits.items())]
        return cls([Group(free), *groups] if free else groups)

    def reopen(self) -> None:
        for group in self._groups:
            group.reopen()

    def close(self) -> None:
        """Ask for nothing until something is said to be due."""
        for group in self._groups:
            group.open.clear()

    @property
    def dry(self) -> bool:
        """Whether nothing more can be claimed, as far as is known."""
        return not any(group.open and group.has_room for group in self._groups)

    @property
    def ids(self) -> frozenset[str]:
        """The workflows that could be claimed if they were due."""
        return frozenset[str]().union(*(group.ids for group in self._groups if group.has_room))

    def next(self, free: int) -> Turn | None:
        """The claim to make with `free` places; None where there is none."""
        for _ in range(len(self._groups) if free > 0 else 0):
            group = self._groups[0]
            self._groups.rotate(-1)
            if group.open and group.has_room:
                room = group.room(free)
                return Turn(group, shares(group.open, dict.fromkeys(PARTS.values(), room), room))
        return None
