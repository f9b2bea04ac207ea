"""Schedules through the runtime: sweeps, crashes, the worker, and what people do with them."""

from __future__ import annotations

import asyncio
import logging
from datetime import datetime, timedelta
from typing import Any

import pytest

from workflow.core import Context, InvalidArgumentError, PayloadError, StoreError, create_workflow
from workflow.runtime import (
    MemoryStore,
    Queue,
    Registration,
    Schedule,
    ScheduleNotFoundError,
    WorkflowRuntime,
    every,
)
from workflow.runtime.testing import (
    CrashingStore,
    LostConnection,
    SimulatedCrash,
    TestClock,
    check_invariants,
    crash_points,
    skip_time,
)

from .runtime_kit import asynchronous
from .schedule_kit import KEY, START, YieldingStore, at, history, report, run_ids, state, told
from .test_runtime_serving import serving, until

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)


@create_workflow(id="note")
async def note(ctx: Context[Any]) -> Any:
    """Ends at once."""
    return await ctx.step("note", lambda: ctx.input)


class Place:
    """A store and a clock, and the runtimes on them."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.clock = TestClock(START)

    def runtime(self, *schedules: Schedule, store: Any = None, workflow: Any = note, **options: Any) -> WorkflowRuntime:
        registration = Registration(workflow, schedules=schedules or (Schedule("s", every.hours(1), input=7),))
        return WorkflowRuntime(store or self.store, [registration], clock=self.clock, telemetry=False, **options)


# Sweeps


@asynchronous
async def test_a_sweep_starts_and_drives_the_runs_of_ticks() -> None:
    """No separate call: what is due is started and driven by the sweep that sees it, and counted apart."""
    place = Place()
    runtime = place.runtime()
    assert not (await runtime.sweep()).summary.total
    swept = await runtime.sweep(now=START + HOUR)
    (result,) = swept.scheduled
    assert (result.kind, result.run_id, result.output) == ("completed", "note:s:2026-01-01T01:00:00Z", 7)
    assert (swept.summary.scheduled, swept.summary.ready, swept.remaining_may_exist) == ({"completed": 1}, {}, False)


@asynchronous
async def test_a_sweep_starts_no_more_runs_than_it_may() -> None:
    """The rest is left for the next sweep, and said; with none allowed, schedules are left alone."""
    place = Place()
    runtime = place.runtime(Schedule("s", every.minutes(1), overlap="allow", catch_up=100))
    await runtime.sweep()
    place.clock.advance(30 * MINUTE)
    assert not (await runtime.sweep(max_scheduled_runs=0)).summary.total
    counts = [len((await runtime.sweep()).scheduled) for _ in range(3)]
    assert counts == [25, 5, 0]
    place.clock.advance(MINUTE * 5)
    swept = await runtime.sweep(max_scheduled_runs=4)
    assert (len(swept.scheduled), swept.remaining_may_exist) == (4, True)
    swept = await runtime.sweep(max_scheduled_runs=4)
    assert (len(swept.scheduled), swept.remaining_may_exist) == (1, False)


@asynchronous
async def test_a_sweep_without_time_leaves_ticks_alone() -> None:
    """With its budget spent, it starts no run that it couldn't drive, and says that something is left."""
    place = Place()
    runtime = place.runtime()
    await runtime.sweep()
    place.clock.advance(HOUR)
    swept = await runtime.sweep(max_duration=0.0)
    assert (swept.summary.total, swept.deadline_reached, swept.remaining_may_exist) == (0, True, True)
    assert await told(place.store, _key()) == []
    assert len((await runtime.sweep()).scheduled) == 1


def _key() -> Any:
    return type(KEY)("note", "s")


@asynchronous
async def test_runs_of_a_queue_with_limits_wait_for_their_turn() -> None:
    """Queue, priority and time limit of the registration hold for scheduled runs, before they begin."""
    place = Place()
    schedules = [Schedule("s", every.hours(1), overlap="allow", catch_up=3)]
    registration = Registration(report, schedules=schedules, queue="q", priority=5, timeout=60.0)
    queue = Queue("q", concurrency=1, holds="started")
    runtime = WorkflowRuntime(place.store, [registration], queues=[queue], clock=place.clock, telemetry=False)
    await runtime.sweep()
    place.clock.advance(3 * HOUR)
    swept = await runtime.sweep()
    assert (swept.summary.scheduled, swept.summary.ready) == ({}, {"paused": 1})
    runs = [await place.store.get_run(run_id) for run_id in sorted(await run_ids(place.store))]
    assert [(run.status, run.queue, run.priority, run.expires_at) for run in runs if run is not None] == [
        ("paused", "q", 5, place.clock.now() + MINUTE),
        ("queued", "q", 5, place.clock.now() + MINUTE),
        ("queued", "q", 5, place.clock.now() + MINUTE),
    ]


