"""The app's own transaction: runs and mail that are there when it is committed, and never if it isn't."""

from __future__ import annotations

import pytest

from workflow.core.errors import InvalidArgumentError
from workflow.runtime.contract import ExecutionStore

from .apps import AppSide, app_test
from .harness import StoreSuite, store_test
from .samples import (
    at,
    claim_due,
    commit,
    create,
    end,
    inbox,
    new_run,
    nothing_written,
    pause,
    row,
    signal,
    signal_wait,
    start,
)

__all__ = ["JoiningSuite"]


class JoiningSuite(StoreSuite):
    @app_test("joins_transactions")
    async def test_a_run_comes_with_the_commit(self, store: ExecutionStore, app: AppSide) -> None:
        """Until the app commits nobody sees the run; then it is queued and due as if created in the usual way."""
        async with app.begun() as connection:
            await app.add(connection, "order")
            created = await store.create_run_within(connection, new_run(due=5), now=at(1))
            assert (created.created, created.claimed) == (True, None)
            assert await store.get_run("r") is None
            await app.commit(connection)
        assert await row(store) == created.run
        assert await app.notes() == ["order"]
        assert [found.run.run_id for found in await claim_due(store, now=50)] == ["r"]

    @app_test("joins_transactions")
    async def test_a_rollback_leaves_nothing(self, store: ExecutionStore, app: AppSide) -> None:
        """When the app rolls back there is no run, no mail and no order, and their ids are free."""
        waiting = await start(store, "waiting")
        await store.commit(commit(waiting, 1, pause(signal_wait())))
        async with app.begun() as connection:
            await app.add(connection, "order")
            await store.create_run_within(connection, new_run(), now=at(1))
            delivered = await store.deliver_within(connection, "waiting", signal(), now=at(1))
            assert delivered.outcome == "accepted"
        assert (await store.get_run("r"), await app.notes()) == (None, [])
        assert ((await row(store, "waiting")).status, await inbox(store, "waiting")) == ("paused", ())
        assert (await create(store)).status == "queued"
        assert (await store.deliver("waiting", signal(), lease=None, now=at(2))).outcome == "accepted"

    @app_test("joins_transactions")
    async def test_mail_comes_with_the_commit(self, store: ExecutionStore, app: AppSide) -> None:
        """Mail delivered within a transaction wakes its run with the commit, and not before."""
        run = await start(store)
        await store.commit(commit(run, 1, pause(signal_wait())))
        async with app.begun() as connection:
            delivered = await store.deliver_within(connection, "r", signal(), now=at(9))
            assert (delivered.outcome, delivered.awaited, delivered.claimed) == ("accepted", True, None)
            assert delivered.run is not None
            assert (delivered.run.status, delivered.run.due_at) == ("queued", at(9))
            assert (await row(store)).status == "paused"
            await app.commit(connection)
        assert await row(store) == delivered.run
        assert [mail.id for mail in await inbox(store)] == ["s1"]

    @app_test("joins_transactions")
    async def test_a_run_and_its_mail_in_one_transaction(self, store: ExecutionStore, app: AppSide) -> None:
        """Within the transaction the app sees its own run: mail for it, and its repetition, are as ever."""
        async with app.begun() as connection:
            await store.create_run_within(connection, new_run(), now=at(1))
            outcomes = [
                (await store.deliver_within(connection, run_id, signal(), now=at(2))).outcome
                for run_id in ("r", "r", "nobody")
            ]
            again = await store.create_run_within(connection, new_run(due=9), now=at(3))
            await app.commit(connection)
        assert outcomes == ["accepted", "duplicate", "not_found"]
        assert (again.created, again.run.created_at, again.run.mail_count) == (False, at(1), 1)
        assert await row(store) == again.run

    @app_test("joins_transactions")
    async def test_a_run_that_exists_is_left_alone(self, store: ExecutionStore, app: AppSide) -> None:
        """Within a transaction, too, an id stands for one run, and an ended run takes no mail."""
        run = await start(store)
        await store.commit(commit(run, 1, end()))
        async with nothing_written(store), app.begun() as connection:
            created = await store.create_run_within(connection, new_run(), now=at(60))
            delivered = await store.deliver_within(connection, "r", signal(), now=at(60))
            await app.commit(connection)
        assert (created.created, created.run.status, delivered.outcome) == (False, "completed", "ended")

    @app_test("joins_transactions")
    async def test_a_connection_that_will_not_do(self, store: ExecutionStore, app: AppSide) -> None:
        """What is no connection, or has no open transaction, is an error, and nothing is written."""
        async with app.begun() as connection:
            await app.commit(connection)
            for wrong in (connection, "postgresql://localhost", object(), store):
                with pytest.raises(InvalidArgumentError, match="connection="):
                    await store.create_run_within(wrong, new_run(), now=at(1))
                with pytest.raises(InvalidArgumentError, match="connection="):
                    await store.deliver_within(wrong, "r", signal(), now=at(1))
        assert await store.get_run("r") is None

    @store_test
    async def test_a_store_that_can_not_join_says_so(self, store: ExecutionStore) -> None:
        """Where no transaction can be shared, asking for it is an error that says so."""
        if store.capabilities.joins_transactions:
            pytest.skip(f"{type(store).__name__} joins transactions of the app (capabilities.joins_transactions)")
        with pytest.raises(InvalidArgumentError, match="connection="):
            await store.create_run_within(object(), new_run(), now=at(1))
        with pytest.raises(InvalidArgumentError, match="connection="):
            await store.deliver_within(object(), "r", signal(), now=at(1))
