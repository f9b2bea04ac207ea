"""Whose turn it is when a worker has free places."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

from workflow.core.records import Lease
from workflow.runtime import MemoryStore, Queue
from workflow.runtime.claiming import Group, Quota, Rota, Turn, shares

from .runtime_kit import START

PARTS = ["recovered", "ready", "timers"]


def brought(**counts: int) -> Any:
    """What a claim answers: so many runs of each status."""
    return of("a", **counts)


def of(workflow_id: str, **counts: int) -> Any:
    """The same, of this workflow."""
    run = SimpleNamespace(workflow_id=workflow_id)
    return [SimpleNamespace(claimed_from=status, run=run) for status, times in counts.items() for _ in range(times)]


def next_turn(rota: Rota, free: int) -> Turn:
    turn = rota.next(free)
    assert turn is not None
    return turn


def test_places_are_shared_between_the_parts() -> None:
    """Free places are dealt out one by one, in the order of the parts, and none beyond what is left of a part."""
    plenty = dict.fromkeys(PARTS, 100)
    assert shares(PARTS, plenty, 7) == {"recovered": 3, "ready": 2, "timers": 2}
    assert shares(["timers", "ready"], plenty, 1) == {"recovered": 0, "ready": 0, "timers": 1}
    assert shares(PARTS, {"recovered": 1, "ready": 9, "timers": 0}, 5) == {"recovered": 1, "ready": 4, "timers": 0}
    assert shares([], plenty, 5) == dict.fromkeys(PARTS, 0)


def test_with_one_place_the_parts_take_turns() -> None:
    """However much there is of one kind of work, a single free place goes to the next kind the next time."""
    rota = Rota.of(["a"], None)
    rota.reopen()
    asked = []
    for _ in range(6):
        turn = next_turn(rota, 1)
        (part,) = [part for part, number in turn.asked.items() if number]
        asked.append(part)
        turn.note(brought(running=turn.asked["recovered"], queued=turn.asked["ready"], paused=turn.asked["timers"]))
    assert asked == PARTS * 2


def test_a_part_that_brings_less_is_not_asked_again() -> None:
    """What is known to be empty costs nothing until something is said to be due."""
    rota = Rota.of(["a"], None)
    assert rota.dry
    rota.reopen()
    turn = next_turn(rota, 6)
    turn.note(brought(queued=2, running=1))
    assert next_turn(rota, 6).asked == {"recovered": 0, "ready": 6, "timers": 0}
    next_turn(rota, 6).note(brought(queued=5))
    assert rota.dry
    assert rota.next(6) is None
    rota.reopen()
    assert sum(next_turn(rota, 6).asked.values()) == 6


def test_a_limited_workflow_is_asked_for_by_itself() -> None:
    """A workflow with a limit has claims of its own, of no more than it has room for; the others go on without it."""
    rota = Rota.of(["a", "b", "c"], {"b": 2})
    rota.reopen()
    turns = [next_turn(rota, 10) for _ in range(3)]
    assert [sorted(turn.group.ids) for turn in turns] == [["a", "c"], ["b"], ["a", "c"]]
    limited = turns[1].group
    assert sum(turns[1].asked.values()) == 2
    limited.begun()
    limited.begun()
    assert rota.ids == {"a", "c"}
    assert {tuple(sorted(next_turn(rota, 10).group.ids)) for _ in range(3)} == {("a", "c")}
    limited.open.clear()
    limited.ended()
    assert limited.open
    assert rota.ids == {"a", "b", "c"}


def test_no_place_is_no_turn() -> None:
    """Without a free place, or without workflows, nothing is asked for."""
    rota = Rota.of(["a"], 1)
    rota.reopen()
    assert rota.next(0) is None
    assert Rota.of([], None).next(5) is None
    assert Group(frozenset({"a"}), Quota(3, busy=1)).room(9) == 2


def test_a_flood_of_one_workflow_lets_the_others_through() -> None:
    """After a claim of nothing but one workflow, the others are asked for by themselves, as long as they have some."""
    rota = Rota.of(["a", "b", "c"])
    rota.reopen()
    asked = []
    for brings in ("a", "b", "a", "", "a", "a"):
        turn = next_turn(rota, 1)
        asked.append("".join(sorted(turn.ids)))
        status = {"recovered": "running", "ready": "queued", "timers": "paused"}
        counts = {status[part]: number for part, number in turn.asked.items() if brings}
        turn.note(of(brings, **counts))
    assert asked == ["abc", "bc", "abc", "bc", "abc", "abc"]
    rota.reopen()
    assert next_turn(rota, 1).ids == {"b", "c"}


def test_only_claims_that_bring_something_count() -> None:
    """Every fourth run is claimed by age, however many claims in between find no free slot."""
    rota = Rota.of(["a"], queues=[Queue("a", concurrency=1)])
    by_age: list[bool] = []

    class Store(MemoryStore):
        async def claim_queue(self, *_: Any, **options: Any) -> Any:
            by_age.append(options["by_age"])
            return []

    async def claim() -> None:
        rota.reopen()
        turn = next(turn for _ in range(2) if (turn := next_turn(rota, 1)).group.queue is not None)
        turn.note(await turn.claim(Store(), Lease("me", START), START) or brought(queued=len(by_age) % 2))

    for _ in range(16):
        asyncio.run(claim())
    brought_something = by_age[::2]
    assert brought_something == [False, False, False, True] * 2
