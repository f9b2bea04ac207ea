"""What becomes of ticks: first sight, policies, catch-up, clocks, versions. Nothing is driven here."""

from __future__ import annotations

import asyncio
import logging
import time
from datetime import datetime, timedelta
from typing import Any

import pytest
from pydantic import BaseModel

from workflow.core import Context, DefinitionError, InvalidArgumentError, StoreError, create_workflow
from workflow.runtime import MemoryStore, Registration, Schedule, WorkflowRuntime, cron, every
from workflow.runtime.contract import Capabilities
from workflow.runtime.schedules.interventions import backfill, pause, resume
from workflow.runtime.schedules.records import ScheduleCommit, ScheduleKey
from workflow.runtime.schedules.spec import Spec
from workflow.runtime.schedules.state import LastTick, State

from .runtime_kit import asynchronous
from .schedule_kit import KEY, START, Host, YieldingStore, at, end_run, history, report, row, run_ids, state, told

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


def host(store: MemoryStore, spec: Spec | None = None, **options: Any) -> Host:
    """A process that has one schedule, hourly unless told otherwise."""
    return Host(store, [Schedule("s", spec or every.hours(1), **options)])


def run_of(hour: int, day: int = 1) -> str:
    return f"report:s:2026-01-{day:02}T{hour:02}:00:00Z"


# First sight, and one tick


@asynchronous
async def test_nothing_fires_on_deploy() -> None:
    """The first tick is strictly in the future of the first time a schedule is seen, even on a tick itself."""
    store = MemoryStore()
    monthly = host(store, cron("0 0 1 * *"))
    await monthly.look(at("2026-03-01T00:00:00"))
    assert ((await row(store)).due_at, await run_ids(store)) == (at("2026-04-01"), set())
    await monthly.look(at("2026-03-31T23:59:59"))
    assert await run_ids(store) == set()
    done = await monthly.look(at("2026-04-01"))
    assert [new.run_id for new in done.started] == ["report:s:2026-04-01T00:00:00Z"]
    assert ((await row(store)).due_at, await told(store)) == (at("2026-05-01"), ["started 01-00:00"])


@asynchronous
async def test_a_ticks_run_says_where_it_comes_from() -> None:
    """Its input is the schedule's, made of the tick's time where it is a function."""
    store = MemoryStore()
    ticks: list[datetime] = []
    made = host(store, input=lambda tick: ticks.append(tick) or {"day": f"{tick:%Y-%m-%d}"})
    await made.look(START)
    (new,) = (await made.look(at("2026-01-01T01:07"))).started
    assert (new.run_id, new.workflow_id, new.schedule_id) == (run_of(1), "report", "s")
    assert (new.input, new.due_at, ticks) == ('{"day":"2026-01-01"}', at("2026-01-01T01:07"), [at("2026-01-01T01:00")])


@asynchronous
async def test_an_input_that_fails_costs_its_tick_only() -> None:
    """What a function raises, or what doesn't fit, is in the history, and the next tick has its turn."""

    class Order(BaseModel):
        number: int

    @create_workflow(id="report")
    async def picky(ctx: Context[Order]) -> None: ...

    def number(tick: datetime) -> Any:
        if tick.hour == 1:
            raise ValueError("no number yet")
        return {"number": "none" if tick.hour == 2 else tick.hour}

    store = MemoryStore()
    runtime = WorkflowRuntime(store, [Registration(picky, schedules=[Schedule("s", every.hours(1), input=number)])])
    for hour in range(4):
        await runtime.sweep(now=START + HOUR * hour)
    bad, unfit, good = await history(store)
    assert (bad.outcome, bad.detail) == (
        "skipped",
        "The input of schedule 's' can't be made: ValueError: no number yet",
    )
    assert unfit.outcome == "skipped"
    assert "does not fit Order: number" in (unfit.detail or "")
    assert (good.outcome, good.run_id) == ("started", run_of(3))


