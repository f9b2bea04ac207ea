"""Crash windows: die at each boundary of each operation of the store, and let another process go on.

Nothing that the dying runtime still tries reaches the store. Whoever comes next must end each run right, bring each
signal that was taken exactly once, and never run again what the log has the end of.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from workflow.core.records import Lease
from workflow.runtime import ExecutionStore, MemoryStore, WorkflowRuntime
from workflow.runtime.testing import (
    CrashingStore,
    CrashPoint,
    LostConnection,
    SimulatedCrash,
    TestClock,
    check_invariants,
    crash_points,
)

from .runtime_kit import asynchronous
from .runtime_scenarios import HOUR, LEASE, START, STORIES, Act, Stage, Story, Watch, check_end, finish, settled, taken

ALL = pytest.mark.parametrize("name", list(STORIES))


@asynccontextmanager
async def opened(kind: str, path: Path) -> AsyncGenerator[ExecutionStore]:
    if kind == "memory":
        yield MemoryStore()
        return
    sqlite = pytest.importorskip("workflow.store.sqlite")
    store = sqlite.SQLiteStore(path / "crashes.db", synchronous="NORMAL")
    yield store
    await store.close()


class DistantStore(CrashingStore):
    """Each call takes a while, as it does where a store is real: meanwhile other tasks go on."""

    async def _call(self, operation: str, act: Callable[[], Awaitable[Any]]) -> Any:
        for _ in range(3):
            await asyncio.sleep(0)
        return await super()._call(operation, act)


class Theatre:
    """One store and one clock, on which a story is played again and again, as another run each time."""

    def __init__(self, story: Story, store: ExecutionStore) -> None:
        self.story = story
        self.store = store
        self.clock = TestClock(START)
        self.watch = Watch()
        self.workflow = story.make(self.watch.note)
        self._numbers = count()

    def stage(self, run_id: str, store: ExecutionStore) -> Stage:
        """A process: a runtime of its own."""
        runtime = WorkflowRuntime(store, [self.workflow], clock=self.clock, telemetry=False)
        return Stage(runtime, self.clock, run_id, self.story)

    def new_run(self, what: object = "") -> str:
        return f"{self.story.name}-{next(self._numbers)}-{what}"

    async def points(self, *, fatal: bool = True) -> list[CrashPoint]:
        """All places where the story can break off, learned from a performance that doesn't."""
        recording = DistantStore(self.store)
        stage = self.stage(run_id := self.new_run("recorded"), recording)
        for act in self.story.acts:
            await act(stage)
        points = list(crash_points(recording.trace, fatal=fatal))
        await finish(stage, [], self.store)
        await check_end(stage.runtime, self.story, run_id)
        return points

    async def play_until_dead(self, stage: Stage) -> tuple[int, tuple[bool, int]]:
        """Play until the process dies: in which act, and what the store held when that began."""
        before = False, 0
        for number, act in enumerate(self.story.acts):
            before = await taken(self.store, stage.run_id)
            try:
                await act(stage)
            except (SimulatedCrash, LostConnection, asyncio.CancelledError):
                return number, before
        return len(self.story.acts), before  # it broke off where nobody noticed: in a drive of a sweep

    async def survive(self, point: CrashPoint, *, repeats: bool) -> None:
        """Die there, and let somebody else finish, who repeats the act (or doesn't, if it was taken)."""
        run_id = self.new_run(point)
        dying = DistantStore(self.store, point)
        stage = self.stage(run_id, dying)
        number, before = await self.play_until_dead(stage)
        assert dying.dead is point.fatal, f"{point} was never reached"
        survivor = stage if not point.fatal else self.stage(run_id, self.store)
        rest = await self.rest(number, before, run_id, repeats=repeats)
        await self.finish(survivor, rest)

    async def rest(self, number: int, before: tuple[bool, int], run_id: str, *, repeats: bool) -> Sequence[Act]:
        was_taken = await taken(self.store, run_id) != before
        return self.story.acts[number + (was_taken and not repeats) :]

    async def finish(self, stage: Stage, rest: Sequence[Act], *, purge: bool = True) -> None:
        run_id, watch = stage.run_id, self.watch
        exists = await self.store.get_run(run_id) is not None
        done = settled(await stage.runtime.get_timeline(run_id)) if exists else set[Any]()
        so_far = len(watch.of(run_id))
        await finish(stage, rest, self.store)
        await check_invariants(self.store)
        again = done & set(watch.of(run_id)[so_far:])
        assert not again, f"ran again though their ends were in the log: {again}"
        watch.check(self.story, run_id)
        await check_end(stage.runtime, self.story, run_id)
        if purge:
            await self.clear()

    async def clear(self) -> None:
        """Forget what has ended: it keeps the store small, and the checks of it fast."""
        await self.store.purge(self.clock.now() + HOUR)


@pytest.mark.parametrize(
    ("kind", "repeats"), [("memory", True), ("memory", False), ("sqlite", True)], ids=["repeats", "trusts", "sqlite"]
)
@ALL
@asynchronous
async def test_death_anywhere(kind: str, name: str, repeats: bool, tmp_path: Path) -> None:
    """Die before and after each call of each operation: another process ends the run right, with or without a retry."""
    async with opened(kind, tmp_path) as store:
        theatre = Theatre(STORIES[name], store)
        points = await theatre.points()
        assert len(points) >= 6
        for point in points:
            await theatre.survive(point, repeats=repeats)


@ALL
@asynchronous
async def test_lost_connections_anywhere(name: str) -> None:
    """Lose the answer of any call and live on: the same process ends the run right."""
    theatre = Theatre(STORIES[name], MemoryStore())
    for point in await theatre.points(fatal=False):
        await theatre.survive(point, repeats=True)