@asynchronous
async def test_a_sweep_says_when_a_tick_may_start_that_has_waited() -> None:
    """A run that ends within the sweep leaves something to do for the next one, at once."""
    place = Place()
    runtime = place.runtime(Schedule("s", every.hours(1), overlap="cancel_previous"), workflow=report)
    for _ in range(3):
        swept = await runtime.sweep()
        place.clock.advance(HOUR)
    assert (swept.summary.ready, swept.summary.scheduled, swept.remaining_may_exist) == ({"cancelled": 1}, {}, True)
    swept = await runtime.sweep(now=START + 2 * HOUR)
    assert (swept.summary.scheduled, swept.remaining_may_exist) == ({"paused": 1}, False)


@asynchronous
async def test_schedules_that_fail_do_not_stop_a_sweep(caplog: pytest.LogCaptureFixture) -> None:
    """Where the store can't answer about schedules, runs are driven all the same."""

    class Forgetful(MemoryStore):
        async def read_schedules(self, keys: Any = None) -> Any:
            raise StoreError("no such table: schedules")

    place = Place()
    place.store = Forgetful()
    runtime = place.runtime()
    await runtime.start_run("note", run_id="n", drive=False)
    with caplog.at_level(logging.ERROR):
        swept = await runtime.sweep()
    assert (swept.summary.ready, swept.remaining_may_exist) == ({"completed": 1}, False)
    assert "The sweep can't see to the schedules, and goes on: StoreError('no such table: schedules')" in caplog.text


@asynchronous
async def test_time_is_skipped_from_tick_to_tick() -> None:
    """With an end, a test lets a day of ticks pass in a moment; without one, no tick is waited for."""
    place = Place()
    runtime = place.runtime()
    assert await skip_time(runtime, place.clock) == START
    end = START + timedelta(days=1)
    assert await skip_time(runtime, place.clock, until=end) == end
    assert await told(place.store, _key()) == [f"started 01-{hour:02}:00" for hour in range(1, 24)] + [
        "started 02-00:00"
    ]


# Crashes


@pytest.mark.parametrize("overlap", ["skip", "allow", "buffer_one", "cancel_previous", "terminate_previous"])
@pytest.mark.parametrize("fatal", [True, False])
@asynchronous
async def test_a_crash_anywhere_in_a_sweep_loses_and_doubles_no_tick(overlap: Any, fatal: bool) -> None:
    """Die, or lose the connection, before and after every operation of the store: another process ends up the same."""
    schedule = Schedule("s", every.hours(1), overlap=overlap, catch_up=2)

    async def play(place: Place, store: Any) -> None:
        runtime = place.runtime(schedule, workflow=report, store=store)
        for now in (START, START + HOUR, START + 2.5 * HOUR, START + 5.5 * HOUR):
            place.clock.set(max(now, place.clock.now()))
            await runtime.sweep()

    async def settled(place: Place) -> Any:
        """Every run has come to a stop: what is in the history then, and how runs have ended."""
        place.clock.set(START + 7.5 * HOUR)
        runtime = place.runtime(schedule, workflow=report)
        for _ in range(3):
            await runtime.sweep()
            place.clock.advance(MINUTE)  # past the lease of who died
        await check_invariants(place.store)
        runs = await runtime.list_runs(limit=1000)
        return await told(place.store), {run.run_id: run.status for run in runs.runs}

    recorded = Place()
    trace = CrashingStore(recorded.store)
    await play(recorded, trace)
    points = list(crash_points(trace.trace, operations={*trace.trace}, fatal=fatal))
    assert {point.operation for point in points} > {"read_schedules", "commit_schedule", "claim_run", "claim_due"}
    for point in points:
        place = Place()
        # What the dying process has under way dies as well, and nobody is there to hear of it.
        asyncio.get_running_loop().set_exception_handler(lambda _, context: None)
        try:
            await play(place, CrashingStore(place.store, point))
        except (SimulatedCrash, LostConnection):
            pass
        entries, runs = await settled(place)
        check_account(entries, runs)


