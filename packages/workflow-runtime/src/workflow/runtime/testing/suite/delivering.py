"""`deliver`: mail gets into the inbox once, and wakes who waits for it."""

from __future__ import annotations

from workflow.core.records import Delivered, NewMail, Transition
from workflow.runtime.contract import ExecutionStore

from .harness import StoreSuite, store_test
from .samples import (
    approval,
    approval_wait,
    at,
    cancel,
    claim,
    commit,
    create,
    deliver,
    end,
    inbox,
    lease,
    nothing_written,
    pause,
    queue,
    row,
    signal,
    signal_wait,
    start,
    timer_wait,
)

__all__ = ["DeliveringSuite"]


class DeliveringSuite(StoreSuite):
    @store_test
    async def test_deliver_to_nobody(self, store: ExecutionStore) -> None:
        """Mail for an unknown run is `not_found`."""
        async with nothing_written(store):
            assert await store.deliver("nobody", signal(), lease=lease(), now=at(1)) == Delivered("not_found")

    @store_test
    async def test_deliver_to_an_ended_run(self, store: ExecutionStore) -> None:
        """Mail for an ended run says so, with the row, and is not kept."""
        await store.commit(commit(await start(store), 1, end()))
        async with nothing_written(store):
            for mail in (signal(), approval(), cancel()):
                delivered = await store.deliver("r", mail, lease=lease(), now=at(1))
                assert (delivered.outcome, delivered.claimed) == ("ended", None)
                assert delivered.run == await row(store)

    @store_test
    async def test_mail_is_kept_in_order(self, store: ExecutionStore) -> None:
        """Mails are numbered from 1 in the order of delivery, stamped with the time, and kept whole."""
        await create(store)
        mails = (signal("z"), cancel("c", '{"reason":"x"}'), approval("a"), signal("b", "other"), signal("a"))
        for number, mail in enumerate(mails, start=1):
            delivered = await store.deliver("r", mail, lease=None, now=at(number))
            assert delivered.outcome == "accepted"
            assert delivered.run is not None
            assert delivered.run == await row(store)
            assert delivered.run.mail_count == number
        found = await inbox(store)
        assert [(mail.seq, mail.sent_at) for mail in found] == [(number, at(number)) for number in range(1, 6)]
        assert [NewMail(mail.kind, mail.id, mail.name, mail.payload) for mail in found] == list(mails)

    @store_test
    async def test_mail_of_two_runs(self, store: ExecutionStore) -> None:
        """Each run has its own inbox and its own numbers: the same mail may go to both."""
        for run_id in ("r1", "r2"):
            await create(store, run_id)
            assert await deliver(store, signal(), run_id) == 1
        assert [mail.seq for mail in await inbox(store, "r1")] == [1]

    @store_test
    async def test_duplicate(self, store: ExecutionStore) -> None:
        """The same kind and id again is a duplicate, whatever its name and payload, and claims nothing."""
        await create(store)
        await deliver(store, signal("s1"))
        async with nothing_written(store):
            for mail in (signal("s1"), signal("s1", "other", "[]")):
                delivered = await store.deliver("r", mail, lease=lease("eve", 90), now=at(5))
                assert (delivered.outcome, delivered.claimed) == ("duplicate", None)
                assert delivered.run == await row(store)
        assert [(mail.name, mail.payload) for mail in await inbox(store)] == [("paid", '"ok"')]

    @store_test
    async def test_same_id_of_another_kind(self, store: ExecutionStore) -> None:
        """A signal, an approval and a cancel request may have the same id."""
        await create(store)
        assert [await deliver(store, mail) for mail in (signal("x"), approval("x"), cancel("x"))] == [1, 2, 3]

    @store_test
    async def test_duplicate_of_consumed_mail(self, store: ExecutionStore) -> None:
        """Consumed mail leaves a tombstone: its repetition is a duplicate, and numbers are not used again."""
        claimed = await start(store)
        await deliver(store, signal("s1"))
        await store.commit(commit(claimed, 1, queue(), consumed=(1,), seen=1))
        async with nothing_written(store):
            assert (await store.deliver("r", signal("s1"), lease=None, now=at(5))).outcome == "duplicate"
        assert await deliver(store, signal("s2")) == 2
        assert [mail.seq for mail in await inbox(store)] == [2]

    @store_test
    async def test_duplicate_for_an_ended_run(self, store: ExecutionStore) -> None:
        """A repetition after the end is still a duplicate: the sender learns that the first had arrived."""
        claimed = await start(store)
        await deliver(store, signal("s1"))
        await deliver(store, signal("s2"))
        await store.commit(commit(claimed, 1, end(), consumed=(1,), seen=2))
        async with nothing_written(store):
            for id in ("s1", "s2"):
                assert (await store.deliver("r", signal(id), lease=None, now=at(5))).outcome == "duplicate"

    @store_test
    async def test_awaited_signal_wakes_a_paused_run(self, store: ExecutionStore) -> None:
        """A signal that a paused run waits for by name makes it queued and due now; its waits stay to be seen."""
        waits = (timer_wait(500), signal_wait("paid"))
        await store.commit(commit(await start(store), 1, pause(*waits)))
        delivered = await store.deliver("r", signal(), lease=None, now=at(7))
        assert (delivered.outcome, delivered.awaited, delivered.claimed) == ("accepted", True, None)
        run = await row(store)
        assert (run.status, run.due_at, run.waits, run.fence) == ("queued", at(7), waits, 1)
        assert delivered.run == run

    @store_test
    async def test_awaited_approval_wakes_a_paused_run(self, store: ExecutionStore) -> None:
        """An approval is awaited by its id, and not by its title."""
        await store.commit(commit(await start(store), 1, pause(approval_wait("a1"))))
        for mail in (approval("a2"), signal("a1", "a1"), signal("x", "Ship it?")):
            assert not (await store.deliver("r", mail, lease=None, now=at(5))).awaited
        assert (await row(store)).status == "paused"
        assert (await store.deliver("r", approval("a1", "renamed"), lease=None, now=at(7))).awaited is True
        assert (await row(store)).status == "queued"

    @store_test
    async def test_early_mail_wakes_nobody(self, store: ExecutionStore) -> None:
        """Mail that nobody waits for yet is kept, and leaves status, due time and waits as they are."""
        waits = (signal_wait("paid"), timer_wait(500))
        await store.commit(commit(await start(store), 1, pause(*waits)))
        for mail in (signal("s1", "other"), signal("s2", "PAID"), signal("s3", "pai_"), approval("paid")):
            delivered = await store.deliver("r", mail, lease=lease(), now=at(5))
            assert (delivered.outcome, delivered.awaited, delivered.claimed) == ("accepted", False, None)
        run = await row(store)
        assert (run.status, run.due_at, run.waits, run.mail_count) == ("paused", at(500), waits, 4)

    @store_test
    async def test_cancel_wakes_any_paused_run(self, store: ExecutionStore) -> None:
        """Every run awaits a request to cancel it, whatever it waits for."""
        await store.commit(commit(await start(store), 1, pause(timer_wait(500))))
        assert (await store.deliver("r", cancel(), lease=None, now=at(7))).awaited is True
        run = await row(store)
        assert (run.status, run.due_at) == ("queued", at(7))

    @store_test
    async def test_awaited_by_a_run_that_is_awake(self, store: ExecutionStore) -> None:
        """A queued or running run with such a wait awaits the mail too; it keeps status, owner and due time."""
        await store.commit(commit(await start(store), 1, pause(signal_wait(), signal_wait("second"))))
        await deliver(store, signal(), now=7)
        delivered = await store.deliver("r", signal("s2", "second"), lease=None, now=at(8))
        assert delivered.awaited is True
        assert ((await row(store)).status, (await row(store)).due_at) == ("queued", at(7))
        await claim(store, now=9, until=39)
        for mail, awaited in ((signal("s3"), True), (signal("s4", "other"), False), (cancel(), True)):
            assert (await store.deliver("r", mail, lease=None, now=at(10))).awaited is awaited
        run = await row(store)
        assert (run.status, run.due_at, run.owner) == ("running", at(39), "bob")

    @store_test
    async def test_cancel_hurries_a_run_queued_for_later(self, store: ExecutionStore) -> None:
        """A request to cancel a run that starts later is looked at now: by whoever finds it due, or by this claim."""
        await create(store, "r", due=100)
        assert (await store.deliver("r", cancel(), lease=None, now=at(5))).awaited is True
        run = await row(store)
        assert (run.status, run.due_at) == ("queued", at(5))
        await create(store, "s", due=100)
        assert (await store.deliver("s", signal(), lease=lease(), now=at(6))).claimed is None
        assert (await store.deliver("s", cancel(), lease=lease(), now=at(7))).claimed is not None

    @store_test
    async def test_awaited_mail_hurries_a_run_queued_for_later(self, store: ExecutionStore) -> None:
        """A run put back for later is due now when mail comes that it awaits, and stays for later with other mail."""
        waiting = Transition("queued", at(100), (signal_wait(),))
        await store.commit(commit(await start(store), 1, waiting))
        for mail, due in ((signal("s1", "other"), 100), (signal("s2"), 7), (signal("s3"), 7)):
            await deliver(store, mail, now=due if due < 100 else 6)
            run = await row(store)
            assert (run.status, run.due_at, run.waits) == ("queued", at(due), (signal_wait(),))

    @store_test
    async def test_deliver_with_a_lease_claims_what_it_woke(self, store: ExecutionStore) -> None:
        """With a lease the woken run is claimed in the same operation, with its log and the mail just delivered."""
        await store.commit(commit(await start(store), 2, pause(signal_wait())))
        await deliver(store, signal("early", "other"))
        delivered = await store.deliver("r", signal(), lease=lease("eve", 90), now=at(7))
        assert (delivered.outcome, delivered.awaited) == ("accepted", True)
        claimed = delivered.claimed
        assert claimed is not None
        assert (claimed.run.status, claimed.run.fence, claimed.run.owner) == ("running", 2, "eve")
        assert (claimed.run.due_at, claimed.run.recoveries, claimed.claimed_from) == (at(90), 0, "queued")
        assert [entry.index for entry in claimed.log] == [0, 1]
        assert [mail.id for mail in claimed.mail] == ["early", "s1"]
        assert claimed.run == delivered.run == await row(store)

    @store_test
    async def test_deliver_with_a_lease_claims_any_queued_run_that_is_due(self, store: ExecutionStore) -> None:
        """A run that is queued and due is claimed, awaited mail or not: it is ready, and somebody is there."""
        await create(store)
        delivered = await store.deliver("r", signal(), lease=lease("eve", 90), now=at(7))
        assert not delivered.awaited
        assert delivered.claimed is not None
        assert (delivered.claimed.run.started_at, delivered.claimed.claimed_from) == (at(7), "queued")

    @store_test
    async def test_deliver_with_a_lease_takes_nothing_from_an_owner(self, store: ExecutionStore) -> None:
        """A delivery claims no running run, even if its lease has run out, and no paused one that it didn't wake."""
        held = await start(store, "held", until=30)
        await store.commit(commit(await start(store, "paused"), 1, pause(timer_wait(5))))
        for run_id in ("held", "paused"):
            before = await row(store, run_id)
            delivered = await store.deliver(run_id, signal(), lease=lease("eve", 900), now=at(600))
            assert (delivered.outcome, delivered.claimed) == ("accepted", None)
            after = await row(store, run_id)
            assert (after.status, after.fence, after.due_at) == (before.status, before.fence, before.due_at)
        assert [mail.id for mail in (await store.commit(commit(held, 1, now=601))).mail] == ["s1"]
