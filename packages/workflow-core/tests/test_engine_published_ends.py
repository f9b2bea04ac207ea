"""Those who listen hear how a run ended, though the log does not say it twice."""

from __future__ import annotations

import asyncio
from typing import Any

from workflow.core import Context, InMemoryRunStore, Workflow, create_workflow, run_workflow
from workflow.core.events import RunErrored, RunFinished


async def last_event(workflow: Workflow[Any, Any]) -> tuple[Any, InMemoryRunStore]:
    store = InMemoryRunStore()
    events = [event async for event in run_workflow(workflow, store=store, run_id="r", input=None)]
    return events[-1], store


def test_the_end_is_published_with_the_output() -> None:
    """RUN_FINISHED carries the output to observers; its entry in the log leaves that to the row."""

    @create_workflow(id="w")
    async def w(ctx: Context[None]) -> dict[str, int]:
        return {"a": 1}

    event, store = asyncio.run(last_event(w))
    assert isinstance(event, RunFinished)
    assert event.output is not None
    assert event.output.value == {"a": 1}
    (record,) = asyncio.run(store.read_log("r"))  # type: ignore[arg-type]
    assert "output" not in record.event and record.payload is None


def test_the_end_is_published_with_the_error() -> None:
    """RUN_ERRORED carries the error to observers; its entry in the log leaves that to the row."""

    @create_workflow(id="w")
    async def w(ctx: Context[None]) -> None:
        raise ValueError("no")

    event, store = asyncio.run(last_event(w))
    assert isinstance(event, RunErrored)
    assert event.error is not None
    assert (event.error.type, event.error.message) == ("ValueError", "no")
    (record,) = asyncio.run(store.read_log("r"))  # type: ignore[arg-type]
    assert "no" not in record.event and record.payload is None
