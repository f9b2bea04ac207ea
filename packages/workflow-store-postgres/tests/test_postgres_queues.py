"""Queues with limits: never exceeded, however many claim at once, and found through indexes, however long they are."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest

from workflow.core.records import ClaimedRun, Lease
from workflow.runtime.contract import ClaimLimits, ExecutionStore
from workflow.runtime.memory import MemoryStore
from workflow.runtime.queues import Queue, RateLimit
from workflow.runtime.testing.invariants import check_invariants
from workflow.runtime.testing.suite.samples import (
    ANYTHING,
    WORKFLOW,
    at,
    commit,
    create,
    end,
    lease,
    new_run,
    pause,
    queue,
    row,
    start,
    timer_wait,
)
from workflow.store.postgres import PostgresStore, queueing


def plain(url: str) -> str:
    return url.replace("+asyncpg", "")


@pytest.fixture
def opened(postgres_url: str, schema: str) -> Callable[..., Any]:
    @asynccontextmanager
    async def open_(**options: Any) -> AsyncGenerator[PostgresStore]:
        store = PostgresStore(postgres_url, schema=schema, **options)
        try:
            await store.migrate()
            yield store
        finally:
            await store.close()

    return open_


def ids(claimed: Any) -> list[str]:
    return [run.run.run_id for run in claimed]


class Watch:
    """What the database shows to a bystander, as often as it can be asked: each answer is of one moment."""

    def __init__(self, url: str, schema: str) -> None:
        self._url = plain(url)
        self._sql = f"""SELECT count(*), coalesce(max(n), 0) FROM (
            SELECT key, count(*) OVER (PARTITION BY key) AS n FROM {schema}.workflow_runs WHERE status = 'running'
        ) r"""
        self.looks = 0
        self.most = (0, 0)

    async def run(self, until: asyncio.Event) -> None:
        connection = await asyncpg.connect(self._url)
        while not until.is_set():
            running, of_key = await connection.fetchrow(self._sql)
            self.most = (max(self.most[0], running), max(self.most[1], of_key))
            self.looks += 1
        await connection.close()


class Claimer:
    """Claims from the queue until everything has ended, and knows how many runs all claimers hold at this moment."""

    held = 0
    most = 0
    ended = 0

    def __init__(self, store: PostgresStore, limits: Queue, number: int) -> None:
        self.store = store
        self.limits = limits
        self.number = number

    async def work(self, runs: int) -> None:
        random_ = random.Random(self.number)
        while Claimer.ended < runs:
            by_age = random_.random() < 0.25
            limits = ClaimLimits.all(random_.randint(1, 4))
            owned = lease(str(self.number), 10**6)
            taken = await self.store.claim_queue(
                self.limits, [WORKFLOW], owned, limits=limits, now=at(100), by_age=by_age
            )
            Claimer.held += len(taken)
            Claimer.most = max(Claimer.most, Claimer.held)
            for run in taken:
                await self.drive(run, random_)

    async def drive(self, run: ClaimedRun, random_: random.Random) -> None:
        goes_on = run.run.log_length < 4 and random_.random() < 0.5
        Claimer.held -= 1  # from here on the store may give the slot to another
        Claimer.ended += not goes_on
        release = random_.choice([queue(), pause(timer_wait(0))]) if goes_on else end()
        await self.store.commit(commit(run, 1, release))


def test_thirty_two_connections_on_one_queue(postgres_url: str, schema: str, opened: Callable[..., Any]):
    """32 claimers on as many connections never hold more than three runs of a queue or two of a key, and end all."""
    limits = Queue("q", concurrency=3, concurrency_per_key=2)
    runs = 150

    async def main() -> None:
        async with opened(connections=4) as store:
            stores = [store] + [PostgresStore(postgres_url, schema=schema, connections=4) for _ in range(7)]
            for n in range(runs):
                await create(store, f"r{n}", queue="q", key=f"k{n % 4}" if n % 5 else None, priority=n % 3, due=n / 100)
            Claimer.held = Claimer.most = Claimer.ended = 0
            done = asyncio.Event()
            watch = Watch(postgres_url, schema)
            watching = asyncio.create_task(watch.run(done))
            async with asyncio.timeout(60):
                await asyncio.gather(*(Claimer(stores[n % 8], limits, n).work(runs) for n in range(32)))
            done.set()
            await watching
            await check_invariants(store)
            assert Claimer.most == 3
            assert watch.most == (3, 2)
            assert watch.looks > 20
            for other in stores[1:]:
                await other.close()

    asyncio.run(main())


def test_a_flood_of_one_key_hides_nobody(opened: Callable[..., Any]):
    """Behind hundreds of runs of a key that is full, the others are found: by priority, by age, and without a key."""
    limits = Queue("q", concurrency_per_key=1)

    async def main() -> None:
        async with opened() as store:
            flood = (new_run(f"a{n}", queue="q", key="a", priority=5) for n in range(400))
            await asyncio.gather(*(store.create_run(new, lease=None, now=at(0)) for new in flood))
            await create(store, "b1", queue="q", key="b", due=3)
            await create(store, "b2", queue="q", key="b", due=2)
            await create(store, "n", queue="q", due=4)
            one, claim = ClaimLimits.all(1), store.claim_queue
            first = await claim(limits, [WORKFLOW], lease(), limits=one, now=at(9))
            assert first[0].run.key == "a"
            assert ids(await claim(limits, [WORKFLOW], lease(), limits=one, now=at(9))) == ["b2"]
            assert ids(await claim(limits, [WORKFLOW], lease(), limits=one, now=at(9), by_age=True)) == ["n"]
            assert await claim(limits, [WORKFLOW], lease(), limits=one, now=at(9)) == []

    asyncio.run(main())


def test_what_others_hold_is_passed_over(postgres_url: str, schema: str, opened: Callable[..., Any]):
    """A transaction of the app that holds the first runs of a queue keeps nobody from those behind them."""

    async def main() -> None:
        async with opened() as store:
            for n in range(6):
                await create(store, f"r{n}", queue="q", due=n)
            connection = await asyncpg.connect(plain(postgres_url))
            async with connection.transaction():
                await connection.execute(f"SELECT FROM {schema}.workflow_runs WHERE run_id < 'r3' FOR UPDATE")
                async with asyncio.timeout(5):
                    taken = await store.claim_queue(
                        Queue("q", concurrency=2), [WORKFLOW], lease(), limits=ANYTHING, now=at(9)
                    )
            assert ids(taken) == ["r3", "r4"]
            await connection.close()

    asyncio.run(main())


def test_a_claimer_that_freezes_holds_nobody_up_for_long(postgres_url: str, opened: Callable[..., Any]):
    """Where the lock of a queue can't be had, a claim comes back with nothing, and other queues are not touched."""

    async def main() -> None:
        async with opened() as store:
            await create(store, "a", queue="q")
            await create(store, "b", queue="other")
            connection = await asyncpg.connect(plain(postgres_url))
            await connection.execute(f"SELECT pg_advisory_lock({queueing._lock_key(store.schema, 'q')})")

            async def claim(name: str) -> list[str]:
                limits = Queue(name, concurrency=1)
                return ids(await store.claim_queue(limits, [WORKFLOW], lease(), limits=ANYTHING, now=at(1)))

            async with asyncio.timeout(10):
                assert await asyncio.gather(claim("q"), claim("other")) == [[], ["b"]]
            await connection.close()
            assert await claim("q") == ["a"]

    asyncio.run(main())