@asynchronous
async def test_jitter_moves_the_run_and_not_the_tick() -> None:
    """Each tick fires at a moment of its own within the jitter, the same on every host."""
    store = MemoryStore()
    one, other = host(store, jitter=HOUR), host(store, jitter=3600.0)
    (registered,) = one.registered
    offsets = [registered.fires_at(START + HOUR * n) - (START + HOUR * n) for n in range(200)]
    assert all(timedelta(0) <= offset < HOUR for offset in offsets)
    assert min(offsets) < MINUTE * 3
    assert max(offsets) > MINUTE * 57
    await one.look(START)
    due_at = (await row(store)).due_at
    assert due_at == registered.fires_at(at("2026-01-01T01:00")) == other.registered[0].fires_at(at("2026-01-01T01:00"))
    await other.look(due_at - timedelta(microseconds=1))
    assert await run_ids(store) == set()
    await other.look(due_at)
    assert await run_ids(store) == {run_of(1)}


# Overlap


@pytest.mark.parametrize(
    ("overlap", "expected", "waiting", "active"),
    [
        ("skip", ["started 01-01:00", "skipped 01-02:00", "skipped 01-03:00"], None, [1]),
        ("allow", ["started 01-01:00", "started 01-02:00", "started 01-03:00"], None, [1, 2, 3]),
        ("buffer_one", ["started 01-01:00", "buffered 01-02:00", "skipped 01-03:00"], 2, [1]),
        (
            "cancel_previous",
            ["started 01-01:00", "buffered 01-02:00", "replaced 01-02:00", "buffered 01-03:00"],
            3,
            [1],
        ),
        ("terminate_previous", ["started 01-01:00", "started 01-02:00", "started 01-03:00"], None, [3]),
    ],
)
@asynchronous
async def test_overlap_policies(overlap: Any, expected: list[str], waiting: int | None, active: list[int]) -> None:
    """Three ticks while the first one's run goes on."""
    store = MemoryStore()
    hourly = host(store, overlap=overlap)
    for hour in range(4):
        await hourly.look(START + HOUR * hour)
    assert await told(store) == expected
    assert list((await row(store)).active) == [run_of(hour) for hour in active]
    assert (await state(store)).waiting == (None if waiting is None else START.replace(hour=waiting, second=0))


@pytest.mark.parametrize(("overlap", "hour"), [("buffer_one", 2), ("cancel_previous", 3)])
@asynchronous
async def test_what_waits_starts_when_the_run_has_ended(overlap: Any, hour: int) -> None:
    """The tick that waits gets its run, with its own time, at the first look after the end of the run before."""
    store = MemoryStore()
    hourly = host(store, overlap=overlap, input=lambda tick: tick.hour)
    for number in range(4):
        done = await hourly.look(START + HOUR * number)
    assert done.waiting == {KEY}
    await end_run(store, run_of(1), START + HOUR * 3)
    (new,) = (await hourly.look(START + HOUR * 3.5)).started
    assert (new.run_id, new.input) == (run_of(hour), str(hour))
    assert (await told(store))[-1] == f"started 01-0{hour}:00"
    assert (await row(store)).due_at == at("2026-01-01T04:00")


@asynchronous
async def test_the_run_before_is_asked_to_cancel_once() -> None:
    """`cancel_previous` is a request in the run's inbox, with the reason; further ticks don't repeat it."""
    store = MemoryStore()
    hourly = host(store, overlap="cancel_previous")
    for hour in range(4):
        await hourly.look(START + HOUR * hour)
    run = await store.get_run(run_of(1))
    assert run is not None
    assert (run.status, run.mail_count) == ("queued", 1)


@asynchronous
async def test_the_run_before_is_terminated_in_one_commit() -> None:
    """`terminate_previous` ends it as cancelled with the last event of its log, and starts the new one with that."""
    store = MemoryStore()
    hourly = host(store, overlap="terminate_previous")
    await hourly.look(START)
    await hourly.look(START + HOUR)
    runtime = WorkflowRuntime(store, [report])
    await hourly.look(START + HOUR * 2)
    run = await runtime.get_run(run_of(1))
    assert run is not None
    assert (run.status, run.completed_at) == ("cancelled", START + HOUR * 2)
    (event,) = await runtime.get_timeline(run_of(1))
    assert (event.type, event.at, event.run_id) == ("RUN_CANCELLED", START + HOUR * 2, run_of(1))


# Catching up


