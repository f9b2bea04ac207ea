"""What the workers of a scale test run: two workflows with steps, timers and signals, one of them under a limit.

Each step says in a journal when it begins and when it ends. A journal is a file to which every process appends whole
lines, so that nothing of it is lost with a process, and its order is the order in which things happened.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from workflow.core import Context, create_workflow, current_step
from workflow.runtime import ExecutionStore, Registration, WorkflowRuntime

WIDE, NARROW = "wide", "narrow"
SLOTS, SLOTS_PER_KEY, KEYS = 5, 2, 7
STEPS = ("first", "last")
DURATION = {WIDE: 0.002, NARROW: 0.02}
"""How long a step takes. Those of the limited workflow take long enough for its slots to be always in demand."""
CONCURRENCY = 6
"""How many runs a worker drives at once."""
LEASE = 5.0
"""Longer than a busy machine lets any thread wait, and for how long a killed worker's runs are held up."""


@dataclass(frozen=True)
class StoreSpec:
    """How a worker makes its store: `path` is "module:class", called with these arguments."""

    path: str
    arguments: tuple[Any, ...] = ()
    options: dict[str, Any] = field(default_factory=dict[str, Any])

    def make(self) -> ExecutionStore:
        module, _, name = self.path.partition(":")
        return getattr(importlib.import_module(module), name)(*self.arguments, **self.options)

    def text(self) -> str:
        return json.dumps([self.path, self.arguments, self.options])

    @classmethod
    def of(cls, text: str) -> StoreSpec:
        path, arguments, options = json.loads(text)
        return cls(path, tuple(arguments), options)


@dataclass(frozen=True)
class Journal:
    path: Path

    def write(self, what: str) -> None:
        step = current_step()
        line = f"{what} {os.getpid()} {step.run_id} {step.step_id}\n".encode()
        file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(file, line)  # in one piece, whoever is killed meanwhile
        os.close(file)

    def read(self) -> list[list[str]]:
        """Lines of what (`enter` or `leave`), process, run and step."""
        return [line.split() for line in self.path.read_text().splitlines()] if self.path.exists() else []

    def size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0


def key_of(number: int) -> str:
    return f"key-{number % KEYS}"


def run_id_of(workflow_id: str, number: int) -> str:
    return f"{workflow_id}-{number}"


def make_runtime(store: ExecutionStore, journal: Journal) -> WorkflowRuntime:
    async def work() -> None:
        journal.write("enter")
        try:
            await asyncio.sleep(DURATION[current_step().run_id.split("-")[0]])
        finally:
            journal.write("leave")

    async def handle(ctx: Context[int]) -> str:
        await ctx.step("first", work)
        await ctx.sleep(0.05 * (ctx.input % 3))
        word = await ctx.wait_for_event("go", str)
        await ctx.step("last", work)
        return f"{word}-{ctx.input}"

    wide = create_workflow(id=WIDE)(handle)
    narrow = create_workflow(id=NARROW)(handle)
    limited = Registration(narrow, key=key_of, concurrency=SLOTS, concurrency_per_key=SLOTS_PER_KEY)
    return WorkflowRuntime(
        store, [wide, limited], lease=LEASE, concurrency=CONCURRENCY, max_recoveries=1000, telemetry=False
    )


async def serve(spec: StoreSpec, journal: Journal) -> None:
    async with make_runtime(spec.make(), journal) as runtime:
        await runtime.serve(poll_interval=0.2)