@pytest.mark.parametrize(
    "name", ["'; DROP TABLE workflow_runs; --", '"', "$1 %s {} :a", "\\", "日本🎉", "a b", "q" * 512]
)
def test_names_of_queues_and_keys_are_data(opened: Callable[..., Any], name: str):
    """A hostile queue or key limits and is found like any other, and nothing else is."""
    limits = Queue(name, concurrency_per_key=1, rate_limit_per_key=RateLimit(5, per=60))

    async def main() -> None:
        async with opened() as store:
            for n in range(3):
                await create(store, f"r{n}", queue=name, key=name)
            await create(store, "elsewhere", queue=name + "x", key=name)
            assert await store.next_due([WORKFLOW], without=[name, name + "x"]) is None
            claimed = await store.claim_due([WORKFLOW], lease(), limits=ANYTHING, now=at(1), without=[name])
            assert ids(claimed) == ["elsewhere"]
            (taken,) = await store.claim_queue(limits, [WORKFLOW], lease(), limits=ANYTHING, now=at(1))
            assert (taken.run.queue, taken.run.key) == (name, name)

    asyncio.run(main())


class Twins:
    """A Postgres store and the reference, with the same random runs."""

    def __init__(self, store: PostgresStore, seed: int) -> None:
        self.random = random.Random(seed)
        self.stores: tuple[ExecutionStore, ...] = (store, MemoryStore())
        self.name = f"q{seed}"

    async def fill(self) -> None:
        for n in range(self.random.randrange(4, 40)):
            key = self.random.choice(["a", "a", "a", "b", "c", None])
            new = {"queue": self.name, "key": key, "priority": self.random.choice([0, 0, 1, -2])}
            due, began = self.random.randrange(20), self.random.randrange(12)
            fate = self.random.choice(["queued"] * 4 + ["running", "lapsed", "paused", "again", "ended"])
            for store in self.stores:
                await self.make(store, f"{self.name}-{n:02}", fate, due, began, new)

    async def make(self, store: ExecutionStore, run_id: str, fate: str, due: int, began: int, new: Any) -> None:
        if fate == "queued":
            await create(store, run_id, due=due, now=0, **new)
            return
        run = await start(store, run_id, now=began, until=8 if fate == "lapsed" else 1000, **new)
        release = {"paused": pause(timer_wait(due)), "again": queue(due), "ended": end()}.get(fate)
        if release is not None:
            await store.commit(commit(run, 1, release))

    def limits(self) -> Queue:
        some = lambda *choices: self.random.choice([None, None, *choices])  # noqa: E731
        return Queue(
            self.name,
            concurrency=some(1, 5, 12),
            concurrency_per_key=some(1, 3),
            rate_limit=some(RateLimit(2, per=5), RateLimit(8, per=50)),
            rate_limit_per_key=some(RateLimit(1, per=4), RateLimit(3, per=20)),
            holds=self.random.choice(["running", "started"]),
        )

    async def claims(self) -> list[list[str]]:
        limits, now = self.limits(), self.random.randrange(5, 25)
        claim = ClaimLimits(*(self.random.randrange(3) for _ in range(3)))
        by_age = self.random.random() < 0.3
        return [
            ids(
                await store.claim_queue(
                    limits, [WORKFLOW], Lease("x", at(now + 5)), limits=claim, now=at(now), by_age=by_age
                )
            )
            for store in self.stores
        ]