@pytest.mark.parametrize(
    ("catch_up", "expected"),
    [
        (1, ["missed 01-01:00..01-04:00", "started 01-05:00"]),
        (2, ["missed 01-01:00..01-03:00", "started 01-04:00", "started 01-05:00"]),
        (99, [f"started 01-0{hour}:00" for hour in range(1, 6)]),
        (HOUR, ["missed 01-01:00..01-04:00", "started 01-05:00"]),
        (2 * HOUR, ["missed 01-01:00..01-03:00", "started 01-04:00", "started 01-05:00"]),
        (MINUTE, ["missed 01-01:00..01-05:00"]),
    ],
)
@asynchronous
async def test_downtime(catch_up: Any, expected: list[str]) -> None:
    """After five hours away, what the window covers is made up for, and the rest is one entry of the history."""
    store = MemoryStore()
    hourly = host(store, catch_up=catch_up, overlap="allow")
    await hourly.look(START)
    await hourly.look(at("2026-01-01T05:30"))
    assert await told(store) == expected
    assert (await row(store)).due_at == at("2026-01-01T06:00")


@pytest.mark.parametrize(
    ("overlap", "expected"),
    [
        ("skip", ["started 01-01:00", "skipped 01-02:00..01-05:00"]),
        ("buffer_one", ["started 01-01:00", "buffered 01-02:00", "skipped 01-03:00..01-05:00"]),
        ("cancel_previous", ["replaced 01-01:00..01-04:00", "started 01-05:00"]),
        ("terminate_previous", ["replaced 01-01:00..01-04:00", "started 01-05:00"]),
    ],
)
@asynchronous
async def test_ticks_that_are_made_up_for_overlap_as_well(overlap: Any, expected: list[str]) -> None:
    """A window of many ticks doesn't start runs only to stop them, and doesn't break the policy."""
    store = MemoryStore()
    hourly = host(store, catch_up=99, overlap=overlap)
    await hourly.look(START)
    await hourly.look(at("2026-01-01T05:30"))
    assert await told(store) == expected


@pytest.mark.parametrize("spec", [every.seconds(1), cron("* * * * *", timezone="Europe/Berlin")])
@pytest.mark.parametrize("overlap", ["skip", "cancel_previous"])
@pytest.mark.parametrize("catch_up", [1, 10, 300 * DAY])
@asynchronous
async def test_years_away_cost_nothing(spec: Spec, overlap: Any, catch_up: Any) -> None:
    """A year of missed seconds is not counted through."""
    store = MemoryStore()
    busy = host(store, spec, overlap=overlap, catch_up=catch_up)
    await busy.look(START)
    began = time.process_time()
    await busy.look(START + 365 * DAY)
    assert time.process_time() - began < 0.5
    assert len(await history(store)) <= 3


@asynchronous
async def test_a_long_backlog_of_one_holds_nobody_up() -> None:
    """With room for a few runs only, schedules take turns; what is left is said, and comes next time."""
    store = MemoryStore()
    schedules = [
        Schedule("long", every.minutes(1), catch_up=500, overlap="allow"),
        Schedule("short", every.hours(1)),
    ]
    both = Host(store, schedules)
    await both.look(START)
    done = await both.look(START + 2 * HOUR, max_runs=4)
    assert (len(done.started), done.remaining) == (4, True)
    assert "short" in {new.schedule_id for new in done.started}
    later = await both.look(START + 2 * HOUR)
    assert (len(later.started), later.remaining) == (117, False)


# Clocks and hosts


@asynchronous
async def test_a_clock_set_back_fires_nothing_again() -> None:
    """A tick fires once, however often its time comes; the next one keeps its time."""
    store = MemoryStore()
    hourly = host(store, overlap="allow")
    await hourly.look(START)
    await hourly.look(START + 3 * HOUR)
    before = await row(store)
    for back in (2.9, 2.0, 0.5, 3.1):
        await hourly.look(START + HOUR * back)
    assert await row(store) == before


@asynchronous
async def test_many_hosts_at_once_start_one_run() -> None:
    """Whoever comes second finds the tick done."""
    store = YieldingStore()
    hosts = [host(store, overlap="allow") for _ in range(5)]
    await asyncio.gather(*(each.look(START) for each in hosts))
    started = await asyncio.gather(*(each.look(START + HOUR) for each in hosts))
    assert [new.run_id for done in started for new in done.started] == [run_of(1)]
    assert await told(store) == ["started 01-01:00"]


