"""Many at once, over one handle and over two: somebody wins, nobody loses anything."""

from __future__ import annotations

import asyncio

from workflow.core.errors import LeaseLostError
from workflow.core.records import ClaimedRun, Committed
from workflow.runtime.contract import ClaimLimits, ExecutionStore

from .harness import Handles, StoreSuite, race_test
from .samples import (
    at,
    claim,
    claim_due,
    commit,
    create,
    deliver,
    end,
    inbox,
    lease,
    new_run,
    pause,
    queue,
    row,
    signal,
    signal_wait,
    start,
)

__all__ = ["RacingSuite"]

MANY = 12


def spread(handles: Handles, count: int = MANY) -> list[ExecutionStore]:
    """So many uses of these handles, in turn."""
    return [handles[number % len(handles)] for number in range(count)]


class RacingSuite(StoreSuite):
    @race_test
    async def test_one_create_wins(self, handles: Handles) -> None:
        """Of concurrent creations of one id exactly one creates and claims it."""
        created = await asyncio.gather(
            *(store.create_run(new_run(), lease=lease(f"o{n}"), now=at(0)) for n, store in enumerate(spread(handles)))
        )
        winners = [answer.claimed for answer in created if answer.created]
        assert len(winners) == 1
        assert [answer.claimed for answer in created if answer.claimed] == winners
        assert {answer.run.fence for answer in created} == {1}

    @race_test
    async def test_one_claim_wins(self, handles: Handles) -> None:
        """Of concurrent claims of one run exactly one succeeds, time after time."""
        await create(handles[0])
        for round in (1, 2, 3):
            now, until = 100 * round, 100 * round + 50
            claims = await asyncio.gather(
                *(store.claim_run("r", lease(f"o{n}", until), now=at(now)) for n, store in enumerate(spread(handles)))
            )
            (winner,) = [claimed for claimed in claims if claimed is not None]
            assert winner.run == await row(handles[0])
            assert winner.run.fence == round

    @race_test
    async def test_forced_claims_queue_up(self, handles: Handles) -> None:
        """Concurrent forced claims each get a fence of their own."""
        await start(handles[0])
        claims = await asyncio.gather(*(claim(store, now=1, force=True) for store in spread(handles, 6)))
        assert sorted(claimed.run.fence for claimed in claims) == [2, 3, 4, 5, 6, 7]
        assert (await row(handles[0])).recoveries == 6

    @race_test
    async def test_delivers_get_distinct_numbers(self, handles: Handles) -> None:
        """Concurrent mails get distinct numbers, and none is lost."""
        await create(handles[0])
        numbers = await asyncio.gather(*(deliver(store, signal(f"s{n}")) for n, store in enumerate(spread(handles))))
        assert sorted(numbers) == list(range(1, MANY + 1))
        found = await inbox(handles[0])
        assert [mail.seq for mail in found] == list(range(1, MANY + 1))
        assert {mail.id for mail in found} == {f"s{n}" for n in range(MANY)}

    @race_test
    async def test_one_delivery_of_a_mail_wins(self, handles: Handles) -> None:
        """Of concurrent deliveries of one mail exactly one is accepted."""
        await handles[0].commit(commit(await start(handles[0]), 1, pause(signal_wait())))
        answers = await asyncio.gather(
            *(store.deliver("r", signal(), lease=lease(f"o{n}"), now=at(1)) for n, store in enumerate(spread(handles)))
        )
        assert sorted(answer.outcome for answer in answers) == ["accepted"] + ["duplicate"] * (MANY - 1)
        (claimed,) = [answer.claimed for answer in answers if answer.claimed]
        assert ([mail.id for mail in claimed.mail], claimed.run.fence) == (["s1"], 2)

    @race_test
    async def test_deliveries_claim_once(self, handles: Handles) -> None:
        """Of concurrent deliveries with a lease one claims; no mail is missed."""
        await handles[0].commit(commit(await start(handles[0]), 1, pause(signal_wait())))
        answers = await asyncio.gather(
            *(store.deliver("r", signal(f"s{n}"), lease=lease(), now=at(1)) for n, store in enumerate(spread(handles)))
        )
        (claimed,) = [answer.claimed for answer in answers if answer.claimed]
        answer = await handles[0].commit(commit(claimed, 1, seen=len(claimed.mail)))
        assert len(claimed.mail) + len(answer.mail) == MANY

    @race_test
    async def test_no_pause_sleeps_through_mail(self, handles: Handles) -> None:
        """A pause and a delivery at once: the run wakes, or never slept."""
        for number in range(10):
            run_id = f"r{number}"
            claimed = await start(handles[0], run_id)
            asked = commit(claimed, 1, pause(signal_wait()))
            delivery = handles[-1].deliver(run_id, signal(), lease=None, now=at(1))
            both = (handles[0].commit(asked), delivery) if number % 2 else (delivery, handles[0].commit(asked))
            answers = await asyncio.gather(*both)
            (committed,) = [answer for answer in answers if isinstance(answer, Committed)]
            run = await row(handles[0], run_id)
            if committed.released:
                assert (run.status, run.due_at) == ("queued", at(1))
            else:
                assert (run.status, [mail.id for mail in committed.mail]) == ("running", ["s1"])
            assert len(await inbox(handles[0], run_id)) == 1

    @race_test
    async def test_commit_or_claim_wins(self, handles: Handles) -> None:
        """A commit and a claim at once: all of the commit is in what is claimed."""
        for number in range(10):
            run_id = f"r{number}"
            asked = commit(await start(handles[0], run_id, until=10), 2, state="[1]")
            committed, claimed = await asyncio.gather(
                handles[0].commit(asked), claim(handles[-1], run_id, now=10, force=True), return_exceptions=True
            )
            assert isinstance(claimed, ClaimedRun)
            if isinstance(committed, BaseException):
                assert isinstance(committed, LeaseLostError)
            written = (0, None) if isinstance(committed, BaseException) else (2, "[1]")
            run = await row(handles[0], run_id)
            assert (run.log_length, run.state, run.fence) == (*written, 2)
            assert (len(claimed.log), claimed.run.state) == written

    @race_test
    async def test_one_commit_at_an_index(self, handles: Handles) -> None:
        """A commit that is sent many times at once is applied once."""
        claimed = await start(handles[0])
        stores = spread(handles)
        await asyncio.gather(*(store.commit(commit(claimed, 1, state="[1]")) for store in stores))
        assert [record.index for record in await handles[0].read_log("r")] == [0]
        answers = await asyncio.gather(*(store.commit(commit(claimed, 1, queue(), index=1)) for store in stores))
        assert {answer.released for answer in answers} == {True}
        assert (await row(handles[0])).log_length == 2

    @race_test
    async def test_sweeps_share_the_work(self, handles: Handles) -> None:
        """Concurrent sweeps claim each run exactly once."""
        for number in range(10):
            await create(handles[0], f"queued-{number}")
            await start(handles[0], f"abandoned-{number}", until=1)
            await handles[0].commit(commit(await start(handles[0], f"paused-{number}"), 0, pause(signal_wait(until=1))))
        found: list[str] = []

        async def sweep(store: ExecutionStore) -> None:
            # A sweep passes over what another one is taking at the moment, so an empty one is not yet the end.
            while len(found) < 30:
                claimed = await claim_due(store, now=5, limits=ClaimLimits.all(3))
                found.extend(one.run.run_id for one in claimed)
                await asyncio.sleep(0)

        async with asyncio.timeout(60):
            await asyncio.gather(*(sweep(store) for store in spread(handles, 6)))
        assert len(found) == len(set(found)) == 30
        fences = [(await row(handles[0], run_id)).fence for run_id in found if run_id.startswith("queued")]
        assert fences == [1] * 10

    @race_test
    async def test_sweep_and_claim_exclude_each_other(self, handles: Handles) -> None:
        """A sweep and a claim never get the same run."""
        for number in range(6):
            await create(handles[0], f"r{number}")
        claims = asyncio.gather(*(handles[-1].claim_run(f"r{number}", lease(), now=at(1)) for number in range(6)))
        swept, claimed = await asyncio.gather(claim_due(handles[0], now=1), claims)
        taken = [one.run.run_id for one in (*swept, *claimed) if one is not None]
        taken += [one.run.run_id for one in await claim_due(handles[0], now=1)]
        assert sorted(taken) == [f"r{number}" for number in range(6)]

    @race_test
    async def test_purges_share_the_work(self, handles: Handles) -> None:
        """Concurrent purges count each run once."""
        for number in range(MANY):
            await handles[0].commit(commit(await start(handles[0], f"r{number}"), 1, end()))
        counts = await asyncio.gather(*(store.purge(at(9), limit=5) for store in spread(handles, 4)))
        rest = await handles[0].purge(at(9))
        assert sum(counts) + rest == MANY

    @race_test
    async def test_runs_do_not_disturb_each_other(self, handles: Handles) -> None:
        """Drives of different runs at once don't disturb each other."""

        async def drive(number: int, store: ExecutionStore) -> None:
            claimed = await start(store, f"r{number}")
            for index in range(4):
                await store.commit(commit(claimed, 1, index=index))
                await deliver(store, signal(f"s{index}"), f"r{number}")
            answer = await store.commit(commit(claimed, 1, end(), index=4))
            assert answer.released

        await asyncio.gather(*(drive(number, store) for number, store in enumerate(spread(handles))))
        for number in range(MANY):
            run = await row(handles[0], f"r{number}")
            assert (run.status, run.log_length, run.mail_count) == ("completed", 5, 4)
