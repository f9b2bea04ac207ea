"""Schedules against a simple model of them, over years of simulated time and whatever can go wrong meanwhile.

The model goes tick by tick and knows neither rows nor revisions. What it says of each tick must be what the history
says, and the runs in the store must be those of the ticks that were started: each exactly once.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left, bisect_right
from datetime import datetime, timedelta
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from workflow.runtime import Schedule, cron, every
from workflow.runtime.schedules.interventions import pause, resume
from workflow.runtime.schedules.records import TickRecord
from workflow.runtime.schedules.schedule import Registered
from workflow.runtime.schedules.spec import Spec
from workflow.runtime.testing import CrashingStore, CrashPoint, SimulatedCrash

from .schedule_kit import KEY, START, Host, YieldingStore, end_run, history, row, run_ids, state

DAY = timedelta(days=1)
MOMENT = timedelta(microseconds=1)


class Model:
    """What the documentation says, tick by tick."""

    def __init__(self, schedule: Registered, now: datetime) -> None:
        self.schedule = schedule
        self.overlap = schedule.schedule.overlap
        self.cursor = now
        self.paused = False
        self.waiting: datetime | None = None
        self.active: list[datetime] = []
        self.fate: dict[datetime, str] = {}

    def between(self, start: datetime, end: datetime) -> list[datetime]:
        return list(self.schedule.schedule.spec.between(start + MOMENT, end))

    def look(self, now: datetime) -> None:
        if self.paused:
            return
        due = [tick for tick in self.between(self.cursor, now) if self.schedule.fires_at(tick) <= now]
        kept = self.kept(due, now)
        self.fate |= dict.fromkeys(due, "missed")
        self.cursor = due[-1] if due else self.cursor
        if kept and self.overlap in ("cancel_previous", "terminate_previous"):
            self.fate |= dict.fromkeys([*([self.waiting] if self.waiting else []), *kept[:-1]], "replaced")
            self.waiting, kept = None, kept[-1:]
        self.start_waiting()
        for tick in kept:
            self.arrive(tick)

    def kept(self, due: list[datetime], now: datetime) -> list[datetime]:
        catch_up = self.schedule.schedule.catch_up
        if isinstance(catch_up, int):
            return due[-catch_up:]
        return [tick for tick in due if self.schedule.fires_at(tick) >= now - catch_up]

    def start_waiting(self) -> None:
        if self.waiting is not None and (not self.active or self.overlap == "allow"):
            self.start(self.waiting)
            self.waiting = None

    def arrive(self, tick: datetime) -> None:
        if self.overlap == "terminate_previous":
            self.active = []
        if self.overlap == "buffer_one" and self.waiting is not None:
            self.fate[tick] = "skipped"
        elif not self.active or self.overlap == "allow":
            self.start(tick)
        elif self.overlap == "skip":
            self.fate[tick] = "skipped"
        else:
            self.fate[tick], self.waiting = "buffered", tick

    def start(self, tick: datetime) -> None:
        self.fate[tick] = "started"
        self.active.append(tick)

    def pause(self) -> None:
        self.paused = True
        if self.waiting is not None:
            self.fate[self.waiting], self.waiting = "skipped", None

    def move_on(self, now: datetime, outcome: str) -> None:
        """Resumed, or deployed anew: nothing is made up for."""
        self.fate |= dict.fromkeys(self.between(self.cursor, now), outcome)
        self.cursor = max(self.cursor, now)


class World:
    """The real thing beside the model, through the same events."""

    def __init__(self, spec: Spec, options: dict[str, Any]) -> None:
        self.store = YieldingStore()
        self.options = options
        self.now = self.latest = START
        self.eras: list[tuple[Spec, datetime]] = []
        self.host = self.deployed(spec)
        self.model = Model(self.host.registered[0], self.now)

    def deployed(self, spec: Spec) -> Host:
        self.eras.append((spec, self.now))
        self.schedule = Schedule("s", spec, **self.options)
        return Host(self.store, [self.schedule])

    async def begin(self) -> None:
        await self.host.look(self.now)
        assert not await run_ids(self.store)

    async def apply(self, action: tuple[str, Any]) -> None:
        await getattr(self, action[0])(action[1])

    async def advance(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)
        self.latest = max(self.latest, self.now)
        await self.look(None)

    async def set_back(self, seconds: float) -> None:
        """The clock is set back, but not by days: see `State.floor` for that."""
        self.now = max(self.now - timedelta(seconds=seconds), self.latest - DAY / 2)
        await self.look(None)

    async def look(self, _: Any) -> None:
        self.model.look(self.now)
        await self.host.look(self.now)

    async def doubled(self, seconds: float) -> None:
        """Two hosts fire at once, and a third one too late, by a clock that is behind."""
        self.now += timedelta(seconds=seconds)
        self.latest = max(self.latest, self.now)
        self.model.look(self.now)
        other = Host(self.store, [self.schedule])
        await asyncio.gather(self.host.look(self.now), other.look(self.now))
        await other.look(self.now - timedelta(seconds=5))

    async def crash(self, point: tuple[float, int, Any]) -> None:
        """A host dies at a commit; another one goes on."""
        seconds, call, when = point
        self.now += timedelta(seconds=seconds)
        self.latest = max(self.latest, self.now)
        dying = Host(CrashingStore(self.store, CrashPoint("commit_schedule", call, when)), [self.schedule])
        try:
            await dying.look(self.now)
        except SimulatedCrash:
            await self.host.look(self.now)
        self.model.look(self.now)

    async def end(self, number: int) -> None:
        if self.model.active:
            tick = self.model.active.pop(number % len(self.model.active))
            await end_run(self.store, self.host.registered[0].run_id(tick), self.now)
        await self.look(None)

    async def pause(self, _: Any) -> None:
        commit = pause(await row(self.store), self.now, "test")
        assert commit is None or await self.store.commit_schedule(commit)
        self.model.pause()

    async def resume(self, _: Any) -> None:
        commit = resume(await row(self.store), self.now, self.host.registered[0])
        if commit is not None:
            assert await self.store.commit_schedule(commit)
            self.model.move_on(self.now, "skipped")
            self.model.paused = False
        await self.look(None)

    async def deploy(self, spec: Spec) -> None:
        if any(spec == former for former, _ in self.eras):
            return
        self.model.move_on(self.now, "skipped" if self.model.paused else "missed")
        self.host = self.deployed(spec)
        self.eras[-1] = (spec, self.model.cursor)
        self.model.schedule = self.host.registered[0]
        await self.look(None)

    # Checking

    def true_ticks(self) -> list[datetime]:
        ends = [*(begin for _, begin in self.eras[1:]), self.model.cursor]
        return [
            tick
            for (spec, begin), end in zip(self.eras, ends, strict=True)
            for tick in spec.between(begin + MOMENT, end)
        ]

    async def check(self) -> None:
        ticks = self.true_ticks()
        fates = account(ticks, await history(self.store))
        assert fates == self.model.fate
        assert set(ticks) == fates.keys()
        run_id = self.host.registered[0].run_id
        assert await run_ids(self.store) == {run_id(tick) for tick, fate in fates.items() if fate == "started"}
        current = await state(self.store)
        assert (current.waiting, current.after) == (self.model.waiting, self.model.cursor)
        assert set((await row(self.store)).active) == {run_id(tick) for tick in self.model.active}


def account(ticks: list[datetime], records: list[TickRecord]) -> dict[datetime, str]:
    """What the history says of each tick: one thing, or that it waited and then one thing."""
    fates: dict[datetime, str] = {}
    for record in records:
        covered = ticks[bisect_left(ticks, record.tick_at) : bisect_right(ticks, record.until or record.tick_at)]
        assert covered, f"{record} is about no tick"
        for tick in covered:
            assert fates.get(tick) in (None, "buffered"), f"{record}: its tick was {fates[tick]} before"
            fates[tick] = record.outcome
        assert (record.run_id is not None) == (record.outcome == "started")
    return fates


SPECS = [
    every.minutes(20),
    every.hours(1),
    every.hours(7),
    every.days(1),
    cron("30 2 * * *", timezone="Europe/Berlin"),
    cron("*/30 2 * * *", timezone="America/New_York"),
    cron("0 */6 * * *", timezone="Europe/Berlin"),
    cron("0 0 29 2 *"),
]
specs = st.sampled_from(SPECS)
minutes = st.integers(0, 3 * 60 * 60)
hours = st.integers(0, 3 * 86400)
lengths = st.one_of(minutes, hours, hours, st.integers(0, 60 * 86400))
actions = st.one_of(
    st.tuples(st.just("advance"), lengths),
    st.tuples(st.just("advance"), hours),
    st.tuples(st.just("set_back"), st.integers(0, 40000)),
    st.tuples(st.just("doubled"), hours),
    st.tuples(st.just("crash"), st.tuples(lengths, st.integers(1, 3), st.sampled_from(["before", "after"]))),
    st.tuples(st.just("end"), st.integers(0, 9)),
    st.tuples(st.sampled_from(["pause", "resume", "resume"]), st.none()),
    st.tuples(st.just("deploy"), specs),
)
options = st.fixed_dictionaries(
    {
        "overlap": st.sampled_from(["skip", "allow", "buffer_one", "cancel_previous", "terminate_previous"]),
        "catch_up": st.one_of(
            st.integers(1, 5), st.integers(60, 200000).map(lambda seconds: timedelta(seconds=seconds))
        ),
        "jitter": st.sampled_from([None, None, 600.0]),
    }
)


@settings(deadline=None, max_examples=200)
@given(spec=specs, options=options, script=st.lists(actions, min_size=10, max_size=40))
def test_every_tick_starts_one_run_or_is_accounted_for(
    spec: Spec, options: dict[str, Any], script: list[tuple[str, Any]]
) -> None:
    """Whatever happens to hosts and clocks, each due tick has exactly the fate that its policy says."""

    async def play() -> None:
        world = World(spec, options)
        await world.begin()
        for action in script:
            await world.apply(action)
        await world.check()

    asyncio.run(play())


@settings(deadline=None, max_examples=60)
@given(spec=specs, options=options, script=st.lists(st.tuples(lengths, st.integers(0, 3)), min_size=3, max_size=25))
def test_a_few_at_a_time_come_to_an_account_as_well(
    spec: Spec, options: dict[str, Any], script: list[tuple[int, int]]
) -> None:
    """With looks that may start few runs only, no tick is lost, doubled or started beyond the bound."""

    async def play() -> None:
        store, now = YieldingStore(), START
        host = Host(store, [Schedule("s", spec, **options)])
        await host.look(now)
        for seconds, bound in script:
            now += timedelta(seconds=seconds)
            assert len((await host.look(now, bound)).started) <= bound
        for _ in range(300):
            if not (done := await host.look(now, 2)).remaining:
                break
            assert done.started
        ticks = list(spec.between(START + MOMENT, (await state(store)).after))
        fates = account(ticks, await history(store))
        assert fates.keys() == set(ticks)
        run_id = host.registered[0].run_id
        assert await run_ids(store) == {run_id(tick) for tick, fate in fates.items() if fate == "started"}
        assert (await row(store, KEY)).due_at == next_due(host.registered[0], (await state(store)).after)

    asyncio.run(play())


def next_due(schedule: Registered, after: datetime) -> datetime | None:
    tick = schedule.schedule.spec.next_after(after)
    return None if tick is None else schedule.fires_at(tick)
