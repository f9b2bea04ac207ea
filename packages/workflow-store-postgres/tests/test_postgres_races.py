"""Races in a given order: a statement is stopped between its snapshot and its locks, and rivals act meanwhile.

The statement under test gets a gate: it waits for an advisory lock before it locks a row. The test holds that lock
until `pg_stat_activity` shows that the statement really waits, lets a rival act and commit, and opens the gate. From
then on the statement's snapshot is older than the rows that it locks.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import asyncpg
import pytest

from workflow.core.errors import LeaseLostError
from workflow.core.records import Committed
from workflow.runtime.contract import HeldLease, Renewal
from workflow.runtime.testing.suite.samples import (
    ANYTHING,
    WORKFLOW,
    at,
    claim,
    commit,
    create,
    deliver,
    end,
    inbox,
    lease,
    new_run,
    pause,
    queue,
    records,
    row,
    signal,
    signal_wait,
    start,
)
from workflow.store.postgres import PostgresStore

T = TypeVar("T")
_GATE = 727272


class Race:
    """Two stores on the same tables, and a connection that holds the gate of the first."""

    def __init__(self, slow: PostgresStore, rival: PostgresStore, watcher: asyncpg.Connection[Any]) -> None:
        self.slow = slow
        self.rival = rival
        self.watcher = watcher

    async def during(self, operation: Awaitable[T], meanwhile: Callable[[], Awaitable[Any]]) -> T:
        """Let `operation`, on `slow`, take its snapshot; do `meanwhile`; let it go on, and give its answer."""
        await self.watcher.execute(f"SELECT pg_advisory_lock({_GATE})")
        task = asyncio.ensure_future(operation)
        await until_waiting(self.watcher, "advisory")
        await meanwhile()
        await self.watcher.execute(f"SELECT pg_advisory_unlock({_GATE})")
        async with asyncio.timeout(10):
            return await task


async def until_waiting(watcher: asyncpg.Connection[Any], event: str) -> None:
    """Until a backend waits for a lock of this kind."""
    query = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND wait_event = $1"
    async with asyncio.timeout(10):
        while not await watcher.fetchval(query, event):
            await asyncio.sleep(0.005)


def gated(sql: str) -> str:
    if "FOR UPDATE" not in sql:
        return sql
    begin = "WITH RECURSIVE " if "WITH RECURSIVE " in sql else "WITH "
    gate = f"{begin}gate AS MATERIALIZED (SELECT pg_advisory_xact_lock_shared({_GATE})::text AS g), "
    return gate + sql.replace(begin, "", 1).replace(
        "FOR UPDATE SKIP LOCKED", "AND (SELECT count(g) FROM gate) = 1 FOR UPDATE SKIP LOCKED"
    )


@pytest.fixture
def race(postgres_url: str, schema: str) -> Callable[[], Any]:
    @asynccontextmanager
    async def open_() -> AsyncGenerator[Race]:
        slow, rival = (PostgresStore(postgres_url, schema=schema) for _ in range(2))
        await rival.migrate()
        for name, sql in list(slow._sql.texts()):
            setattr(slow._sql, name, gated(sql))
        watcher = await asyncpg.connect(postgres_url.replace("+asyncpg", ""))
        try:
            yield Race(slow, rival, watcher)
        finally:
            await watcher.close()  # and with it the gate
            await slow.close()
            await rival.close()

    return open_


def test_a_claim_with_an_old_snapshot(race: Callable[[], Any]):
    """A claim brings the log and the mail as they are when it gets the run, not as they were when it began."""

    async def main() -> None:
        async with race() as r:
            await create(r.rival)
            await deliver(r.rival, signal("s1"))
            await deliver(r.rival, signal("s2"))

            async def meanwhile() -> None:
                held = await claim(r.rival, now=1)
                await r.rival.commit(commit(held, 2, queue(), consumed=(1,)))
                await deliver(r.rival, signal("s3"), now=2)

            claimed = await r.during(r.slow.claim_run("r", lease(), now=at(5)), meanwhile)
            assert claimed.log == records(0, 2)
            assert [mail.id for mail in claimed.mail] == ["s2", "s3"]
            assert (claimed.run.fence, claimed.run.log_length, claimed.run.mail_count) == (2, 2, 3)

    asyncio.run(main())


def test_a_forced_claim_with_an_old_snapshot(race: Callable[[], Any]):
    """A forced claim that a rival one has overtaken is made after it, and brings what the rival has written."""

    async def main() -> None:
        async with race() as r:
            await create(r.rival)

            async def meanwhile() -> None:
                held = await claim(r.rival, now=1, force=True)
                await r.rival.commit(commit(held, 2))

            claimed = await r.during(r.slow.claim_run("r", lease("slow"), now=at(1), force=True), meanwhile)
            assert (claimed.run.fence, claimed.run.owner, claimed.run.recoveries) == (2, "slow", 1)
            assert claimed.log == records(0, 2)

    asyncio.run(main())


def test_a_claim_of_what_is_due_with_an_old_snapshot(race: Callable[[], Any]):
    """A sweep takes what is still as it was, and leaves what a rival has taken or moved since: for its next look."""

    async def main() -> None:
        async with race() as r:
            for run_id in ("moved", "taken", "still"):
                await create(r.rival, run_id)

            async def meanwhile() -> None:
                await r.rival.commit(commit(await claim(r.rival, "moved", now=1), 3, queue()))
                await claim(r.rival, "taken", now=1)

            found = await r.during(r.slow.claim_due([WORKFLOW], lease(), limits=ANYTHING, now=at(5)), meanwhile)
            assert [claimed.run.run_id for claimed in found] == ["still"]
            (moved,) = await r.rival.claim_due([WORKFLOW], lease(), limits=ANYTHING, now=at(5))
            assert (moved.run.run_id, moved.run.fence, moved.log) == ("moved", 2, records(0, 3))

    asyncio.run(main())


@pytest.mark.parametrize("consumes", [False, True])
def test_a_pause_with_an_old_snapshot(race: Callable[[], Any], consumes: bool):
    """A pause whose snapshot is older than a mail is refused, and brings that mail."""

    async def main() -> None:
        async with race() as r:
            await create(r.rival)
            await deliver(r.rival, signal("s0"))
            held = await claim(r.rival, now=1)
            asked = commit(held, 1, pause(signal_wait()), consumed=(1,) if consumes else ())
            answer = await r.during(r.slow.commit(asked), lambda: deliver(r.rival, signal("s1"), now=2))
            assert (answer.released, [mail.id for mail in answer.mail]) == (False, ["s1"])
            run = await row(r.rival)
            assert (run.status, run.log_length, run.fence) == ("running", 1, 1)
            assert [mail.id for mail in await inbox(r.rival)] == (["s1"] if consumes else ["s0", "s1"])

    asyncio.run(main())


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("ends", [False, True])
def test_a_commit_with_an_old_snapshot(race: Callable[[], Any], count: int, ends: bool):
    """A commit whose snapshot is older than a mail is written in full; one that goes on brings the mail."""

    async def main() -> None:
        async with race() as r:
            asked = commit(await start(r.rival), count, end() if ends else None)
            answer = await r.during(r.slow.commit(asked), lambda: deliver(r.rival, signal("s1"), now=2))
            assert (answer.released, [mail.id for mail in answer.mail]) == (ends, [] if ends else ["s1"])
            run = await row(r.rival)
            assert (run.status, run.log_length, run.mail_count) == ("completed" if ends else "running", count, 1)
            assert tuple(await r.rival.read_log("r")) == records(0, count)

    asyncio.run(main())


def test_a_commit_with_an_old_fence(race: Callable[[], Any]):
    """A commit that began while it held the lease is refused if the run has been taken when it gets to the row."""

    async def main() -> None:
        async with race() as r:
            held = await start(r.rival)
            with pytest.raises(LeaseLostError):
                await r.during(r.slow.commit(commit(held, 2, end())), lambda: claim(r.rival, now=1, force=True))
            run = await row(r.rival)
            assert (run.status, run.log_length, run.fence) == ("running", 0, 2)

    asyncio.run(main())


def test_a_repeated_commit_that_overtakes_itself(race: Callable[[], Any]):
    """A commit whose first try is written while the second is under way is written once, and both say so."""

    async def main() -> None:
        async with race() as r:
            asked = commit(await start(r.rival), 2, end())
            answer = await r.during(r.slow.commit(asked), lambda: r.rival.commit(asked))
            assert answer == Committed(released=True)
            assert (await row(r.rival)).log_length == 2

    asyncio.run(main())


def test_a_delivery_with_an_old_snapshot(race: Callable[[], Any]):
    """A delivery that claims brings what was written since it began, and numbers its mail after what came before."""

    async def main() -> None:
        async with race() as r:
            await r.rival.commit(commit(await start(r.rival), 1, pause(signal_wait())))

            async def meanwhile() -> None:
                await deliver(r.rival, signal("early"), now=1)
                held = await claim(r.rival, now=1)
                await r.rival.commit(commit(held, 2, pause(signal_wait()), consumed=(1,)))

            delivered = await r.during(r.slow.deliver("r", signal("s2"), lease=lease(), now=at(2)), meanwhile)
            assert (delivered.outcome, delivered.awaited) == ("accepted", True)
            assert delivered.claimed.log == records(0, 3)
            assert [(mail.seq, mail.id) for mail in delivered.claimed.mail] == [(2, "s2")]

    asyncio.run(main())


def test_a_delivery_after_the_end(race: Callable[[], Any]):
    """A delivery to a run that ends meanwhile is told so; its repetition, where the mail had come first, is not."""

    async def main() -> None:
        async with race() as r:
            held = await start(r.rival)
            late = await r.during(
                r.slow.deliver("r", signal("s1"), lease=None, now=at(2)), lambda: r.rival.commit(commit(held, 1, end()))
            )
            assert late.outcome == "ended"
            held = await start(r.rival, "other")

            async def meanwhile() -> None:
                await deliver(r.rival, signal("s1"), "other")
                await r.rival.commit(commit(held, 1, end(), consumed=(1,)))

            again = await r.during(r.slow.deliver("other", signal("s1"), lease=None, now=at(2)), meanwhile)
            assert again.outcome == "duplicate"

    asyncio.run(main())


def test_a_renewal_against_a_claim(race: Callable[[], Any]):
    """A renewal that began before a rival took the run does not bring it back; the other leases are renewed."""

    async def main() -> None:
        async with race() as r:
            for run_id in ("kept", "lost"):
                await start(r.rival, run_id, until=10)
            held = [HeldLease("kept", 1), HeldLease("lost", 1)]
            renewed = await r.during(
                r.slow.renew(held, until=at(50), now=at(9)), lambda: claim(r.rival, "lost", now=10, until=20)
            )
            assert renewed == [Renewal("kept", 1, 0)]
            assert [(await row(r.rival, name)).due_at for name in ("kept", "lost")] == [at(50), at(20)]

    asyncio.run(main())


@pytest.mark.parametrize("commits", [True, False])
def test_a_creation_that_waits_for_a_rival(postgres_url: str, race: Callable[[], Any], commits: bool):
    """A creation waits for a transaction that has the id, then answers with that run, or makes it if there is none."""

    async def main() -> None:
        async with race() as r:
            await create(r.rival, "other")
            transaction = r.watcher.transaction()
            await transaction.start()
            table = f"{r.rival.schema}.workflow_runs"
            await r.watcher.execute(
                f"INSERT INTO {table} (run_id, workflow_id, status, created_at, updated_at, due_at, wake_at, input)"
                f" SELECT 'r', workflow_id, status, created_at, updated_at, due_at, wake_at, 'theirs' FROM {table}"
            )
            task = asyncio.ensure_future(r.rival.create_run(new_run(), lease=lease(), now=at(1)))
            await until_waiting(r.watcher, "transactionid")
            await (transaction.commit() if commits else transaction.rollback())
            created = await task
            assert created.created is not commits
            assert created.run.input == ("theirs" if commits else "{}")
            assert (created.claimed is None) is commits

    asyncio.run(main())


def test_claims_pass_over_what_is_held(postgres_url: str, race: Callable[[], Any]):
    """A sweep takes the due runs behind those that a rival holds at this moment, and does not wait."""

    async def main() -> None:
        async with race() as r:
            for n in range(10):
                await create(r.rival, f"r{n}", due=n)
            async with r.watcher.transaction():
                table = f"{r.rival.schema}.workflow_runs"
                await r.watcher.execute(f"SELECT FROM {table} WHERE run_id < 'r5' FOR UPDATE")
                limits = ANYTHING.all(3)
                async with asyncio.timeout(5):
                    found = await r.rival.claim_due([WORKFLOW], lease(), limits=limits, now=at(50))
                assert [claimed.run.run_id for claimed in found] == ["r5", "r6", "r7"]

    asyncio.run(main())