def check_account(entries: list[str], runs: dict[str, str]) -> None:
    """Each tick has one fate, each that was started has its run, and nothing else has one."""
    fates: dict[str, str] = {}
    for entry in entries:
        outcome, span = entry.split(" ")
        first, _, last = span.partition("..")
        hours = range(int(first[3:5]), int((last or first)[3:5]) + 1)
        for hour in hours:
            assert fates.get(f"{hour:02}") in (None, "buffered"), entries
            fates[f"{hour:02}"] = outcome
    # Who died before the row was there has seen no tick; whoever came then saw the schedule for the first time.
    first_tick = int(min(fates, default="08"))
    assert sorted(fates) == [f"{hour:02}" for hour in range(first_tick, 8)], entries
    assert {f"report:s:2026-01-01T{hour}:00:00Z" for hour, fate in fates.items() if fate == "started"} == runs.keys()


# The worker


@asynchronous
async def test_a_worker_sleeps_until_the_next_tick() -> None:
    """It starts a tick's run at its time, and goes on to the next one."""
    place = Place()
    runtime = place.runtime(Schedule("s", every.minutes(1)))
    async with serving(runtime, poll_interval=HOUR):
        for number in (1, 2, 3):
            due = START.replace(minute=number, second=0)
            while place.clock.now() < due:
                await until(lambda: place.clock.waiting_for and place.clock.waiting_for[0] > place.clock.now())
                place.clock.set(min(place.clock.waiting_for[0], due))
            await until(lambda number=number: len(_completed(place)) == number)
            assert place.clock.now() == due


def _completed(place: Place) -> list[str]:
    return [run_id for run_id, status in _statuses(place) if status == "completed"]


@asynchronous
async def test_a_worker_starts_a_tick_that_waited_when_its_run_ends() -> None:
    """No tick and no poll has to come for that."""
    place = Place()
    runtime = place.runtime(Schedule("s", every.hours(1), overlap="buffer_one"), workflow=report)
    await runtime.sweep()
    for hour in (1, 2):
        place.clock.set(START + HOUR * hour)
        await runtime.sweep()
    async with serving(runtime, poll_interval=HOUR):
        await place.clock.until_asleep()
        first = "report:s:2026-01-01T01:00:00Z"
        await runtime.deliver_signal(run_id=first, signal_id="e", name="end", drive=False)
        await until(lambda: len(vars(place.store)["_runs"]) == 2)
    assert place.clock.now() == START + 2 * HOUR
    assert (await told(place.store))[-1] == "started 01-02:00"


@asynchronous
async def test_a_busy_worker_still_sees_to_its_schedules() -> None:
    """With every place taken by the run that a tick is to end, the tick ends it."""
    place = Place()
    stuck, entered = asyncio.Event(), asyncio.Event()

    async def wait() -> None:
        entered.set()
        await stuck.wait()

    @create_workflow(id="note")
    async def endless(ctx: Context[Any]) -> None:
        await ctx.step(f"wait-{ctx.run_id}", wait)

    runtime = place.runtime(Schedule("s", every.hours(1), overlap="terminate_previous"), workflow=endless)
    await runtime.sweep()
    async with serving(runtime, concurrency=1, poll_interval=HOUR, grace=0.0):
        await place.clock.until_asleep()
        place.clock.set(START + HOUR)
        await entered.wait()
        entered.clear()
        await place.clock.until_asleep()
        place.clock.set(START + 2 * HOUR)
        await until(lambda: len(vars(place.store)["_runs"]) == 2)
        stuck.set()
        await until(lambda: len(_completed(place)) == 1)
    assert _completed(place) == ["note:s:2026-01-01T02:00:00Z"]


@asynchronous
async def test_a_run_under_way_hears_at_once_that_it_is_to_cancel() -> None:
    """`cancel_previous` doesn't wait for the next renewal of the lease where the same process drives the run."""
    place = Place()
    entered = asyncio.Event()

    async def wait() -> None:
        entered.set()
        await asyncio.Event().wait()

    @create_workflow(id="note")
    async def endless(ctx: Context[Any]) -> None:
        await ctx.step("wait", wait)

    runtime = place.runtime(Schedule("s", every.hours(1), overlap="cancel_previous"), workflow=endless)
    await runtime.sweep()
    async with serving(runtime, poll_interval=HOUR, grace=0.0):
        for hour in (1, 2):
            await place.clock.until_asleep()
            place.clock.set(START + HOUR * hour)
            async with asyncio.timeout(5):  # a renewal comes after ten
                await entered.wait()
            entered.clear()
        assert place.clock.now() == START + 2 * HOUR
    assert next(status for _, status in _statuses(place)) == "cancelled"