# Versions


@asynchronous
async def test_a_changed_schedule_begins_anew() -> None:
    """The next tick is the first one after now of the new spec; what the old one had left undone is in the history."""
    store = MemoryStore()
    await host(store).look(START)
    changed = host(store, every.minutes(20))
    await changed.look(at("2026-01-01T02:00"))
    assert ((await row(store)).due_at, await run_ids(store)) == (at("2026-01-01T02:20"), set())
    assert await told(store) == ["missed 01-01:00..01-02:00"]
    await changed.look(at("2026-01-01T02:20"))
    assert (await told(store))[1:] == ["started 01-02:20"]


@asynchronous
async def test_a_tick_that_waits_survives_a_change_of_the_spec() -> None:
    """It was promised a run, and gets it."""
    store = MemoryStore()
    first = host(store, overlap="buffer_one")
    for hour in range(3):
        await first.look(START + HOUR * hour)
    second = host(store, every.hours(5), overlap="buffer_one")
    await second.look(START + HOUR * 2)
    await end_run(store, run_of(1), START + HOUR * 2)
    await second.look(START + HOUR * 2.1)
    assert (await told(store))[-1] == "started 01-02:00"


@asynchronous
async def test_two_versions_in_a_rolling_deploy_do_not_fight() -> None:
    """Once the new one is there the old one stands down, for as long as the new one shows itself."""
    store = MemoryStore()
    old, new = host(store, overlap="allow"), host(store, every.minutes(30), overlap="allow")
    await old.look(START)
    now = START + MINUTE
    await new.look(now)
    for _ in range(40):
        now += 3 * MINUTE
        await old.look(now)
        assert (await state(store)).identity == "every 30 minutes"
        await new.look(now)
    outcomes = [record.outcome for record in await history(store)]
    assert outcomes == ["started"] * 4


@asynchronous
async def test_a_rollback_takes_over_when_the_newer_version_is_gone() -> None:
    """A quarter of an hour without a sign of the new version, and the old one goes on, with its next tick."""
    store = MemoryStore()
    old, new = host(store), host(store, every.minutes(30))
    await old.look(START)
    await new.look(START + MINUTE)
    await old.look(START + 15 * MINUTE)
    assert (await state(store)).identity == "every 30 minutes"
    await old.look(START + 16 * MINUTE)
    assert ((await state(store)).identity, (await row(store)).due_at) == ("every hour", at("2026-01-01T01:00"))
    await new.look(START + 17 * MINUTE)  # a straggler
    assert (await state(store)).identity == "every hour"


@asynchronous
async def test_a_version_that_is_alone_writes_nothing_in_between() -> None:
    """Only where another version might wonder does a process say that it is there."""
    store = MemoryStore()
    daily = host(store, every.days(1))
    await daily.look(START)
    for minute in range(0, 600, 20):
        await daily.look(START + MINUTE * minute)
    assert (await row(store)).revision == 1


@asynchronous
async def test_disabled_is_a_version_that_never_fires() -> None:
    """A deployment with `enabled=False` stops a schedule, drops what waits, and another one starts it anew."""
    store = MemoryStore()
    first = host(store, overlap="buffer_one")
    for hour in range(3):
        await first.look(START + HOUR * hour)
    off = host(store, overlap="buffer_one", enabled=False)
    for hour in (2.2, 5):
        await off.look(START + HOUR * hour)
    assert ((await row(store)).due_at, (await told(store))[2:]) == (None, ["skipped 01-02:00"])
    on = host(store, every.hours(1), overlap="allow")
    await on.look(START + HOUR * 5 + 15 * MINUTE)
    await on.look(START + HOUR * 6)
    assert (await told(store))[3:] == ["started 01-06:00"]


@asynchronous
async def test_an_unregistered_schedule_stops() -> None:
    """Nobody touches the row of a schedule that nobody has registered."""
    store = MemoryStore()
    await host(store).look(START)
    before = await row(store)
    await Host(store, [Schedule("other", every.hours(1))]).look(START + DAY)
    assert await row(store) == before


# Pausing