def pairs(points: Sequence[CrashPoint]) -> Iterator[tuple[CrashPoint, CrashPoint]]:
    for first in points:
        for number in range(1, 5):
            for operation in ("claim_due", "commit"):
                for when in ("before", "after"):
                    yield first, CrashPoint(operation, number, when)


@pytest.mark.parametrize("name", ["steps", "early", "doubled", "gathered", "compensates", "once"])
@asynchronous
async def test_death_of_the_rescuer(name: str) -> None:
    """Whoever takes over may die as well, anywhere: the one after that ends the run right."""
    theatre = Theatre(STORIES[name], MemoryStore())
    for first, second in pairs(await theatre.points()):
        run_id = theatre.new_run(f"{first}-{second}")
        number, before = await theatre.play_until_dead(theatre.stage(run_id, DistantStore(theatre.store, first)))
        rest = await theatre.rest(number, before, run_id, repeats=True)
        rescuer = theatre.stage(run_id, DistantStore(theatre.store, second))
        try:
            await finish(rescuer, rest, theatre.store)
        except SimulatedCrash:
            pass
        await theatre.finish(theatre.stage(run_id, theatre.store), rest)


class CancellingStore(DistantStore):
    """Cancels whoever makes the call that is planned, before or after it took effect."""

    def _reach(self, operation: str, call: int, when: Any) -> None:
        if CrashPoint(operation, call, when) in self.plan:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()


@ALL
@asynchronous
async def test_a_host_that_cancels_anywhere(name: str) -> None:
    """A host that cancels its call in the middle of any operation leaves a run that the next sweep ends right."""
    theatre = Theatre(STORIES[name], MemoryStore())
    for point in await theatre.points():
        run_id = theatre.new_run(point)
        stage = theatre.stage(run_id, CancellingStore(theatre.store, point))
        number, before = await theatre.play_until_dead(stage)
        rest = await theatre.rest(number, before, run_id, repeats=True)
        await theatre.finish(theatre.stage(run_id, theatre.store), rest)


class StallingStore(DistantStore):
    """A process that freezes at the planned boundary until it is thawed."""

    def __init__(self, store: ExecutionStore, point: CrashPoint) -> None:
        super().__init__(store, point)
        self.frozen, self.thaw = asyncio.Event(), asyncio.Event()

    async def _call(self, operation: str, act: Callable[[], Awaitable[Any]]) -> Any:
        async def stalling() -> Any:
            await self._stall(operation, "before")
            answer = await act()
            await self._stall(operation, "after")
            return answer

        return await super()._call(operation, stalling)

    async def _stall(self, operation: str, when: Any) -> None:
        if CrashPoint(operation, self._calls[operation], when) in self.plan:
            self.frozen.set()
            await self.thaw.wait()

    def _reach(self, operation: str, call: int, when: Any) -> None:
        pass


async def play_all(stage: Stage, began: list[tuple[int, tuple[bool, int]]], store: ExecutionStore) -> None:
    for number, act in enumerate(stage.story.acts):
        began.append((number, await taken(store, stage.run_id)))
        await act(stage)


@ALL
@asynchronous
async def test_a_zombie_changes_nothing(name: str) -> None:
    """A process that stalls past its lease and comes back can't write: what others have made of the run stands."""
    theatre = Theatre(STORIES[name], MemoryStore())
    for point in await theatre.points():
        run_id, began = theatre.new_run(point), list[Any]()
        stalling = StallingStore(theatre.store, point)
        zombie = asyncio.create_task(play_all(theatre.stage(run_id, stalling), began, theatre.store))
        await stalling.frozen.wait()
        number, before = began[-1]
        rest = await theatre.rest(number, before, run_id, repeats=True)
        await theatre.finish(theatre.stage(run_id, theatre.store), rest, purge=False)
        row, log = await theatre.store.get_run(run_id), await theatre.store.read_log(run_id)
        stalling.thaw.set()
        await zombie
        assert await theatre.store.read_log(run_id) == log
        assert await theatre.store.get_run(run_id) == row
        theatre.watch.check(theatre.story, run_id)
        await theatre.clear()


async def play_to_the_end_of_the_act(stage: Stage, began: list[Any], store: StallingStore) -> None:
    for number, act in enumerate(stage.story.acts):
        if not store.frozen.is_set():
            began.append((number, await taken(store.inner, stage.run_id)))
            await act(stage)


@ALL
@asynchronous
async def test_a_zombie_beside_its_rescuer(name: str) -> None:
    """A process that comes back while another holds its run writes nothing to it, and the run ends right."""
    theatre = Theatre(STORIES[name], MemoryStore())
    for point in await theatre.points():
        run_id, began = theatre.new_run(point), list[Any]()
        stalling = StallingStore(theatre.store, point)
        zombie = asyncio.create_task(play_to_the_end_of_the_act(theatre.stage(run_id, stalling), began, stalling))
        await stalling.frozen.wait()
        now = theatre.clock.advance(31)
        claimed = await theatre.store.claim_run(run_id, Lease("rescuer", now + LEASE), now=now)
        log = await theatre.store.read_log(run_id)
        stalling.thaw.set()
        await zombie
        if claimed is not None:
            assert await theatre.store.read_log(run_id) == log
            assert (await theatre.store.get_run(run_id)).owner == "rescuer"  # type: ignore[union-attr]
        number, before = began[-1]
        rest = await theatre.rest(number, before, run_id, repeats=True)
        await theatre.finish(theatre.stage(run_id, theatre.store), rest)
