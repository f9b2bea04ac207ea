"""Database steps: what the function writes and what the log says are one."""

from __future__ import annotations

import asyncio

import pytest

from workflow.core.errors import InvalidArgumentError, LeaseLostError, LogConflictError
from workflow.core.records import NewMail
from workflow.runtime.contract import ExecutionStore

from .apps import AppSide, SampleStep, app_test
from .harness import StoreSuite, store_test
from .samples import at, claim, commit, deliver, end, inbox, row, start

__all__ = ["TransactingSuite"]


def _mail(id: str) -> NewMail:
    return NewMail("signal", id, "paid", '"ok"')


class TransactingSuite(StoreSuite):
    @app_test("transactions")
    async def test_a_step_and_its_record_are_there_together(self, store: ExecutionStore, app: AppSide) -> None:
        """A database step leaves its writes and its records, and the run goes on under its lease."""
        run = await start(store)
        step = SampleStep(app, commit(run, 2, now=5, until=60), "paid")
        answer = await store.transact(step)
        assert (answer.released, answer.mail, step.tries) == (False, (), 1)
        assert await app.notes() == ["paid"]
        assert [record.index for record in await store.read_log("r")] == [0, 1]
        after = await row(store)
        assert (after.status, after.fence, after.log_length, after.due_at) == ("running", 1, 2, at(60))
        await store.commit(commit(run, 1, end(), index=2))

    @app_test("transactions")
    async def test_a_step_that_fails_leaves_nothing(self, store: ExecutionStore, app: AppSide) -> None:
        """What the function raises comes out as it is, its writes are undone, and the store goes on."""
        run = await start(store)
        error = RuntimeError("declined")
        with pytest.raises(RuntimeError) as raised:
            await store.transact(SampleStep(app, commit(run, 1), "paid", error=error))
        assert raised.value is error
        assert (await app.notes(), await store.read_log("r")) == ([], ())
        await store.transact(SampleStep(app, commit(run, 1), "paid"))
        assert await app.notes() == ["paid"]

    @app_test("transactions")
    async def test_a_zombie_can_not_write(self, store: ExecutionStore, app: AppSide) -> None:
        """A step of an owner whose run was taken is undone altogether, and says so."""
        zombie = await start(store, until=10)
        owner = await claim(store, now=20, until=60)
        with pytest.raises(LeaseLostError):
            await store.transact(SampleStep(app, commit(zombie, 1, now=21), "by the zombie"))
        assert (await app.notes(), await store.read_log("r")) == ([], ())
        await store.transact(SampleStep(app, commit(owner, 1, now=22), "by the owner"))
        assert await app.notes() == ["by the owner"]

    @app_test("transactions")
    async def test_a_step_at_a_taken_index_is_undone(self, store: ExecutionStore, app: AppSide) -> None:
        """A step whose place in the log is taken leaves nothing, as every commit."""
        run = await start(store)
        await store.commit(commit(run, 1))
        with pytest.raises(LogConflictError):
            await store.transact(SampleStep(app, commit(run, 1), "paid"))
        assert (await app.notes(), (await row(store)).log_length) == ([], 1)

    @app_test("transactions")
    async def test_an_ended_run_takes_no_step(self, store: ExecutionStore, app: AppSide) -> None:
        """After the end of a run nothing is written in its name."""
        run = await start(store)
        await store.commit(commit(run, 1, end()))
        with pytest.raises(LeaseLostError):
            await store.transact(SampleStep(app, commit(run, 1, index=1), "late"))
        assert await app.notes() == []

    @app_test("transactions")
    async def test_a_step_consumes_mail_and_brings_news(self, store: ExecutionStore, app: AppSide) -> None:
        """What was pending goes with the step: mail is consumed, and later mail comes back or is left for later."""
        run = await start(store)
        await deliver(store, _mail("first"))
        await deliver(store, _mail("second"))
        answer = await store.transact(SampleStep(app, commit(run, 2, consumed=(1,), seen=1), "paid"))
        assert [mail.id for mail in answer.mail] in (["second"], [])
        assert [mail.id for mail in await inbox(store)] == ["second"]

    @app_test("transactions")
    async def test_steps_of_many_runs_at_once(self, store: ExecutionStore, app: AppSide) -> None:
        """Steps of different runs, with commits of others among them, all happen once."""
        ids = [f"r{number}" for number in range(12)]
        runs = [await start(store, run_id) for run_id in ids]
        await asyncio.gather(
            *(store.transact(SampleStep(app, commit(run, 1), run.run.run_id)) for run in runs[::2]),
            *(store.commit(commit(run, 1)) for run in runs[1::2]),
        )
        assert sorted(await app.notes()) == sorted(ids[::2])
        assert [(await row(store, run_id)).log_length for run_id in ids] == [1] * 12

    @store_test
    async def test_a_store_without_transactions_says_so(self, store: ExecutionStore) -> None:
        """Where there are no database steps, asking for one is an error that names the store."""
        if store.capabilities.transactions:
            pytest.skip(f"{type(store).__name__} has database steps (capabilities.transactions)")
        with pytest.raises(InvalidArgumentError, match=type(store).__name__):
            await store.transact(None)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
