"""Hosts with schedules on one store, looked at without driving anything: what the tests of schedules share."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from workflow.core import Context, create_workflow
from workflow.core.records import Commit, Lease, Transition
from workflow.runtime import ExecutionStore, MemoryStore, Registration, Schedule
from workflow.runtime.registry import Registry
from workflow.runtime.schedules.making import registered_schedules
from workflow.runtime.schedules.materializing import Materialized, Materializer
from workflow.runtime.schedules.records import ScheduleCommit, ScheduleKey, ScheduleRecord, TickRecord
from workflow.runtime.schedules.schedule import Registered
from workflow.runtime.schedules.state import State

KEY = ScheduleKey("report", "s")
START = datetime(2026, 1, 1, 0, 0, 30, tzinfo=UTC)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@create_workflow(id="report")
async def report(ctx: Context[Any]) -> Any:
    await ctx.wait_for_event("end")


class YieldingStore(MemoryStore):
    """Lets others in before every operation on schedules, as a store that is somewhere else does."""

    async def read_schedules(self, keys: Collection[ScheduleKey] | None = None) -> Sequence[ScheduleRecord]:
        await asyncio.sleep(0)
        return await super().read_schedules(keys)

    async def commit_schedule(self, commit: ScheduleCommit) -> bool:
        await asyncio.sleep(0)
        return await super().commit_schedule(commit)


class Host:
    """A process with schedules of the workflow `report`."""

    def __init__(self, store: ExecutionStore, schedules: Iterable[Schedule]) -> None:
        self.store = store
        registry = Registry([Registration(report, schedules=tuple(schedules))])
        self.registered: tuple[Registered, ...] = registered_schedules(registry, store)
        self.materializer = Materializer(store, self.registered)

    async def look(self, now: datetime, max_runs: int = 10**9) -> Materialized:
        done = await self.materializer.look(now, max_runs)
        if done.error is not None:
            raise done.error
        return done


async def row(store: ExecutionStore, key: ScheduleKey = KEY) -> ScheduleRecord:
    (found,) = await store.read_schedules([key])
    return found


async def state(store: ExecutionStore, key: ScheduleKey = KEY) -> State:
    return State.read(key, (await row(store, key)).data)


async def history(store: ExecutionStore, key: ScheduleKey = KEY) -> list[TickRecord]:
    """All of it, the earliest first."""
    return [record for _, record in reversed(await store.list_ticks(key, limit=10**6))]


async def told(store: ExecutionStore, key: ScheduleKey = KEY) -> list[str]:
    """The history in few characters: outcome, tick (day and time), and where it is a range its end."""
    return [
        f"{record.outcome} {record.tick_at:%d-%H:%M}" + (f"..{record.until:%d-%H:%M}" if record.until else "")
        for record in await history(store, key)
    ]


async def end_run(store: ExecutionStore, run_id: str, now: datetime) -> None:
    """The run completes."""
    lease = Lease("test", now + timedelta(minutes=1))
    claimed = await store.claim_run(run_id, lease, now=now, force=True)
    assert claimed is not None
    run = claimed.run
    end = Transition("completed", output="null")
    await store.commit(Commit(run_id, run.fence, run.log_length, now, lease, seen_mail=run.mail_count, transition=end))


async def run_ids(store: ExecutionStore) -> set[str]:
    from workflow.runtime import RunFilter

    return {run.run_id for run in await store.list_runs(RunFilter(limit=10**6))}
