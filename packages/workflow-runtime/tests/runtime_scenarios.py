"""Stories of runs, to be interrupted anywhere: what a client does, what must come out, what must never happen.

A story is a list of acts. Whoever plays it may die in any of them. Somebody else then repeats that act (as a client
does that got no answer) or leaves it at that (where the store had taken it), plays the rest, and lets time pass to
the end.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from workflow.core import (
    Context,
    EventTimeoutError,
    Retry,
    StepInterruptedError,
    Workflow,
    create_workflow,
    current_step,
)
from workflow.core.events import Event
from workflow.runtime import ExecutionStore, WorkflowRuntime
from workflow.runtime.testing import TestClock, check_invariants, skip_time

START = datetime(2026, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
LEASE = timedelta(seconds=30)

Note = Callable[[str, str, int, Any], None]
"""Called as (run_id, step_id, attempt, value) whenever a step begins."""


@dataclass
class Stage:
    """Where a story is played: a clock, and a runtime that may die."""

    runtime: WorkflowRuntime
    clock: TestClock
    run_id: str
    story: Story

    async def start(self, **options: Any) -> None:
        await self.runtime.start_run(self.story.name, run_id=self.run_id, **options)

    async def signal(self, signal_id: str, name: str = "go", **options: Any) -> None:
        await self.runtime.deliver_signal(
            run_id=self.run_id, signal_id=signal_id, name=name, payload=signal_id, **options
        )

    async def later(self, delta: timedelta = HOUR) -> None:
        """Let time pass; whatever is due then is swept."""
        self.clock.advance(delta)
        await self.runtime.sweep()


Act = Callable[[Stage], Awaitable[None]]


def start(**options: Any) -> Act:
    return lambda stage: stage.start(**options)


def signal(signal_id: str, name: str = "go", **options: Any) -> Act:
    return lambda stage: stage.signal(signal_id, name, **options)


def later(delta: timedelta = HOUR) -> Act:
    return lambda stage: stage.later(delta)


def approve(approved: bool = True) -> Act:
    async def act(stage: Stage) -> None:
        await stage.runtime.deliver_approval(run_id=stage.run_id, approval_id="ok", approved=approved)

    return act


async def cancel(stage: Stage) -> None:
    await stage.runtime.cancel_run(stage.run_id)


@dataclass(frozen=True)
class Story:
    name: str
    make: Callable[[Note], Workflow[Any, Any]]
    acts: Sequence[Act]
    outputs: frozenset[str]
    status: str = "completed"
    signals: frozenset[str] = frozenset()
    """The signals that the run consumes, each once."""
    once: frozenset[str] = frozenset()
    """Steps that run at most once, whatever happens."""


def _step(note: Note) -> Callable[..., Awaitable[Any]]:
    async def work(value: Any = None) -> Any:
        step = current_step()
        note(step.run_id, step.step_id, step.attempt, value)
        await asyncio.sleep(0)
        return value

    return work


def _steps(note: Note) -> Workflow[Any, Any]:
    work = _step(note)

    @create_workflow(id="steps")
    async def steps(ctx: Context[None]) -> str:
        token = str(await ctx.uuid())
        for name in ("a", "b", "c"):
            assert await ctx.step(name, work, token) == token
        return "abc"

    return steps


def _sleeps(note: Note) -> Workflow[Any, Any]:
    work = _step(note)

    @create_workflow(id="sleeps")
    async def sleeps(ctx: Context[None]) -> str:
        began = await ctx.now()
        await ctx.step("before", work)
        await ctx.sleep(HOUR)
        await ctx.step("after", work)
        assert await ctx.now() - began >= HOUR
        return "rested"

    return sleeps


def _early(note: Note) -> Workflow[Any, Any]:
    work = _step(note)

    @create_workflow(id="early")
    async def early(ctx: Context[None]) -> str:
        await ctx.step("before", work)
        await ctx.sleep(HOUR)
        said = await ctx.wait_for_event("go", str)
        return await ctx.step("after", work, said)

    return early


def _doubled(note: Note) -> Workflow[Any, Any]:
    work = _step(note)

    @create_workflow(id="doubled")
    async def doubled(ctx: Context[None]) -> str:
        first = await ctx.wait_for_event("go", str)
        await ctx.step("between", work)
        return first + await ctx.wait_for_event("go", str)

    return doubled


def _late(note: Note) -> Workflow[Any, Any]:
    work = _step(note)

    @create_workflow(id="late")
    async def late(ctx: Context[None]) -> str:
        try:
            return await ctx.wait_for_event("go", str, timeout=HOUR)
        except EventTimeoutError:
            await ctx.step("remind", work)
        return "late " + await ctx.wait_for_event("go", str)

    return late


def _approval(name: str) -> Callable[[Note], Workflow[Any, Any]]:
    def make(note: Note) -> Workflow[Any, Any]:
        work = _step(note)

        @create_workflow(id=name)
        async def approval(ctx: Context[None]) -> str:
            await ctx.step("ask", work)
            try:
                decision = await ctx.approve("Fine?", id="ok", timeout=2 * HOUR)
            except EventTimeoutError:
                return await ctx.step("timed-out", work, "nobody")
            return await ctx.step("decided", work, "yes" if decision.approved else "no")

        return approval

    return make


def _gathered(note: Note) -> Workflow[Any, Any]:
    work = _step(note)

    @create_workflow(id="gathered")
    async def gathered(ctx: Context[None]) -> str:
        async def branch(name: str) -> str:
            await ctx.step(f"{name}1", work)
            if name == "y":
                await ctx.sleep(HOUR)
            return await ctx.step(f"{name}2", work, name)

        parts = await asyncio.gather(branch("x"), branch("y"), ctx.wait_for_event("go", str))
        return "".join(parts)

    return gathered


def _retries(note: Note) -> Workflow[Any, Any]:
    async def flaky() -> str:
        step = current_step()
        note(step.run_id, step.step_id, step.attempt, None)
        if step.attempt < 3:
            raise ConnectionError(f"attempt {step.attempt}")
        return "third"

    @create_workflow(id="retries")
    async def retries(ctx: Context[None]) -> str:
        policy = Retry(max_attempts=3, initial_delay=HOUR, backoff_rate=1, max_delay=HOUR, jitter=False)
        return await ctx.step("flaky", flaky, retry=policy)

    return retries


def _compensates(note: Note) -> Workflow[Any, Any]:
    work = _step(note)

    @create_workflow(id="compensates")
    async def compensates(ctx: Context[None]) -> None:
        await ctx.step("book", work)
        try:
            await ctx.wait_for_event("go")
        finally:
            await ctx.step("unbook", work)
            await ctx.step("tell", work)

    return compensates


def _once(note: Note) -> Workflow[Any, Any]:
    work = _step(note)

    @create_workflow(id="once")
    async def once(ctx: Context[None]) -> str:
        await ctx.step("before", work)
        try:
            await ctx.step("charge", work, retry=Retry.at_most_once())
        except StepInterruptedError:
            return await ctx.step("look", work, "interrupted")
        return await ctx.step("after", work, "charged")

    return once


def _race(note: Note) -> Workflow[Any, Any]:
    work = _step(note)

    @create_workflow(id="race")
    async def race(ctx: Context[None]) -> str:
        reminder = asyncio.create_task(ctx.sleep(HOUR))
        answer = asyncio.create_task(ctx.wait_for_event("go", str))
        done, rest = await asyncio.wait({reminder, answer}, return_when=asyncio.FIRST_COMPLETED)
        for task in rest:
            task.cancel()
        return await ctx.step("won", work, answer.result() if answer in done else "nobody")

    return race


def _one(*outputs: str) -> frozenset[str]:
    return frozenset(outputs)


STORIES: dict[str, Story] = {
    story.name: story
    for story in (
        Story("steps", _steps, [start()], _one("abc")),
        Story("sleeps", _sleeps, [start(), later()], _one("rested")),
        Story("early", _early, [start(), signal("s"), later()], _one("s"), signals=_one("s")),
        Story(
            "doubled",
            _doubled,
            [start(drive=False), signal("s", drive=False), signal("s"), later(), signal("t"), signal("s")],
            _one("st"),
            signals=_one("s", "t"),
        ),
        Story("late", _late, [start(), later(2 * HOUR), signal("s")], _one("late s"), signals=_one("s")),
        Story("approved", _approval("approved"), [start(), approve()], _one("yes")),
        Story("unanswered", _approval("unanswered"), [start(), later(3 * HOUR)], _one("nobody")),
        Story("gathered", _gathered, [start(), signal("s"), later()], _one("xys"), signals=_one("s")),
        Story("retries", _retries, [start(), later(), later()], _one("third")),
        Story("compensates", _compensates, [start(), cancel], _one("None"), status="cancelled"),
        Story("once", _once, [start()], _one("charged", "interrupted"), once=_one("charge")),
        Story("race", _race, [start(), signal("s")], _one("s"), signals=_one("s")),
    )
}


@dataclass
class Watch:
    """What happened outside of the store, and what must be true of it."""

    entries: list[tuple[str, str, int, Any]] = field(default_factory=list[tuple[str, str, int, Any]])

    def note(self, run_id: str, step_id: str, attempt: int, value: Any) -> None:
        self.entries.append((run_id, step_id, attempt, value))

    def of(self, run_id: str) -> list[tuple[str, int]]:
        return [(step_id, attempt) for entry_id, step_id, attempt, _ in self.entries if entry_id == run_id]

    def check(self, story: Story, run_id: str) -> None:
        executions = Counter(step_id for step_id, _ in self.of(run_id))
        assert all(executions[step_id] <= 1 for step_id in story.once), executions
        if story.name == "steps":
            tokens = {value for entry_id, _, _, value in self.entries if entry_id == run_id}
            assert len(tokens) == 1, "a recorded value has changed"


def settled(events: Sequence[Event]) -> set[tuple[str, int]]:
    """The attempts (step, number) whose end is in the log."""
    return {(e.id, e.attempt) for e in events if e.type in ("STEP_FINISHED", "STEP_FAILED", "STEP_RETRYING")}  # type: ignore[attr-defined]


async def check_end(runtime: WorkflowRuntime, story: Story, run_id: str) -> None:
    """The run has ended as its story says, each signal is in its log once, and each step ended once."""
    run = await runtime.get_run(run_id)
    assert run is not None
    assert (run.status, run.error) == (story.status, None)
    assert str(run.output) in story.outputs, run.output
    events: Any = await runtime.get_timeline(run_id)
    resolved = Counter(event.signal_id for event in events if event.type == "SIGNAL_RESOLVED")
    assert resolved == dict.fromkeys(story.signals, 1)
    ends = Counter(event.id for event in events if event.type in ("STEP_FINISHED", "STEP_FAILED"))
    assert set(ends.values()) <= {1}, ends


async def taken(store: ExecutionStore, run_id: str) -> tuple[bool, int]:
    """What a client could know to be in the store: whether the run is there, and how much mail."""
    row = await store.get_run(run_id)
    return row is not None, row.mail_count if row is not None else 0


async def finish(stage: Stage, acts: Sequence[Act], store: ExecutionStore) -> None:
    """What the survivors do: the lease runs out, the rest of the story is played, and time passes to the end."""
    await check_invariants(store)
    stage.clock.advance(LEASE + timedelta(seconds=1))
    await stage.runtime.sweep()
    await check_invariants(store)
    for act in acts:
        await act(stage)
        await check_invariants(store)
    await skip_time(stage.runtime, stage.clock)
