"""A small app for the tests of the runtime: workflows of every kind, a journal of what ran, a clock that obeys."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import BaseModel

from workflow.core import Context, EventTimeoutError, Retry, Workflow, create_workflow, current_step
from workflow.runtime import ExecutionStore, MemoryStore, WorkflowRuntime
from workflow.runtime.testing import TestClock, check_invariants

START = datetime(2026, 1, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)


def asynchronous(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """A coroutine test, on a loop of its own, that leaves no task behind and no error that nobody saw."""

    async def checked(*args: Any, **kwargs: Any) -> None:
        complaints: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        await test(*args, **kwargs)
        await asyncio.sleep(0)  # what was cancelled at the very end gets its turn
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert not left, f"tasks are left: {left}"
        assert not complaints, complaints

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        asyncio.run(checked(*args, **kwargs))

    return run


class Order(BaseModel):
    order_id: str
    amount: int = 1


class Receipt(BaseModel):
    order_id: str
    payment: str


@dataclass(frozen=True)
class Entry:
    """One execution of a step function."""

    run_id: str
    step_id: str
    attempt: int


class App:
    """Fresh workflows, whose steps write into `journal`."""

    def __init__(self) -> None:
        self.journal: list[Entry] = []
        self.hold: dict[str, asyncio.Event] = {}
        """A step of this id waits until the event is set."""
        self.entered: dict[str, asyncio.Event] = {}
        """Set when the step of this id has begun."""
        self.workflows: list[Workflow[Any, Any]] = [make(self) for make in _MAKERS]

    async def work(self, value: Any = None) -> Any:
        """What steps do: leave a trace, and wait where the test wants it."""
        step = current_step()
        self.journal.append(Entry(step.run_id, step.step_id, step.attempt))
        if step.step_id in self.entered:
            self.entered[step.step_id].set()
        if step.step_id in self.hold:
            await self.hold[step.step_id].wait()
        return value

    async def fail(self, message: str) -> None:
        await self.work()
        raise ValueError(message)

    def blocks(self, step_id: str) -> asyncio.Event:
        """Let the step wait for the event that this answers; `entered[step_id]` tells that it has begun."""
        self.hold[step_id], self.entered[step_id] = asyncio.Event(), asyncio.Event()
        return self.hold[step_id]

    def ran(self, run_id: str) -> list[str]:
        """The steps of a run in the order of their executions."""
        return [entry.step_id for entry in self.journal if entry.run_id == run_id]


def greeting(app: App) -> Workflow[Any, Any]:
    @create_workflow(id="greet")
    async def greet(ctx: Context[str]) -> str:
        return await ctx.step("hello", app.work, f"Hello {ctx.input}")

    return greet


def paying(app: App) -> Workflow[Any, Any]:
    @create_workflow(id="pay")
    async def pay(ctx: Context[Order]) -> Receipt:
        await ctx.step("reserve", app.work)
        payment = await ctx.wait_for_event("paid", str)
        await ctx.step("ship", app.work)
        return Receipt(order_id=ctx.input.order_id, payment=payment)

    return pay


def napping(app: App) -> Workflow[Any, Any]:
    @create_workflow(id="nap")
    async def nap(ctx: Context[float]) -> str:
        await ctx.sleep(ctx.input)
        return await ctx.step("wake", app.work, "awake")

    return nap


def asking(app: App) -> Workflow[Any, Any]:
    @create_workflow(id="ask")
    async def ask(ctx: Context[None]) -> str:
        try:
            decision = await ctx.approve("Ship it?", id="ship-it", timeout=DAY)
        except EventTimeoutError:
            return "nobody cared"
        return f"{'yes' if decision.approved else 'no'}: {decision.feedback}"

    return ask


def failing(app: App) -> Workflow[Any, Any]:
    @create_workflow(id="fail")
    async def fail(ctx: Context[str]) -> None:
        await ctx.step("broken", app.fail, ctx.input)

    return fail


def compensating(app: App) -> Workflow[Any, Any]:
    @create_workflow(id="book")
    async def book(ctx: Context[None]) -> str:
        await ctx.step("book", app.work)
        try:
            await ctx.wait_for_event("confirmed")
        except asyncio.CancelledError:
            await ctx.step("unbook", app.work)
            raise
        return "booked"

    return book


def retrying(app: App) -> Workflow[Any, Any]:
    async def third_time_lucky() -> str:
        await app.work()
        if current_step().attempt < 3:
            raise ConnectionError("not yet")
        return "lucky"

    @create_workflow(id="retry")
    async def retry(ctx: Context[float]) -> str:
        policy = Retry(max_attempts=3, initial_delay=ctx.input, max_delay=10 * DAY, jitter=False)
        return await ctx.step("flaky", third_time_lucky, retry=policy)

    return retry


_MAKERS = (greeting, paying, napping, asking, failing, compensating, retrying)


class World:
    """A store and a clock, and the runtimes (processes) that come and go on them."""

    def __init__(self, store: ExecutionStore | None = None) -> None:
        self.app = App()
        self.clock = TestClock(START)
        self.store: ExecutionStore = store or MemoryStore()

    def runtime(self, store: ExecutionStore | None = None, **options: Any) -> WorkflowRuntime:
        options.setdefault("clock", self.clock)
        workflows = options.pop("workflows", self.app.workflows)
        return WorkflowRuntime(store or self.store, workflows, telemetry=False, **options)

    async def check(self) -> None:
        await check_invariants(self.store)
