"""`why_stuck`: what is said about a run in each of its states."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from workflow.core import Context, RunNotFoundError, create_workflow
from workflow.core.records import Lease
from workflow.runtime import Registration
from workflow.runtime.testing import CrashingStore, CrashPoint, SimulatedCrash

from .runtime_kit import DAY, MINUTE, START, World, asynchronous


async def said(world: World, run_id: str = "r") -> tuple[str, bool, str]:
    diagnosis = await world.runtime().why_stuck(run_id)
    return diagnosis.code, diagnosis.stuck, diagnosis.summary


@asynchronous
async def test_what_waits_is_not_stuck() -> None:
    """A run that waits for mail or a time says for what and until when, and which command brings it."""
    world = World()
    runtime = world.runtime()
    await runtime.start_run("pay", run_id="p", input={"order_id": "o"})
    await runtime.start_run("ask", run_id="a b")
    await runtime.start_run("nap", run_id="n", input=3 * 3600.0)
    assert await said(world, "p") == ("waiting", False, "It waits for the signal 'paid'.")
    assert await said(world, "a b") == (
        "waiting",
        False,
        "It waits for a decision on 'Ship it?' (approval 'ship-it'); its time is up in 1 d (2026-01-02 00:00:00 UTC).",
    )
    assert (await said(world, "n"))[2].endswith("and wakes in 3 h (2026-01-01 03:00:00 UTC).")
    remedies = [(await runtime.why_stuck(run_id)).remedy for run_id in ("p", "a b", "n")]
    assert remedies == [
        "workflow runs signal p paid --payload JSON",
        "workflow runs approve 'a b' ship-it [--reject]",
        None,
    ]


@asynchronous
async def test_what_is_due_is_stuck_when_nobody_takes_it() -> None:
    """A queued run and a timer may be due for a minute; from then on they are stuck, for want of a worker."""
    world = World()
    runtime = world.runtime()
    await runtime.start_run("greet", run_id="q", input="Ann", drive=False)
    await runtime.start_run("greet", run_id="later", input="Ann", drive=False, delay=DAY)
    await runtime.start_run("nap", run_id="n", input=1.0)
    world.clock.advance(30)
    assert await said(world, "q") == (
        "ready",
        False,
        "It has been ready for 30 s; the next sweep or worker takes it.",
    )
    assert (await said(world, "later"))[:2] == ("delayed", False)
    world.clock.advance(MINUTE)
    assert await said(world, "q") == ("ready", True, "It has been ready for 1 min 30 s, and nobody takes it.")
    assert (await said(world, "n"))[:2] == ("overdue", True)
    stuck = [diagnosis.run_id for diagnosis in await runtime.diagnose_open() if diagnosis.stuck]
    assert sorted(stuck) == ["n", "q"]


@asynchronous
async def test_a_dead_owner_is_named() -> None:
    """A run whose owner lives is driven; one whose lease has ended is abandoned, and says by whom."""
    world = World()
    dying = CrashingStore(world.store, CrashPoint("create_run"))
    with pytest.raises(SimulatedCrash):
        await world.runtime(dying, owner="ann").start_run("greet", run_id="r", input="Ann")
    assert await said(world) == (
        "driven",
        False,
        "ann drives it, and holds its lease for another 30 s unless it is renewed.",
    )
    world.clock.advance(DAY)
    code, stuck, summary = await said(world)
    assert (code, stuck) == ("abandoned", True)
    assert summary.startswith("Its owner ann has not renewed its lease, which ended 23 h 59 min ago")
    await world.store.claim_run("r", Lease("bob", world.clock.now() + MINUTE), now=world.clock.now())
    diagnosis = await world.runtime().why_stuck("r")
    assert diagnosis.details == ("It was taken over 1 times in a row from owners that died or stalled.",)


@asynchronous
async def test_what_this_process_lacks_is_said() -> None:
    """A due run of a workflow or version that is not registered here is stuck as far as this process can tell."""

    @create_workflow(id="greet", version="2")
    async def greet(ctx: Context[str]) -> str:
        return "newer"

    world = World()
    await world.runtime().start_run("greet", run_id="r", input="Ann", drive=False)
    newer = await world.runtime(workflows=[greet]).why_stuck("r")
    assert (newer.code, newer.stuck) == ("unknown", True)
    assert "Version None of workflow 'greet' is not here (here are: '2')." in newer.summary
    none = await world.runtime(workflows=[]).why_stuck("r")
    assert "Workflow 'greet' is not registered here." in none.summary
    lost = await world.runtime(workflows=[Registration("nowhere.at:all", id="greet")]).why_stuck("r")
    assert "can't be imported from 'nowhere.at:all'" in lost.summary


@asynchronous
async def test_a_blocked_run_says_why() -> None:
    """Code that no longer fits the log blocks the run: the reason is said, what it waited for, and what helps."""

    @create_workflow(id="pay")
    async def pay(ctx: Context[dict[str, Any]]) -> None:
        await ctx.sleep(5, id="reserve")

    world = World()
    await world.runtime().start_run("pay", run_id="r", input={"order_id": "o"})
    await world.runtime(workflows=[pay]).deliver_signal(run_id="r", signal_id="s", name="paid", payload="card")
    diagnosis = await world.runtime().why_stuck("r")
    assert (diagnosis.code, diagnosis.stuck) == ("blocked", True)
    assert diagnosis.summary.startswith("It is blocked: ")
    assert "'reserve'" in diagnosis.summary
    assert diagnosis.details[0] == "It is looked at again in 1 min (2026-01-01 00:01:00 UTC)."
    assert diagnosis.remedy is not None
    assert "previous_versions" in diagnosis.remedy


@asynchronous
async def test_an_ended_run_says_how() -> None:
    """A run that has ended is not stuck; a failed one says with what. A run that there isn't is an error."""
    world = World()
    await world.runtime().start_run("fail", run_id="r", input="boom")
    assert await said(world) == (
        "ended",
        False,
        "It has ended errored: StepError: Step 'broken' failed after 1 attempt: ValueError: boom.",
    )
    with pytest.raises(RunNotFoundError):
        await said(world, "nobody")


@asynchronous
async def test_all_open_runs_are_looked_at_in_pages() -> None:
    """`diagnose_open` goes through as many pages as there are, up to its limit, newest first."""
    world = World()
    runtime = world.runtime()
    for number in range(450):
        await runtime.start_run("greet", run_id=f"r{number:03}", input="Ann", drive=False)
    await runtime.start_run("greet", run_id="ended", input="Ann")
    found = await runtime.diagnose_open()
    assert [diagnosis.run_id for diagnosis in found] == [f"r{number:03}" for number in reversed(range(450))]
    assert len(await runtime.diagnose_open(limit=201)) == 201
    assert world.clock.now() - START == timedelta()
