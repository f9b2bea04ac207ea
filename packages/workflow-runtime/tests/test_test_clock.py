"""`TestClock` and `skip_time`: time that moves only when it should."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from workflow.core.errors import InvalidArgumentError
from workflow.core.records import Commit, Lease, NewRun, Transition, Wait
from workflow.runtime.contract import ClaimLimits
from workflow.runtime.memory import MemoryStore
from workflow.runtime.testing import TestClock, skip_time

START = datetime(2026, 1, 1, tzinfo=UTC)


def later(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def test_it_stands_still() -> None:
    """Time begins where it was told to, by default on a certain day, and does not move by itself."""
    clock = TestClock()
    assert clock.now() == clock.now() == START
    assert TestClock(later(5)).now() == later(5)


def test_it_moves_when_told() -> None:
    """`advance` takes seconds or a timedelta, `set` an instant; both answer the new time."""
    clock = TestClock()
    assert clock.advance(1.5) == clock.now() == later(1.5)
    assert clock.advance(timedelta(days=1)) == later(86401.5)
    assert clock.set(later(7)) == clock.now() == later(7)


def test_it_answers_in_utc() -> None:
    """An aware time in any zone is taken, and comes back in UTC."""
    berlin = timezone(timedelta(hours=1))
    clock = TestClock(datetime(2026, 1, 1, 1, tzinfo=berlin))
    assert clock.now() == START
    assert clock.now().tzinfo is UTC


def test_it_refuses_naive_times_and_steps_back() -> None:
    """A naive time, and an advance backwards, are errors that say what to do."""
    naive = datetime(2026, 1, 1)  # noqa: DTZ001
    clock = TestClock()
    for wrong in (lambda: TestClock(naive), lambda: clock.set(naive), lambda: clock.advance(-1)):
        with pytest.raises(InvalidArgumentError):
            wrong()
    with pytest.raises(InvalidArgumentError, match="time zone"):
        asyncio.run(clock.sleep_until(naive, busy=False))
    assert clock.now() == START


def test_an_idle_sleep_jumps() -> None:
    """With nothing else under way a sleep takes no time, and it is the time slept for afterwards."""
    clock = TestClock()
    asyncio.run(clock.sleep_until(later(86400 * 365), busy=False))
    assert clock.now() == later(86400 * 365)


def test_a_sleep_into_the_past_returns() -> None:
    """A time that has come is not waited for, busy or not, and the clock is not turned back for it."""
    clock = TestClock(later(10))
    for busy in (True, False):
        asyncio.run(clock.sleep_until(later(3), busy=busy))
        asyncio.run(clock.sleep_until(later(10), busy=busy))
    assert clock.now() == later(10)


def test_a_busy_sleep_waits_for_the_test() -> None:
    """With a step under way a sleep ends when the clock was moved far enough, and not before."""

    async def scenario() -> None:
        clock = TestClock()
        sleeper = asyncio.ensure_future(clock.sleep_until(later(10), busy=True))
        await clock.until_asleep()
        assert clock.waiting_for == (later(10),)
        clock.advance(9)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not sleeper.done()
        clock.advance(1)
        await sleeper
        assert clock.waiting_for == ()

    asyncio.run(scenario())


@pytest.mark.parametrize("move", [lambda clock: clock.set(later(60)), lambda clock: clock.advance(60)])
def test_a_move_wakes_all_who_are_due(move: Callable[[TestClock], object]) -> None:
    """Whoever waited for a time up to the new one wakes, and the others sleep on."""

    async def scenario() -> None:
        clock = TestClock()
        sleepers = [asyncio.ensure_future(clock.sleep_until(later(s), busy=True)) for s in (60, 61, 30)]
        await clock.until_asleep(3)
        move(clock)
        await asyncio.gather(sleepers[0], sleepers[2])
        assert clock.waiting_for == (later(61),)
        sleepers[1].cancel()
        await asyncio.wait([sleepers[1]])
        assert clock.waiting_for == ()

    asyncio.run(scenario())


def test_an_idle_jump_wakes_busy_sleepers() -> None:
    """Time is one for all: a jump of one drive lets the time of others pass, too."""

    async def scenario() -> None:
        clock = TestClock()
        busy = asyncio.ensure_future(clock.sleep_until(later(5), busy=True))
        await clock.until_asleep()
        await clock.sleep_until(later(9), busy=False)
        await busy

    asyncio.run(scenario())


def test_a_clock_outlives_its_loop() -> None:
    """One clock serves several event loops after each other: a sleep that a loop's end cancelled is forgotten."""
    clock = TestClock()

    async def abandon() -> None:
        sleeper = asyncio.ensure_future(clock.sleep_until(later(5), busy=True))
        await clock.until_asleep()
        assert not sleeper.done()

    asyncio.run(abandon())
    assert clock.waiting_for == ()
    clock.advance(10)