def _statuses(place: Place) -> list[tuple[str, str]]:
    stored: dict[str, Any] = vars(place.store)["_runs"]
    return sorted((run_id, run.status) for run_id, run in stored.items())


@asynchronous
async def test_schedules_that_fail_do_not_stop_a_worker(caplog: pytest.LogCaptureFixture) -> None:
    """It goes on with its runs, tells it once, and has its schedules back when the store can do them again."""

    class Moody(MemoryStore):
        broken = True

        async def read_schedules(self, keys: Any = None) -> Any:
            if self.broken:
                raise StoreError("no such table: schedules")
            return await super().read_schedules(keys)

    place = Place()
    store = place.store = Moody()
    runtime = place.runtime()
    with caplog.at_level(logging.ERROR):
        async with serving(runtime, poll_interval=HOUR):
            await runtime.start_run("note", run_id="n", drive=False)
            await until(lambda: _completed(place) == ["n"])
            for _ in range(3):
                await until(lambda: place.clock.waiting_for and place.clock.waiting_for[0] > place.clock.now())
                place.clock.set(place.clock.waiting_for[0])
            store.broken = False
            await until(lambda: place.clock.waiting_for and place.clock.waiting_for[0] > place.clock.now())
            place.clock.advance(5)
            await until(lambda: vars(store)["_schedules"])
    assert [record.getMessage() for record in caplog.records] == [
        "The worker can't see to its schedules, and goes on trying. StoreError: no such table: schedules"
    ]


# People


@asynchronous
async def test_schedules_are_listed() -> None:
    """Those that are registered, seen or not, and those that only the store knows."""
    place = Place()
    await place.runtime(Schedule("gone", every.hours(1))).sweep()
    runtime = place.runtime(Schedule("s", every.hours(1), overlap="buffer_one"), workflow=report)
    assert [(info.id, info.registered, info.next_at) for info in await runtime.list_schedules()] == [
        ("gone", False, at("2026-01-01T01:00")),
        ("s", True, None),
    ]
    for hour in range(3):
        await runtime.sweep(now=START + HOUR * hour)
    info = await runtime.get_schedule("s")
    assert info is not None
    assert (info.id, info.workflow_id, info.spec, info.next_at) == ("s", "report", "every hour", at("2026-01-01T03:00"))
    assert (info.active_runs, info.buffered) == (("report:s:2026-01-01T01:00:00Z",), at("2026-01-01T02:00"))
    assert (info.last_tick, info.last_outcome, info.last_run_id) == (at("2026-01-01T02:00"), "buffered", None)
    assert (info.enabled, info.paused, info.superseded) == (True, False, False)
    assert not info.is_overdue(at("2026-01-01T03:05"))
    assert info.is_overdue(at("2026-01-01T03:06"))
    assert [info.id for info in await runtime.list_schedules(workflow_id="note")] == ["gone"]


@asynchronous
async def test_a_schedule_is_named_by_its_workflow_where_two_have_one() -> None:
    """An id that two workflows use is refused without the workflow, and an unknown one with those that there are."""
    place = Place()
    both = [Registration(workflow, schedules=[Schedule("s", every.hours(1))]) for workflow in (note, report)]
    runtime = WorkflowRuntime(place.store, both, clock=place.clock)
    with pytest.raises(InvalidArgumentError, match="'note', 'report' each have a schedule 's': give workflow_id="):
        await runtime.pause_schedule("s")
    assert (await runtime.pause_schedule("s", workflow_id="note")).paused
    info = await runtime.get_schedule("s", workflow_id="report")
    assert info is not None
    assert not info.paused
    assert await runtime.get_schedule("x") is None
    with pytest.raises(ScheduleNotFoundError, match=r"no schedule 'x' of workflow 'note'\. There are: 's'"):
        await runtime.resume_schedule("x", workflow_id="note")


