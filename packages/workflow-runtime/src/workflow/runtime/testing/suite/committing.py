"""`commit`: one atomic move of a run."""

from __future__ import annotations

import pytest

from workflow.core.errors import LeaseLostError, LogConflictError
from workflow.core.records import Commit, Committed, Transition, Wait
from workflow.runtime.contract import ExecutionStore

from .harness import StoreSuite, store_test
from .samples import (
    at,
    claim,
    commit,
    create,
    deliver,
    end,
    inbox,
    lease,
    pause,
    queue,
    record,
    records,
    refused,
    row,
    signal,
    signal_wait,
    start,
    timer_wait,
)

__all__ = ["CommittingSuite"]


class CommittingSuite(StoreSuite):
    @store_test
    async def test_commit_appends_and_goes_on(self, store: ExecutionStore) -> None:
        """Without a transition records are appended, and the run stays its owner's until the commit's lease ends."""
        claimed = await start(store)
        answer = await store.commit(commit(claimed, (record(0, "[0]"), record(1)), now=5, until=65))
        assert (answer.released, tuple(answer.mail)) == (False, ())
        run = await row(store)
        assert (run.status, run.due_at, run.owner, run.fence) == ("running", at(65), "ann", 1)
        assert (run.log_length, run.updated_at) == (2, at(5))
        assert tuple(await store.read_log("r")) == (record(0, "[0]"), record(1))

    @store_test
    async def test_commit_keeps_the_owner(self, store: ExecutionStore) -> None:
        """Whoever commits with the right fence is not asked for a name: the owner of the run stays."""
        claimed = await start(store, owner="ann")
        await store.commit(commit(claimed, 1, owner="eve", until=70))
        run = await row(store)
        assert (run.owner, run.due_at) == ("ann", at(70))

    @store_test
    async def test_commit_saves_the_state(self, store: ExecutionStore) -> None:
        """A state replaces the old one, and None keeps it, also through claims and the end."""
        claimed = await start(store)
        await store.commit(commit(claimed, 1, state='{"n":1}'))
        await store.commit(commit(claimed, 1, queue(), index=1))
        again = await claim(store, now=2)
        assert again.run.state == '{"n":1}'
        await store.commit(commit(again, 1, end(), state='{"n":2}'))
        assert (await row(store)).state == '{"n":2}'

    @store_test
    async def test_commit_pauses(self, store: ExecutionStore) -> None:
        """A pause releases the run with its waits, whole, and its due time; the fence stays."""
        waits = (
            Wait("signal", "w1", "paid", at(90), None, {"amount": 3, "tags": ["a", None], "é": True}),
            Wait("approval", "a1", "Ship it?", None, "For order 7"),
            Wait("retry", "step", until=at(80.000001)),
            Wait("blocked", "x", detail="The log holds something else"),
            timer_wait(100),
        )
        answer = await store.commit(commit(await start(store), 1, pause(*waits)))
        assert (answer.released, tuple(answer.mail)) == (True, ())
        run = await row(store)
        assert (run.status, run.due_at, run.owner, run.fence) == ("paused", at(80.000001), None, 1)
        assert run.waits == waits

    @store_test
    async def test_commit_queues(self, store: ExecutionStore) -> None:
        """A transition to queued gives the run to whoever finds it at that time."""
        await store.commit(commit(await start(store), 1, queue(40)))
        run = await row(store)
        assert (run.status, run.due_at, run.owner, run.waits) == ("queued", at(40), None, ())
        assert await store.claim_run("r", lease(), now=at(39)) is None
        assert (await claim(store, now=40)).claimed_from == "queued"

    @store_test
    async def test_commit_ends(self, store: ExecutionStore) -> None:
        """Each end is recorded with its time, output and error; nobody owns the run, and it is never due again."""
        ends = (
            Transition("completed", output='{"ok":true}'),
            Transition("errored", error='{"type":"Boom"}'),
            Transition("cancelled", error='{"type":"Cancelled"}'),
            Transition("cancelled"),
        )
        for number, transition in enumerate(ends):
            claimed = await start(store, f"r{number}")
            assert await store.commit(commit(claimed, 1, transition, now=7)) == Committed(released=True)
            run = await row(store, f"r{number}")
            assert (run.status, run.output, run.error) == (transition.status, transition.output, transition.error)
            assert (run.completed_at, run.updated_at, run.due_at, run.owner) == (at(7), at(7), None, None)
            assert (run.fence, run.log_length, run.waits) == (1, 1, ())

    @store_test
    async def test_commit_replaces_error_and_waits(self, store: ExecutionStore) -> None:
        """A transition replaces output, error and waits, also by nothing; `waits=None` keeps those there are."""
        blocked = Transition("paused", at(10), (signal_wait(),), error='{"why":"blocked"}')
        await store.commit(commit(await start(store), 0, blocked))
        assert (await row(store)).error == '{"why":"blocked"}'
        again = await claim(store, now=10)
        assert (again.run.error, again.run.waits) == ('{"why":"blocked"}', (signal_wait(),))
        await store.commit(commit(again, 0, Transition("queued", at(20), waits=None)))
        run = await row(store)
        assert (run.error, run.waits) == (None, (signal_wait(),))
        await store.commit(commit(await claim(store, now=20), 0, Transition("queued", at(30))))
        assert (await row(store)).waits == ()

    @store_test
    async def test_commit_sets_recoveries(self, store: ExecutionStore) -> None:
        """A transition sets the count of recoveries, or keeps it where it says None; a commit without one keeps it."""
        await start(store, until=10)
        claimed = await claim(store, now=10, until=20)
        await store.commit(commit(claimed, 1))
        assert (await row(store)).recoveries == 1
        await store.commit(commit(claimed, 0, Transition("queued", at(11), recoveries=None), index=1))
        assert (await row(store)).recoveries == 1
        await store.commit(commit(await claim(store, now=11), 0, Transition("queued", at(12), recoveries=5)))
        assert (await row(store)).recoveries == 5
        await store.commit(commit(await claim(store, now=12), 0, Transition("queued", at(13))))
        assert (await row(store)).recoveries == 0

    @store_test
    async def test_commit_consumes_mail(self, store: ExecutionStore) -> None:
        """Exactly the named mails are consumed, together with the records that resolve them."""
        claimed = await start(store)
        for id in ("s1", "s2", "s3"):
            await deliver(store, signal(id))
        answer = await store.commit(commit(claimed, 1, consumed=(2,)))
        assert [mail.id for mail in answer.mail] == ["s1", "s3"]
        assert [mail.id for mail in await inbox(store)] == ["s1", "s3"]
        assert (await row(store)).mail_count == 3

    @store_test
    async def test_commit_brings_news(self, store: ExecutionStore) -> None:
        """A commit brings the unconsumed mail after `seen_mail`, in order, as it was delivered, and no other."""
        claimed = await start(store)
        for number in (1, 2, 3):
            await deliver(store, signal(f"s{number}", payload=f"[{number}]"), now=number)
        assert [mail.seq for mail in (await store.commit(commit(claimed, 1, seen=1))).mail] == [2, 3]
        answer = await store.commit(commit(claimed, 1, index=1, seen=2))
        (news,) = answer.mail
        assert (news.kind, news.id, news.name, news.payload) == ("signal", "s3", "paid", "[3]")
        assert (news.seq, news.sent_at) == (3, at(3))
        assert tuple((await store.commit(commit(claimed, 1, index=2, seen=3))).mail) == ()

    @store_test
    async def test_commit_brings_news_with_every_release(self, store: ExecutionStore) -> None:
        """A run released to the queue answers with its news as well; an ended one has none."""
        for run_id, transition, expected in (("queued", queue(), ["s1"]), ("ended", end(), [])):
            claimed = await start(store, run_id)
            await deliver(store, signal(), run_id)
            answer = await store.commit(commit(claimed, 1, transition, seen=0))
            assert answer.released
            assert [mail.id for mail in answer.mail] == expected

    @store_test
    async def test_pause_is_refused_while_there_is_news(self, store: ExecutionStore) -> None:
        """A drive can't sleep through mail: all is written but the pause, and the run stays leased with its waits."""
        claimed = await start(store)
        await deliver(store, signal("s1"))
        await deliver(store, signal("s2"), now=1)
        asked = commit(claimed, 2, pause(timer_wait(500)), seen=1, state="[1]", now=2, until=62, consumed=(1,))
        answer = await store.commit(asked)
        assert (answer.released, [mail.id for mail in answer.mail]) == (False, ["s2"])
        run = await row(store)
        assert (run.status, run.due_at, run.owner, run.waits) == ("running", at(62), "ann", ())
        assert (run.log_length, run.state) == (2, "[1]")
        assert [mail.id for mail in await inbox(store)] == ["s2"]

    @store_test
    async def test_pause_with_seen_mail(self, store: ExecutionStore) -> None:
        """Mail that the drive has seen, and does not want yet, is no reason to stay awake, and no news."""
        claimed = await start(store)
        await deliver(store, signal("early", "other"))
        answer = await store.commit(commit(claimed, 1, pause(signal_wait()), seen=1))
        assert (answer.released, tuple(answer.mail)) == (True, ())
        assert [mail.id for mail in await inbox(store)] == ["early"]

    @store_test
    async def test_pause_with_consumed_mail(self, store: ExecutionStore) -> None:
        """Mail that is consumed is no news, by this commit or an earlier one: a refused pause always brings mail."""
        claimed = await start(store)
        await deliver(store, signal("s1"))
        await deliver(store, signal("s2"))
        await store.commit(commit(claimed, 1, consumed=(2,)))
        answer = await store.commit(commit(claimed, 1, pause(timer_wait(9)), index=1, seen=0, consumed=(1,)))
        assert (answer.released, tuple(answer.mail)) == (True, ())

    @store_test
    async def test_commit_with_an_old_fence(self, store: ExecutionStore) -> None:
        """Whoever lost the run writes nothing: not a record, not the state, no consumption, no release."""
        former = await start(store, until=10)
        await deliver(store, signal())
        await claim(store, now=10)
        for transition in (None, queue(), pause(timer_wait(9)), end()):
            async with refused(store, LeaseLostError):
                await store.commit(commit(former, 1, transition, state="[9]", consumed=(1,)))
        async with refused(store, LeaseLostError):
            await store.commit(commit(former))
        assert len(await inbox(store)) == 1

    @store_test
    async def test_commit_with_a_fence_to_come(self, store: ExecutionStore) -> None:
        """A fence that no claim has given out yet is as wrong as an old one."""
        claimed = await start(store)
        async with refused(store, LeaseLostError):
            await store.commit(commit(claimed, 1, fence=2))

    @store_test
    async def test_commit_to_a_released_run(self, store: ExecutionStore) -> None:
        """After its release the last owner can't write any more, though the fence is still its own."""
        for run_id, transition in (("queued", queue()), ("paused", pause(timer_wait(9))), ("ended", end())):
            claimed = await start(store, run_id)
            await store.commit(commit(claimed, 2, transition))
            for index, count, then in ((2, 1, None), (2, 1, end("[]")), (2, 0, None), (1, 0, None), (1, 2, queue())):
                async with refused(store, LeaseLostError):
                    await store.commit(commit(claimed, count, then, index=index))

    @store_test
    async def test_commit_to_a_run_never_claimed(self, store: ExecutionStore) -> None:
        """A run that nobody owns takes no commit, and neither does one that does not exist."""
        run = await create(store)
        async with refused(store, LeaseLostError):
            await store.commit(commit(run, 1))
        async with refused(store, LeaseLostError):
            await store.commit(Commit("nobody", 1, 0, at(1), lease(), records(0, 1)))

    @store_test
    async def test_commit_at_another_index(self, store: ExecutionStore) -> None:
        """A log that is longer or shorter than expected is a conflict: nothing is written, and the error says both."""
        claimed = await start(store)
        await deliver(store, signal())
        await store.commit(commit(claimed, 3))
        for index, count, transition in ((1, 1, None), (2, 2, end()), (4, 1, None), (0, 0, queue()), (7, 0, None)):
            async with refused(store, LogConflictError):
                await store.commit(commit(claimed, count, transition, index=index, state="[9]", consumed=(1,)))
        with pytest.raises(LogConflictError) as raised:
            await store.commit(commit(claimed, 1, index=7))
        conflict = raised.value
        assert (conflict.run_id, conflict.expected_index, conflict.actual_index) == ("r", 7, 3)
        assert len(await inbox(store)) == 1

    @store_test
    async def test_commit_after_the_lease_ran_out(self, store: ExecutionStore) -> None:
        """A lease whose time has run out is good for as long as nobody has taken the run."""
        claimed = await start(store, until=10)
        await store.commit(commit(claimed, 1, now=500, until=530))
        assert (await row(store)).due_at == at(530)
        assert (await store.commit(commit(claimed, 1, end(), index=1, now=900))).released