@asynchronous
async def test_paused_ticks_are_written_down_and_not_made_up_for() -> None:
    """While it is paused nothing starts, what waits is dropped, and it goes on with the first tick after the resume."""
    store = MemoryStore()
    hourly = host(store, overlap="buffer_one", catch_up=99)
    for hour in range(3):
        await hourly.look(START + HOUR * hour)
    commit = pause(await row(store), START + HOUR * 2.5, "holidays")
    assert commit is not None
    assert await store.commit_schedule(commit)
    await end_run(store, run_of(1), START + HOUR * 2.5)
    await hourly.look(START + HOUR * 4)
    assert pause(await row(store), START, None) is None
    commit = resume(await row(store), START + HOUR * 5.5, hourly.registered[0])
    assert commit is not None
    assert await store.commit_schedule(commit)
    assert (await row(store)).due_at == at("2026-01-01T06:00")
    assert resume(await row(store), START, hourly.registered[0]) is None
    await hourly.look(START + HOUR * 6)
    assert (await told(store))[2:] == ["skipped 01-02:00", "skipped 01-03:00..01-05:30", "started 01-06:00"]


@asynchronous
async def test_resumed_by_a_process_that_has_not_got_it() -> None:
    """The next process that has it finds out what comes next."""
    store = MemoryStore()
    hourly = host(store)
    await hourly.look(START)
    for act in (lambda r: pause(r, START, None), lambda r: resume(r, START + 3 * HOUR, None)):
        commit = act(await row(store))
        assert commit is not None
        assert await store.commit_schedule(commit)
    assert (await row(store)).due_at is None
    await hourly.look(START + 3 * HOUR + MINUTE)
    assert (await row(store)).due_at == at("2026-01-01T04:00")


@asynchronous
async def test_after_a_clock_that_was_wrong_by_years_a_resume_helps() -> None:
    """A host in the year 2099 has fired a tick; pausing and resuming brings the schedule back to our days."""
    store = MemoryStore()
    hourly = host(store)
    await hourly.look(START)
    await hourly.look(at("2099-01-01T00:30"))
    assert (await row(store)).due_at == at("2099-01-01T01:00")
    for act in (lambda r: pause(r, START, None), lambda r: resume(r, START, hourly.registered[0])):
        commit = act(await row(store))
        assert commit is not None
        assert await store.commit_schedule(commit)
    assert (await row(store)).due_at == at("2026-01-01T01:00")


# What goes wrong


@asynchronous
async def test_a_broken_schedule_stops_only_itself(caplog: pytest.LogCaptureFixture) -> None:
    """A row that can't be read, or a workflow that can't be imported, is in the log once, and the others go on."""
    store = MemoryStore()
    both = Host(store, [Schedule("a", every.hours(1)), Schedule("s", every.hours(1))])
    await both.look(START)
    broken = ScheduleCommit(ScheduleKey("report", "a"), 1, START, START, False, "not JSON")
    assert await store.commit_schedule(broken)
    with caplog.at_level(logging.ERROR):
        for hour in (1, 2, 3):
            done = await both.look(START + HOUR * hour)
    assert await told(store) == ["started 01-01:00", "skipped 01-02:00", "skipped 01-03:00"]
    assert done.due_at == at("2026-01-01T04:00")
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith("Schedule 'a' of workflow 'report' can't go on, and is tried again: StoreError: The row of")


@asynchronous
async def test_a_workflow_that_cannot_be_imported_keeps_its_ticks() -> None:
    """A broken deployment costs no tick: the next process that has the workflow makes up for it."""
    store = MemoryStore()
    schedules = [Schedule("s", every.hours(1))]
    lost = WorkflowRuntime(store, [Registration("nowhere.at:all", id="report", schedules=schedules)])
    await lost.sweep(now=START)
    assert not (await lost.sweep(now=START + HOUR)).summary.total
    assert await told(store) == []
    await host(store).look(START + HOUR)
    assert await told(store) == ["started 01-01:00"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"id": ""}, "schedule id must not be empty"),
        ({"spec": "0 9 * * *"}, "write its spec as cron"),
        ({"overlap": "queue"}, "overlap is one of skip, allow, buffer_one, cancel_previous, terminate_previous"),
        ({"catch_up": 0}, "at least 1"),
        ({"catch_up": 1.5}, "whole number"),
        ({"catch_up": 10**6}, "at most 10000 ticks"),
        ({"catch_up": timedelta(0)}, "longer than nothing"),
        ({"catch_up": -HOUR}, "at least 0"),
        ({"jitter": 3601}, "longer than the time between two ticks"),
        ({"jitter": -1}, "at least 0"),
        ({"spec": cron("0,1 9 * * *"), "jitter": 61}, r"longer than the time between two ticks \(0:01:00\)"),
        ({"enabled": "yes"}, "enabled is True or False"),
    ],
)
def test_a_bad_schedule_fails_where_it_is_written(options: dict[str, Any], message: str) -> None:
    """What can't be meant is refused before anything runs."""
    arguments = {"id": "s", "spec": every.hours(1), **options}
    with pytest.raises((DefinitionError, InvalidArgumentError), match=message):
        Schedule(arguments.pop("id"), arguments.pop("spec"), **arguments)


