"""`commit` again: whoever lost the answer asks once more, and gets it."""

from __future__ import annotations

from workflow.core.errors import LeaseLostError, LogConflictError
from workflow.core.records import Transition
from workflow.runtime.contract import ExecutionStore

from .harness import StoreSuite, store_test
from .samples import (
    at,
    cancel,
    claim,
    commit,
    deliver,
    end,
    inbox,
    nothing_written,
    pause,
    queue,
    refused,
    row,
    signal,
    signal_wait,
    start,
    timer_wait,
)

__all__ = ["RepeatingSuite"]


class RepeatingSuite(StoreSuite):
    @store_test
    async def test_repeated_commit_that_goes_on(self, store: ExecutionStore) -> None:
        """Appending again what has been appended changes nothing, and answers as the first time."""
        claimed = await start(store)
        await deliver(store, signal("s1"))
        await deliver(store, signal("s2"))
        asked = commit(claimed, 2, state="[1]", consumed=(1,))
        answer = await store.commit(asked)
        async with nothing_written(store):
            assert await store.commit(asked) == answer

    @store_test
    async def test_repeated_release(self, store: ExecutionStore) -> None:
        """Releasing again changes nothing and answers `released`, for each way to release, with records or without."""
        releases = (queue(9), pause(timer_wait(9)), pause(signal_wait()), end(), Transition("errored", error="{}"))
        for count in (0, 2):
            for number, transition in enumerate(releases):
                asked = commit(await start(store, f"{count}-{number}"), count, transition, state="[1]")
                answer = await store.commit(asked)
                assert answer.released
                async with nothing_written(store):
                    assert await store.commit(asked) == answer

    @store_test
    async def test_repeated_commit_brings_newer_mail(self, store: ExecutionStore) -> None:
        """It answers as if it were applied now: mail that came in between is in the answer."""
        claimed = await start(store)
        asked = commit(claimed, 1)
        assert tuple((await store.commit(asked)).mail) == ()
        await deliver(store, signal())
        assert [mail.id for mail in (await store.commit(asked)).mail] == ["s1"]
        assert (await row(store)).log_length == 1

    @store_test
    async def test_repeated_pause_that_mail_has_woken(self, store: ExecutionStore) -> None:
        """A pause stays done when awaited mail has made the run ready since: it is not the committer's any more."""
        for count in (0, 1):
            for mail in (signal(), cancel()):
                run_id = f"{count}-{mail.kind}"
                asked = commit(await start(store, run_id), count, pause(signal_wait(), timer_wait(99)))
                await store.commit(asked)
                await deliver(store, mail, run_id, now=3)
                async with nothing_written(store):
                    assert (await store.commit(asked)).released
                assert (await row(store, run_id)).status == "queued"

    @store_test
    async def test_repeated_pause_with_unawaited_mail(self, store: ExecutionStore) -> None:
        """A pause stays done when mail has come since that does not wake the run."""
        asked = commit(await start(store), 1, pause(signal_wait()))
        await store.commit(asked)
        await deliver(store, signal("s9", "other"), now=3)
        async with nothing_written(store):
            assert (await store.commit(asked)).released
        assert (await row(store)).status == "paused"

    @store_test
    async def test_repeated_pause_that_was_refused(self, store: ExecutionStore) -> None:
        """A pause refused for news is refused again with the same news, and its records are there once."""
        claimed = await start(store)
        await deliver(store, signal())
        asked = commit(claimed, 1, pause(timer_wait(500)), state="[1]", now=2)
        answer = await store.commit(asked)
        assert not answer.released
        async with nothing_written(store):
            assert await store.commit(asked) == answer
        assert (await row(store)).log_length == 1

    @store_test
    async def test_repeated_commit_after_another_claim(self, store: ExecutionStore) -> None:
        """Once somebody else has claimed the run a repetition is refused, though it had been applied."""
        asked = commit(await start(store), 1, queue())
        await store.commit(asked)
        await claim(store, now=5)
        async with refused(store, LeaseLostError):
            await store.commit(asked)

    @store_test
    async def test_repeated_commit_after_the_next_one(self, store: ExecutionStore) -> None:
        """A commit that a later one has followed is no repetition but a conflict."""
        claimed = await start(store)
        await store.commit(commit(claimed, 1))
        await store.commit(commit(claimed, 1, index=1))
        async with refused(store, LogConflictError):
            await store.commit(commit(claimed, 1))

    @store_test
    async def test_commit_that_ends_elsewhere_is_no_repetition(self, store: ExecutionStore) -> None:
        """The log's end alone makes no repetition: a run left in another status refuses."""
        claimed = await start(store)
        await store.commit(commit(claimed, 1, pause(signal_wait())))
        for transition in (None, queue(), end(), Transition("cancelled")):
            async with refused(store, LeaseLostError):
                await store.commit(commit(claimed, 1, transition))
        ended = await start(store, "ended")
        await store.commit(commit(ended, 1, end()))
        for transition in (None, queue(), pause(timer_wait(9)), Transition("errored", error="{}")):
            async with refused(store, LeaseLostError):
                await store.commit(commit(ended, 1, transition))

    @store_test
    async def test_release_after_its_records_were_committed_without_it(self, store: ExecutionStore) -> None:
        """A run still running does not count as released: such a commit is a conflict, never a false answer."""
        claimed = await start(store)
        await store.commit(commit(claimed, 1))
        for transition in (queue(), end(), pause(timer_wait(9))):
            async with refused(store, LogConflictError):
                await store.commit(commit(claimed, 1, transition))

    @store_test
    async def test_repeated_empty_commit(self, store: ExecutionStore) -> None:
        """A commit without records and transition can be repeated; it renews the lease and brings the news."""
        claimed = await start(store)
        await deliver(store, signal())
        asked = commit(claimed, until=77)
        assert await store.commit(asked) == await store.commit(asked)
        run = await row(store)
        assert (run.due_at, run.log_length, run.status) == (at(77), 0, "running")
        assert [mail.id for mail in await inbox(store)] == ["s1"]

    @store_test
    async def test_repeated_end_after_the_clock_moved(self, store: ExecutionStore) -> None:
        """A repetition leaves the times of the first: an end has one time."""
        claimed = await start(store)
        await store.commit(commit(claimed, 1, end(), now=3))
        assert (await store.commit(commit(claimed, 1, end(), now=8))).released
        assert (await row(store)).completed_at == at(3)