@asynchronous
async def test_pausing_and_resuming() -> None:
    """Before the first sweep as after it, twice as once; a paused schedule starts nothing on any host."""
    place = Place()
    runtime = place.runtime()
    info = await runtime.pause_schedule("s", reason="holidays")
    assert (info.paused, info.paused_at, info.pause_reason, info.next_at) == (True, START, "holidays", None)
    assert await runtime.pause_schedule("s", reason="again") == info
    place.clock.advance(2 * HOUR)
    assert not (await place.runtime().sweep()).summary.total
    info = await runtime.resume_schedule("s")
    assert (info.paused, info.pause_reason, info.next_at) == (False, None, at("2026-01-01T03:00"))
    assert await runtime.resume_schedule("s") == info
    place.clock.advance(HOUR)
    assert len((await place.runtime().sweep()).scheduled) == 1


@asynchronous
async def test_a_schedule_is_triggered_by_hand() -> None:
    """A run beside the ticks, driven at once, paused or not; once for each trigger id; the next tick finds it."""
    place = Place()
    runtime = place.runtime(Schedule("s", every.hours(1), input=lambda time: f"{time:%H:%M:%S}"))
    await runtime.pause_schedule("s")
    result = await runtime.trigger_schedule("s", trigger_id="t1")
    assert (result.kind, result.created, result.output) == ("completed", True, "00:00:30")
    assert result.run_id == "note:s:manual:t1"
    again = await runtime.trigger_schedule("s", trigger_id="t1")
    assert (again.kind, again.created) == ("completed", False)
    queued = await runtime.trigger_schedule("s", drive=False)
    assert (queued.kind, queued.created) == ("queued", True)
    assert queued.run_id.startswith("note:s:manual:")
    await runtime.resume_schedule("s")
    place.clock.advance(HOUR)
    await runtime.sweep(max_ready=0)
    assert await told(place.store, _key()) == ["triggered 01-00:00"] * 2 + ["skipped 01-01:00"]


@asynchronous
async def test_of_two_triggers_of_one_id_at_once_one_creates() -> None:
    """The second one says that the run was there, does not drive it, and leaves no trace in the history."""
    place = Place()
    store = place.store = YieldingStore()
    runtimes = [place.runtime(Schedule("s", every.hours(1), input=7)) for _ in range(2)]
    await runtimes[0].sweep()
    answers = await asyncio.gather(
        *(runtime.trigger_schedule("s", trigger_id="t", drive=False) for runtime in runtimes)
    )
    assert sorted(answer.created for answer in answers) == [False, True]
    assert {(answer.run_id, answer.kind) for answer in answers} == {("note:s:manual:t", "queued")}
    assert await told(store, _key()) == ["triggered 01-00:00"]


@asynchronous
async def test_a_trigger_needs_the_schedule_and_an_input() -> None:
    """A schedule that is not registered here has no known input; one whose input fails starts nothing."""
    place = Place()
    await place.runtime(Schedule("gone", every.hours(1))).sweep()

    def fail(time: datetime) -> Any:
        raise LookupError("nothing there")

    runtime = place.runtime(Schedule("s", every.hours(1), input=fail))
    with pytest.raises(InvalidArgumentError, match="'gone' of workflow 'note' is not registered with this runtime"):
        await runtime.trigger_schedule("gone")
    with pytest.raises(PayloadError, match="can't be made: LookupError: nothing there"):
        await runtime.trigger_schedule("s")
    assert (await runtime.pause_schedule("gone")).paused
    assert not (await runtime.resume_schedule("gone")).paused
    assert await run_ids(place.store) == set()


@asynchronous
async def test_a_backfill_starts_what_has_not_run() -> None:
    """All ticks of a time, with the ids that they have; those that have run are passed over, twice is as once."""
    place = Place()
    runtime = place.runtime(Schedule("s", every.minutes(1), input=lambda time: f"{time:%H:%M}"))
    await runtime.sweep()
    place.clock.advance(5 * HOUR)
    await runtime.sweep()
    seen: list[tuple[int, int]] = []
    done = await runtime.backfill("s", at("2026-01-01T00:00"), place.clock.now(), on_progress=lambda *p: seen.append(p))
    assert (len(done.run_ids), seen) == (301, [(100, 301), (200, 301), (300, 301), (301, 301)])
    assert done.run_ids[0] == "note:s:2026-01-01T00:00:00Z"
    assert await run_ids(place.store) == set(done.run_ids)
    await runtime.backfill("s", at("2026-01-01T00:00"), place.clock.now())
    swept = await runtime.sweep(max_ready=1000)
    assert swept.summary.ready == {"completed": 300}
    run = await runtime.get_run(done.run_ids[17])
    assert run is not None
    assert run.output == "00:17"
    assert {tick.outcome for tick in (await runtime.schedule_history("s")).ticks} == {"backfilled"}


