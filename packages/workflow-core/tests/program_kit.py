"""Workflow programs as data: generated, run live with every happening chosen from outside, and run again from a log."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

from workflow.core import Context, EventTimeoutError, Retry, StepError, create_workflow, current_step
from workflow.core.definition import Workflow
from workflow.core.engine import DriveOutcome
from workflow.core.events import (
    CancelRequested,
    Event,
    SignalResolved,
    StepFailed,
    StepFinished,
    StepRetrying,
    TimerFired,
)

from .engine_kit import START, Gates, ManualClock, World, settle

Program = tuple[Any, ...]
"""`(kind, *arguments)`; arguments may be programs. Ids come from the place in the tree, so that each is used once."""

SHORT, LONG = 1.0, 600.0

# Making programs


def programs() -> st.SearchStrategy[Program]:
    delays = st.sampled_from([0.0, 0.5, 2.0, 50.0])
    names = st.sampled_from(["red", "blue"])
    leaf = st.one_of(
        st.tuples(st.just("step"), st.lists(st.booleans(), max_size=2), st.sampled_from([SHORT, LONG])),
        st.tuples(st.just("sleep"), st.sampled_from([0.5, 2.0, 50.0])),
        st.tuples(st.just("pause"), delays),
        st.tuples(st.just("event"), names, st.none() | st.sampled_from([0.7, 40.0])),
        st.tuples(st.just("now")),
        st.tuples(st.just("uuid")),
        st.tuples(st.just("fail")),
        st.tuples(st.just("turn")),
    )
    return st.recursive(leaf, _larger, max_leaves=8)


def _larger(inner: st.SearchStrategy[Program]) -> st.SearchStrategy[Program]:
    many = st.lists(inner, min_size=2, max_size=3).map(tuple)
    kinds = st.sampled_from(["seq", "seq", "gather", "collect", "group", "race", "completed"])
    return st.one_of(
        st.tuples(kinds, many),
        st.tuples(st.just("timeout"), st.sampled_from([0.5, 5.0, 60.0]), inner),
        st.tuples(st.just("wait_for"), st.sampled_from([0.5, 5.0, 60.0]), inner),
        st.tuples(st.just("try"), inner, inner),
        st.tuples(st.just("finally"), inner, inner),
        st.tuples(st.just("compensate"), inner, inner),
        st.tuples(st.just("shield"), inner),
    )


# Running programs


@dataclass
class Machine:
    """A workflow that interprets a program, and what its last drive has asked for and got, in order."""

    program: Program
    gates: Gates = field(default_factory=Gates)
    trace: list[tuple[Any, ...]] = field(default_factory=list)

    def workflow(self) -> Workflow[Any, Any]:
        @create_workflow(id="program")
        async def program(ctx: Context) -> Any:
            self.trace = []
            return await self._run(ctx, self.program, "p")

        return program

    async def _run(self, ctx: Context, program: Program, place: str) -> Any:
        method = getattr(self, f"_{program[0]}")
        self.trace.append(("ask", place, program[0]))
        result = await method(ctx, place, *program[1:])
        self.trace.append(("got", place, result))
        return result

    async def _step(self, ctx: Context, place: str, outcomes: list[bool], backoff: float) -> Any:
        retry = Retry(max_attempts=2, initial_delay=backoff, max_delay=backoff, jitter=False)
        return await ctx.step(place, self._attempt, place, outcomes, retry=retry)

    async def _attempt(self, place: str, outcomes: list[bool]) -> Any:
        attempt = current_step().attempt
        await self.gates(place)
        if attempt <= len(outcomes) and not outcomes[attempt - 1]:
            raise ValueError(f"{place} failed")
        return {"step": place, "attempt": attempt}

    async def _sleep(self, ctx: Context, place: str, delay: float) -> None:
        await ctx.sleep(delay)

    async def _pause(self, ctx: Context, place: str, delay: float) -> None:
        await asyncio.sleep(delay)

    async def _event(self, ctx: Context, place: str, name: str, timeout: float | None) -> Any:
        return await ctx.wait_for_event(name, timeout=timeout)

    async def _now(self, ctx: Context, place: str) -> str:
        return (await ctx.now()).isoformat()

    async def _uuid(self, ctx: Context, place: str) -> str:
        return str(await ctx.uuid())

    async def _fail(self, ctx: Context, place: str) -> Any:
        raise ValueError(place)

    async def _turn(self, ctx: Context, place: str) -> None:
        await asyncio.sleep(0)

    async def _seq(self, ctx: Context, place: str, parts: tuple[Program, ...]) -> list[Any]:
        return [await self._run(ctx, part, f"{place}.{n}") for n, part in enumerate(parts)]

    def _branches(self, ctx: Context, place: str, parts: tuple[Program, ...]) -> list[Any]:
        return [self._run(ctx, part, f"{place}.{n}") for n, part in enumerate(parts)]

    async def _gather(self, ctx: Context, place: str, parts: tuple[Program, ...]) -> list[Any]:
        return await asyncio.gather(*self._branches(ctx, place, parts))

    async def _collect(self, ctx: Context, place: str, parts: tuple[Program, ...]) -> list[Any]:
        results = await asyncio.gather(*self._branches(ctx, place, parts), return_exceptions=True)
        return [repr(result) if isinstance(result, BaseException) else result for result in results]

    async def _group(self, ctx: Context, place: str, parts: tuple[Program, ...]) -> list[Any]:
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(branch) for branch in self._branches(ctx, place, parts)]
        except* (ValueError, StepError, EventTimeoutError, TimeoutError) as errors:
            raise ValueError(f"{place}: {[repr(error) for error in errors.exceptions]}") from None
        return [task.result() for task in tasks]

    async def _race(self, ctx: Context, place: str, parts: tuple[Program, ...]) -> list[str]:
        tasks = [asyncio.create_task(branch) for branch in self._branches(ctx, place, parts)]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return [repr(task.exception() or task.result()) if not task.cancelled() else "cancelled" for task in done]

    async def _completed(self, ctx: Context, place: str, parts: tuple[Program, ...]) -> list[Any]:
        results: list[Any] = []
        for future in asyncio.as_completed(self._branches(ctx, place, parts)):
            try:
                results.append(await future)
            except (ValueError, StepError, TimeoutError) as error:
                results.append(repr(error))
        return results

    async def _timeout(self, ctx: Context, place: str, delay: float, inner: Program) -> Any:
        async with asyncio.timeout(delay):
            return await self._run(ctx, inner, f"{place}.t")

    async def _wait_for(self, ctx: Context, place: str, delay: float, inner: Program) -> Any:
        return await asyncio.wait_for(self._run(ctx, inner, f"{place}.w"), delay)

    async def _try(self, ctx: Context, place: str, inner: Program, handler: Program) -> Any:
        try:
            return await self._run(ctx, inner, f"{place}.try")
        except Exception as error:
            self.trace.append(("caught", place, str(error)))
            return await self._run(ctx, handler, f"{place}.except")

    async def _finally(self, ctx: Context, place: str, inner: Program, cleanup: Program) -> Any:
        try:
            return await self._run(ctx, inner, f"{place}.try")
        finally:
            await self._run(ctx, cleanup, f"{place}.finally")

    async def _compensate(self, ctx: Context, place: str, inner: Program, undo: Program) -> Any:
        try:
            return await self._run(ctx, inner, f"{place}.do")
        except asyncio.CancelledError:
            await self._run(ctx, undo, f"{place}.undo")
            raise

    async def _shield(self, ctx: Context, place: str, inner: Program) -> Any:
        return await asyncio.shield(self._run(ctx, inner, f"{place}.s"))


# The world outside


class Outside:
    """Everything that can happen to one run: chosen by somebody (live), or dictated by a log."""

    def __init__(self, machine: Machine, world: World) -> None:
        self.machine = machine
        self.world = world
        self.drive: asyncio.Task[DriveOutcome] | None = None
        self.outcome: DriveOutcome | None = None

    @classmethod
    async def begin(cls, program: Program) -> Outside:
        machine = Machine(program)
        world = World(machine.workflow(), clock=ManualClock(jump=False), publish=None)
        outside = cls(machine, world)
        outside.drive = world.begin(await world.create())
        await outside.rest()
        return outside

    def restart(self, length: int) -> Outside:
        """The same run when its process has died and its log has `length` entries."""
        machine = Machine(self.machine.program)
        log = self.world.log[:length]
        world = self.world.cut(length)
        world.clock = ManualClock(log[-1].at if log else START, jump=False)
        world.workflow = machine.workflow()
        world.store.mails.clear()
        world.store._runs[world.run_id].inbox.clear()
        world.store._runs[world.run_id].delivered.clear()
        return Outside(machine, world)

    @property
    def ended(self) -> bool:
        return self.outcome is not None and self.outcome.run.ended

    async def rest(self) -> None:
        """Wait until the drive waits for something from outside, or is done."""
        await settle()
        if self.drive is not None and self.drive.done():
            self.outcome, self.drive = self.drive.result(), None

    async def wake(self) -> None:
        """See to it that a drive is under way, if the run has not ended."""
        if self.drive is None and not self.ended:
            claimed = await self.world.claim(force=True)
            assert claimed is not None
            self.drive = self.world.begin(claimed)
            await self.rest()

    async def happen(self, what: tuple[str, Any]) -> None:
        kind, detail = what
        world = self.world
        if kind == "gate":
            self.machine.gates.open(detail)
        elif kind == "time":
            world.clock.set(detail)
        elif kind == "signal":
            await world.signal(*detail)
        elif kind == "cancel":
            await world.cancel("stop")
        elif kind == "crash":
            await self._crash()
        elif kind == "stop" and self.drive is not None:
            self.drive.cancel()
            await asyncio.wait([self.drive])
            self.drive = None
        if kind in ("signal", "cancel") and self.drive is not None and world.drive_now is not None:
            world.drive_now.tell_news()
        await self.rest()
        if self.outcome is None or not self.outcome.run.ended:
            await self.wake()

    async def _crash(self) -> None:
        """The process dies: nothing of the drive is written any more."""
        if self.drive is None:
            return
        assert self.world.drive_now is not None
        self.world.drive_now.tell_lost()
        await asyncio.wait([self.drive])
        self.drive = None

    def options(self) -> list[tuple[str, Any]]:
        """What could happen now."""
        found: list[tuple[str, Any]] = [("gate", name) for name in self.machine.gates.waiting]
        due = self.world.run.due_at if self.drive is None else self.world.clock.next_wake()
        if due is not None:
            found.append(("time", max(due, self.world.clock.now())))
        if len(self.world.store.mails) < 6:
            found += [("signal", (name, len(self.world.store.mails))) for name in ("red", "blue")]
        return found

    async def play(self, choose: Callable[[int], int], limit: int = 60) -> None:
        """Let things happen as `choose` says until the run has ended."""
        while not self.ended and limit:
            await self.wake()
            options = self.options()
            extra = [("cancel", None), ("crash", None), ("stop", None)]
            index = choose(len(options) + 1)
            await self.happen(options[index] if index < len(options) else extra[choose(len(extra))])
            limit -= 1
        names = "red", "blue"
        while not self.ended:  # whatever was chosen: what the run waits for comes
            await self.wake()
            options = [option for option in self.options() if option[0] != "signal"]
            mails = len(self.world.store.mails)
            await self.happen(options[0] if options else ("signal", (names[mails % 2], mails)))

    async def follow(self, events: list[Event]) -> None:
        """Let happen what these entries of a log say, in their order."""
        await self.wake()
        for event in events:
            what = happening(event)
            if what is None:
                continue
            self.world.clock.set(max(event.at, self.world.clock.now()))
            await self.rest()
            await self.wake()
            await self.happen(what)


def happening(event: Event) -> tuple[str, Any] | None:
    """What must have happened outside for this entry to be written."""
    if isinstance(event, (StepFinished, StepFailed, StepRetrying)):
        return "gate", event.id
    if isinstance(event, SignalResolved):
        assert event.payload is not None
        return "signal", (event.name, event.payload.value, event.signal_id)
    if isinstance(event, CancelRequested):
        return "cancel", None
    return ("time", event.at) if isinstance(event, TimerFired) else None


def plain(outcome: DriveOutcome | None) -> tuple[Any, ...]:
    assert outcome is not None
    return outcome.kind, outcome.run.output, outcome.run.error