def test_choices_are_those_of_the_reference(opened: Callable[..., Any], monkeypatch: pytest.MonkeyPatch):
    """Whatever is in a queue and whatever its limits, the same runs are claimed in the same order as in memory."""
    # As small as may be, so that full pages and the second look are part of it.
    monkeypatch.setattr(queueing, "_page", lambda claim: 4 * max(*claim.left.values(), 1))

    async def main() -> None:
        async with opened() as store:
            taken = 0
            for seed in range(60):
                twins = Twins(store, seed)
                await twins.fill()
                for _ in range(4):
                    ours, reference = await twins.claims()
                    assert ours == reference, seed
                    taken += len(ours)
            assert taken > 200

    asyncio.run(main())


def test_a_limited_queue_costs_others_nothing(opened: Callable[..., Any]):
    """A run that is created without a queue, and claimed without limits, is in no index of queues."""

    async def main() -> None:
        async with opened() as store:
            await create(store, "free")
            assert (await row(store, "free")).queue is None
            held = await store.claim_due([WORKFLOW], lease(), limits=ANYTHING, now=at(1), without=["q"])
            assert ids(held) == ["free"]
            indexes = [f"workflow_runs_{name}" for name in ("queue", "keys", "started", "started_by_key")]
            connection = await asyncpg.connect(plain(store.engine.url.render_as_string(hide_password=False)))
            definition = "SELECT pg_get_indexdef($1::text::regclass)"
            for index in indexes:
                assert "queue IS NOT NULL" in await connection.fetchval(definition, f"{store.schema}.{index}")
            await connection.close()

    asyncio.run(main())


def test_a_lost_connection_in_the_middle_of_a_claim(postgres_url: str, schema: str, opened: Callable[..., Any]):
    """The server drops the connection of a claim that waits for its turn: it is done again, and claims."""

    async def main() -> None:
        async with opened() as store:
            await create(store, "a", queue="q")
            connection = await asyncpg.connect(plain(postgres_url))
            await connection.execute(f"SELECT pg_advisory_lock({queueing._lock_key(schema, 'q')})")
            limits = Queue("q", concurrency=1)
            task = asyncio.ensure_future(store.claim_queue(limits, [WORKFLOW], lease(), limits=ANYTHING, now=at(1)))
            terminate = """SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                WHERE wait_event_type = 'Lock' AND wait_event = 'advisory' AND pid <> pg_backend_pid()"""
            async with asyncio.timeout(10):
                while not await connection.fetch(terminate):
                    await asyncio.sleep(0.005)
                await connection.close()
                assert ids(await task) == ["a"]

    asyncio.run(main())
