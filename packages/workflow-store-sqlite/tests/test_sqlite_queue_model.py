"""Claims from queues beside those of `MemoryStore`, whose rule is plain Python: the same runs, in the same order."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from workflow.core.records import ClaimedRun, Commit, Lease, NewRun, Transition, Wait
from workflow.runtime import ExecutionStore, MemoryStore
from workflow.runtime.contract import ClaimLimits
from workflow.runtime.queues import Queue, RateLimit
from workflow.store.sqlite import SQLiteStore

START = datetime(2030, 1, 1, tzinfo=UTC)
WORKFLOWS = ("w", "v")
MAIL = Wait("signal", "1", "n")


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def random_run(dice: random.Random, number: int) -> NewRun:
    return NewRun(
        f"run-{number}",
        dice.choice(WORKFLOWS),
        None,
        "{}",
        at(dice.randrange(20)),
        dice.choice(["q", "q", "q", "other"]),
        dice.choice([None, "", "a", "a", "a", "b", "c"]),
        dice.choice([-1, 0, 0, 5]),
    )


def random_queue(dice: random.Random) -> Queue:
    def maybe(value: Any) -> Any:
        return dice.choice([None, value])

    return Queue(
        "q",
        maybe(dice.randrange(1, 6)),
        maybe(dice.randrange(1, 4)),
        maybe(RateLimit(dice.randrange(1, 6), per=dice.randrange(1, 20))),
        maybe(RateLimit(dice.randrange(1, 4), per=dice.randrange(1, 20))),
        dice.choice(["running", "started"]),
    )


def random_end(dice: random.Random, now: int) -> Transition | None:
    """What becomes of a claimed run: it ends, sleeps, waits, goes back, or its owner says nothing more of it."""
    later = at(now + dice.randrange(5))
    return dice.choice(
        [
            Transition("completed"),
            Transition("paused", later, (Wait("timer", "t", until=later),)),
            Transition("paused", None, (MAIL,)),
            Transition("queued", later),
            None,
        ]
    )


async def claim(store: ExecutionStore, queue: Queue, ids: Sequence[str], now: int, **how: Any) -> list[ClaimedRun]:
    lease = Lease("me", at(now + 5))
    return list(await store.claim_queue(queue, ids, lease, now=at(now), **how))


async def compare(seed: int) -> int:
    """How many runs were claimed in one random history."""
    dice, now, model, store = random.Random(seed), 0, MemoryStore(), SQLiteStore(":memory:")
    total = 0
    for number in range(dice.randrange(5, 40)):
        new = random_run(dice, number)
        for each in (model, store):
            await each.create_run(new, lease=None, now=at(0))
    for _ in range(8):
        now += dice.randrange(6)
        queue, ids = random_queue(dice), dice.choice([WORKFLOWS, ("w",)])
        how = {
            "limits": ClaimLimits(*(dice.choice([0, 1, 3, 9]) for _ in range(3))),
            "by_age": dice.random() < 0.3,
            "run_id": f"run-{dice.randrange(40)}" if dice.random() < 0.2 else None,
        }
        expected = await claim(model, queue, ids, now, **how)
        assert await claim(store, queue, ids, now, **how) == expected, (seed, queue, how)
        total += len(expected)
        for claimed in expected:
            end = random_end(dice, now)
            if end is not None:
                run = claimed.run
                commit = Commit(run.run_id, run.fence, 0, at(now), Lease("me", at(now + 5)), transition=end)
                for each in (model, store):
                    await each.commit(commit)
        left_out = dice.choice([["q"], ["other"], []])
        for each in (model, store):
            assert await each.next_due(WORKFLOWS, without=left_out) == await model.next_due(WORKFLOWS, without=left_out)
    await store.close()
    return total


@pytest.mark.parametrize("block", range(5))
def test_the_same_runs_are_claimed(block: int) -> None:
    """Whatever runs there are, whatever the limits, priorities and keys: the claim is the one that the rule says."""
    seeds = range(block * 20, block * 20 + 20)
    assert sum(asyncio.run(compare(seed)) for seed in seeds) > 5 * len(seeds)