@pytest.mark.parametrize(
    ("start", "end", "options", "message"),
    [
        ("2026-01-01T00:00", "2026-01-01T06:00", {}, "end is in the future"),
        ("2026-01-01T04:00", "2026-01-01T03:00", {}, "is after end"),
        ("2025-12-01T00:00", "2026-01-01T05:00", {}, "more than 1000 ticks"),
        ("2026-01-01T00:00", "2026-01-01T01:00", {"limit": 60}, "more than 60 ticks"),
    ],
)
@asynchronous
async def test_a_backfill_is_bounded(start: str, end: str, options: dict[str, Any], message: str) -> None:
    """What can't be meant starts nothing."""
    place = Place()
    runtime = place.runtime(Schedule("s", every.minutes(1)))
    with pytest.raises(InvalidArgumentError, match=message):
        await runtime.backfill("s", at(start), at(end), now=at("2026-01-01T05:30"), **options)
    assert await run_ids(place.store) == set()


@asynchronous
async def test_a_backfill_goes_on_after_a_crash() -> None:
    """Repeated after it died between two commits, it starts the rest."""
    place = Place()
    schedule = Schedule("s", every.minutes(1))
    await place.runtime(schedule).sweep()
    place.clock.advance(5 * HOUR)
    trace = CrashingStore(MemoryStore())
    for call in (1, 2, 3):
        point = next(p for p in crash_points(["commit_schedule"] * 3) if p.call == call and p.when == "after")
        dying = place.runtime(schedule, store=CrashingStore(place.store, point))
        with pytest.raises(SimulatedCrash):
            await dying.backfill("s", at("2026-01-01T00:00"), at("2026-01-01T04:59"))
    assert trace.trace == []
    done = await place.runtime(schedule).backfill("s", at("2026-01-01T00:00"), at("2026-01-01T04:59"))
    assert await run_ids(place.store) == set(done.run_ids)


@asynchronous
async def test_the_history_comes_in_parts() -> None:
    """The latest first, each part going on where the one before ended, nothing twice and nothing left out."""
    place = Place()
    runtime = place.runtime(Schedule("s", every.hours(1), catch_up=1))
    for hour in range(0, 12, 2):
        await runtime.sweep(now=START + HOUR * hour)
    whole = await runtime.schedule_history("s")
    assert (len(whole.ticks), whole.next_before) == (10, None)
    assert [tick.outcome for tick in whole.ticks] == ["started", "missed"] * 5
    parts, before = [], None
    while True:
        part = await runtime.schedule_history("s", limit=3, before=before)
        parts += part.ticks
        before = part.next_before
        if before is None:
            break
    assert tuple(parts) == whole.ticks
    assert len(await history(place.store, _key())) == 10
    for bad in ("", "1", "1-", "-1", "a-b", "\u0661-\u0661"):
        with pytest.raises(InvalidArgumentError, match="no next_before"):
            await runtime.schedule_history("s", before=bad)


@asynchronous
async def test_people_and_hosts_at_once_get_along() -> None:
    """A pause, a trigger and sweeps that race lose nothing: each is done, one after the other."""
    from .schedule_kit import YieldingStore

    place = Place()
    place.store = YieldingStore()
    runtime = place.runtime(Schedule("s", every.hours(1), overlap="allow"))
    await runtime.sweep()
    place.clock.advance(HOUR)
    triggers = [runtime.trigger_schedule("s", drive=False) for _ in range(5)]
    await asyncio.gather(*triggers, runtime.sweep(), place.runtime(Schedule("s", every.hours(1))).sweep())
    await runtime.pause_schedule("s")
    entries = await told(place.store, _key())
    assert sorted(entries) == ["started 01-01:00"] + ["triggered 01-01:00"] * 5
    assert len(await run_ids(place.store)) == 6
    assert (await state(place.store, _key())).paused_at == place.clock.now()