def test_an_async_input_is_refused() -> None:
    """An input is made without waiting for anything: what takes a while is a step."""

    async def load(tick: datetime) -> int:
        return 1

    with pytest.raises(DefinitionError, match="must not be async"):
        Schedule("s", every.hours(1), input=load)


def test_a_bad_registration_is_refused() -> None:
    """One id for two schedules, something that is none, run ids that would be the same, a store without schedules."""
    schedule = Schedule("s", every.hours(1))
    with pytest.raises(DefinitionError, match="two schedules 's'"):
        Registration(report, schedules=[schedule, Schedule("s", every.hours(2))])
    with pytest.raises(DefinitionError, match="is no Schedule"):
        Registration(report, schedules=[every.hours(1)])  # pyright: ignore[reportArgumentType]
    with pytest.raises(DefinitionError, match="too long"):
        Registration(report, schedules=[Schedule("s" * 480, every.hours(1))])

    @create_workflow(id="report:s")
    async def other(ctx: Context[Any]) -> None: ...

    registrations = [
        Registration(report, schedules=[Schedule("s:t", every.hours(1))]),
        Registration(other, schedules=[Schedule("t", every.hours(1))]),
    ]
    with pytest.raises(DefinitionError, match="the same ids"):
        WorkflowRuntime(MemoryStore(), registrations)
    store = MemoryStore()
    vars(store)["capabilities"] = Capabilities(durable=False)
    with pytest.raises(InvalidArgumentError, match="MemoryStore can't do schedules"):
        WorkflowRuntime(store, [Registration(report, schedules=[schedule])])


def test_the_state_of_a_row_comes_back_as_it_was() -> None:
    """What is written is read; what a newer version has added is ignored; anything else is an error."""
    full = State("x", START, START, ("a", "b"), START, START, START, START, "why", LastTick(START, "started", "r"))
    assert State.read(KEY, full.write()) == full
    spare = State("x", START, START)
    assert State.read(KEY, spare.write()[:-1] + ',"new":1}') == spare
    for text in ("", "1", "[]", "{}", '{"identity":"x"}', spare.write().replace("2026", "MMXXVI")):
        with pytest.raises(StoreError, match="can't be read"):
            State.read(KEY, text)


@pytest.mark.parametrize("overlap", ["cancel_previous", "terminate_previous"])
@asynchronous
async def test_a_tick_does_not_stop_its_own_run(overlap: Any) -> None:
    """Where a backfill has started the run of a tick before the tick came, the tick finds it there, and lets it be."""
    store = MemoryStore()
    hourly = host(store, overlap=overlap)
    await hourly.look(START)
    now = at("2026-01-01T01:00:20")
    filling = backfill(await row(store), now, hourly.registered[0], [at("2026-01-01T01:00:00")])
    assert await store.commit_schedule(filling)
    done = await hourly.look(now)
    run = await store.get_run(run_of(1))
    assert run is not None
    assert (run.status, run.mail_count, done.cancelled) == ("queued", 0, [])
    assert await told(store) == ["backfilled 01-01:00", "started 01-01:00"]
    await hourly.look(now + HOUR)
    run = await store.get_run(run_of(1))
    assert run is not None
    assert (run.status == "cancelled", run.mail_count) == ((True, 0) if "term" in overlap else (False, 1))