def test_two_tests_wait_for_different_numbers_of_sleepers() -> None:
    """`until_asleep` returns at once where enough sleep already, and else when they do."""

    async def scenario() -> None:
        clock = TestClock()
        both = asyncio.ensure_future(clock.until_asleep(2))
        sleepers = [asyncio.ensure_future(clock.sleep_until(later(s), busy=True)) for s in (1, 2)]
        await clock.until_asleep(1)
        await both
        await clock.until_asleep(2)
        clock.advance(2)
        await asyncio.gather(*sleepers)

    asyncio.run(scenario())


class Sweeper:
    """A stand-in for a runtime: its sweep claims what is due, notes when, and pauses it until the next of its times."""

    def __init__(self, clock: TestClock, times: dict[str, list[float]]) -> None:
        self.store = MemoryStore()
        self.workflow_ids = ["orders"]
        self.clock = clock
        self.times = times
        self.swept: list[tuple[str, float]] = []

    async def start(self) -> None:
        for run_id, times in self.times.items():
            await self.store.create_run(
                NewRun(run_id, "orders", None, "{}", later(times.pop(0))), lease=None, now=START
            )

    async def sweep(self) -> None:
        now = self.clock.now()
        lease = Lease("sweeper", now + timedelta(seconds=30))
        for claimed in await self.store.claim_due(["orders"], lease, limits=ClaimLimits.all(9), now=now):
            run = claimed.run
            self.swept.append((run.run_id, (now - START).total_seconds()))
            await self.store.commit(Commit(run.run_id, run.fence, 0, now, lease, transition=self._next(run.run_id)))

    def _next(self, run_id: str) -> Transition:
        times = self.times[run_id]
        if not times:
            return Transition("completed")
        due = later(times.pop(0))
        return Transition("paused", due, (Wait("timer", "sleep", until=due),))


def skipped(sweeper: Sweeper, **options: Any) -> datetime:
    async def scenario() -> datetime:
        await sweeper.start()
        return await skip_time(sweeper, sweeper.clock, **options)

    return asyncio.run(scenario())


def test_skip_time_sweeps_to_the_end() -> None:
    """Each due time is visited once, in order, at exactly that time, until every run has ended."""
    sweeper = Sweeper(TestClock(), {"a": [0, 86400, 86400 * 30], "b": [3600]})
    assert skipped(sweeper) == sweeper.clock.now() == later(86400 * 30)
    assert sweeper.swept == [("a", 0), ("b", 3600), ("a", 86400), ("a", 86400 * 30)]


def test_skip_time_ends_where_only_mail_can_help() -> None:
    """A run that waits for mail alone ends the skipping, at the time that it is."""
    sweeper = Sweeper(TestClock(), {"a": [5]})

    async def scenario() -> datetime:
        lease = Lease("ann", later(3))
        await sweeper.store.create_run(NewRun("mail", "orders", None, "{}", START), lease=lease, now=START)
        waiting = Transition("paused", None, (Wait("signal", "w", "paid"),))
        await sweeper.store.commit(Commit("mail", 1, 0, START, lease, transition=waiting))
        await sweeper.start()
        return await skip_time(sweeper, sweeper.clock)

    assert asyncio.run(scenario()) == later(5)


@pytest.mark.parametrize("until", [later(25), timedelta(seconds=25)])
def test_skip_time_keeps_to_a_limit(until: datetime | timedelta) -> None:
    """With a limit the clock stops there, and what is due by then is done."""
    sweeper = Sweeper(TestClock(), {"a": [10, 20, 25, 25.000001]})
    assert skipped(sweeper, until=until) == sweeper.clock.now() == later(25)
    assert [when for _, when in sweeper.swept] == [10, 20, 25]


def test_skip_time_never_goes_back() -> None:
    """A limit that lies in the past does what is due now, and leaves the clock as it is."""
    sweeper = Sweeper(TestClock(later(10)), {"a": [5, 50]})
    assert skipped(sweeper, until=later(1)) == later(10)
    assert [when for _, when in sweeper.swept] == [10]


def test_skip_time_does_not_go_on_forever() -> None:
    """A workflow that never ends is an error that names the remedy."""
    sweeper = Sweeper(TestClock(), {"a": [float(n) for n in range(100)]})
    with pytest.raises(InvalidArgumentError, match="until="):
        skipped(sweeper, max_sweeps=20)


def test_nothing_is_left_to_do_for_an_empty_store() -> None:
    """Without a run time stays where it is."""
    assert skipped(Sweeper(TestClock(), {})) == START


def test_it_is_a_clock_as_the_engine_knows_it() -> None:
    """`TestClock` has what the engine asks of a clock, by name and kind."""
    clock_module = pytest.importorskip("workflow.core.clock")
    methods: dict[str, Callable[..., Coroutine[Any, Any, None]]] = vars(clock_module.Clock)
    assert {name for name in methods if not name.startswith("_")} == {"now", "sleep_until"}
    assert asyncio.iscoroutinefunction(TestClock().sleep_until)
