"""One run of everything, printed as a trace: `python golden_program.py`. The trace is the same wherever it runs.

It stands apart from the test modules, so that other interpreters can run it with the core alone.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from workflow.core import Context, Retry, create_workflow
from workflow.core.deliveries import approval_mail, cancel_mail, signal_mail
from workflow.core.engine import Drive, DriveEnvironment
from workflow.core.events import Event
from workflow.core.journal import read_events
from workflow.core.memory import InMemoryRunStore
from workflow.core.records import Lease, NewRun

START = datetime(2026, 1, 1, tzinfo=UTC)


class Clock:
    time = START

    def now(self) -> datetime:
        return self.time

    async def sleep_until(self, when: datetime, *, busy: bool) -> None:
        if busy:
            await asyncio.get_running_loop().create_future()
        self.time = max(self.time, when)


async def ok(value: Any) -> Any:
    return value


async def fail(text: str) -> None:
    raise ValueError(text)


async def compensated(ctx: Context, name: str) -> None:
    try:
        await ctx.sleep(10_000)
    except asyncio.CancelledError:
        await ctx.step(f"undo {name}", ok, name)
        raise


async def branch(ctx: Context, name: str) -> str:
    await ctx.uuid()
    await ctx.sleep(3)
    return await ctx.step(f"branch {name}", ok, name)


@create_workflow(id="golden")
async def golden(ctx: Context) -> list[Any]:
    names = ["one", "two", "three", "four", "five", "six", "seven", "eight"]
    found: list[Any] = await asyncio.gather(*(branch(ctx, name) for name in names))
    found.append([await future for future in asyncio.as_completed([branch(ctx, f"late {name}") for name in names])])
    try:
        async with asyncio.TaskGroup() as group:
            for name in names:
                group.create_task(compensated(ctx, name))
            await asyncio.sleep(2)
            raise ValueError("the group fails")
    except* ValueError:
        await ctx.now()
    racers = [asyncio.create_task(compensated(ctx, f"racer {name}"), name=name) for name in names]
    winner = asyncio.create_task(ctx.step("winner", ok, "winner"), name="winner")
    done, pending = await asyncio.wait({*racers, winner}, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    await asyncio.gather(*pending, return_exceptions=True)
    found.append([task.get_name() for task in done])
    try:
        await asyncio.wait_for(compensated(ctx, "waited for"), 5)
    except TimeoutError:
        found.append(await asyncio.wait_for(branch(ctx, "in time"), 100))
    try:
        await ctx.step("failing", fail, "no", retry=Retry(max_attempts=2, initial_delay=1, jitter=False))
    except Exception as error:
        found.append(str(error))
    found.append(await ctx.wait_for_event("early"))
    async with asyncio.timeout(60):
        found.append((await ctx.approve("Go on?", id="go")).approved)
    async for number in numbers(ctx):
        found.append(number)
    try:
        await ctx.wait_for_event("never")
    finally:
        await ctx.step("last", ok, "last")
    return found


async def numbers(ctx: Context) -> Any:
    for _ in range(2):
        yield (await ctx.now(id=f"n{_}")).isoformat()


async def main() -> list[Event]:
    store, clock = InMemoryRunStore(), Clock()
    now = clock.now()
    await store.create_run(NewRun("r", "golden", None, "null", now), lease=None, now=now)
    await store.deliver("r", signal_mail("s1", "early", {"b": 1, "a": 2}), lease=None, now=now)
    for _ in range(50):
        claimed = await store.claim_run("r", Lease("o", clock.now() + timedelta(60)), now=clock.now(), force=True)
        assert claimed is not None
        outcome = await Drive(golden, claimed, DriveEnvironment(store, "o", clock)).run()
        if outcome.run.ended:
            break
        awaited = {wait.name for wait in outcome.run.waits}
        if "Go on?" in awaited:
            await store.deliver("r", approval_mail("go", True, None, None), lease=None, now=clock.now())
        elif "never" in awaited:
            await store.deliver("r", cancel_mail(None), lease=None, now=clock.now())
        else:
            assert outcome.run.due_at is not None, outcome
            clock.time = max(clock.time, outcome.run.due_at)
    return read_events("r", await store.read_log("r"))


def lines(events: Sequence[Event]) -> list[str]:
    found = []
    for event in events:
        known: Any = event
        seconds = (event.at - START).total_seconds()
        found.append(f"{seconds:g} {known.type} {getattr(known, 'id', '')}".rstrip())
    return found


if __name__ == "__main__":
    sys.stdout.write("\n".join(lines(asyncio.run(main()))) + "\n")
