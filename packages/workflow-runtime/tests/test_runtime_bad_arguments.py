"""Bad arguments of every public verb and definition: refused by an error of ours, before anything is written."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from workflow.core import Context, DefinitionError, InvalidArgumentError, create_workflow
from workflow.runtime import (
    MemoryStore,
    Queue,
    RateLimit,
    Registration,
    RunFilter,
    Schedule,
    WorkflowRuntime,
    cron,
    every,
)
from workflow.runtime.testing import TestClock

from .runtime_kit import DAY, START, asynchronous

NAN, INF = float("nan"), float("inf")
NO_SPANS: list[Any] = [-1, NAN, INF, 1e15, timedelta(seconds=-1), "1h", True, []]
NO_LIMITS: list[Any] = [0, 0.0, timedelta(0), 1e-9, *NO_SPANS]
NO_COUNTS: list[Any] = [-1, 1.5, NAN, "3", True, 10**30]
NO_IDS: list[Any] = ["", " ", 7, b"x", "a\x00b", "\ud800", "x" * 513]
NO_INSTANTS: list[Any] = [datetime(2026, 1, 1), "today", 5, 0]  # noqa: DTZ001
NO_PRIORITIES: list[Any] = [1.5, NAN, "3", True, 2**31, -(2**31) - 1]
NO_REASONS: list[Any] = [7, b"x", ["x"]]


@create_workflow(id="greet")
async def greet(ctx: Context[str]) -> str:
    return ctx.input


def an_app() -> WorkflowRuntime:
    registration = Registration(greet, schedules=[Schedule("s", every.days(1), input="x")])
    return WorkflowRuntime(MemoryStore(), [registration], clock=TestClock(START), telemetry=False)


MOVES: dict[str, list[Any]] = {"now": NO_INSTANTS, "max_duration": NO_SPANS}
VERBS: list[tuple[str, dict[str, Any], dict[str, list[Any]]]] = [
    # the verb, arguments that are good, and bad ones for each of its parameters
    (
        "start_run",
        {"workflow": "greet", "run_id": "new", "input": "Ann"},
        {
            "workflow": [*NO_IDS, None, [], "nope"],
            "run_id": NO_IDS,
            "timeout": NO_LIMITS,
            "delay": NO_SPANS,
            "debounce": NO_SPANS,
            "queue": [*NO_IDS, "nope"],
            "key": NO_IDS,
            "priority": NO_PRIORITIES,
            "connection": [object()],
            **MOVES,
        },
    ),
    ("start_run", {"workflow": "greet", "input": "Ann"}, {"debounce": [5]}),
    ("start_run", {"workflow": "greet", "input": "Ann", "run_id": "new", "delay": 5}, {"debounce": [5]}),
    (
        "deliver_signal",
        {"run_id": "r", "signal_id": "s", "name": "n"},
        {"run_id": [*NO_IDS, None], "signal_id": [*NO_IDS, None], "name": [*NO_IDS, None], **MOVES},
    ),
    (
        "deliver_approval",
        {"run_id": "r", "approval_id": "a", "approved": True},
        {
            "run_id": [*NO_IDS, None],
            "approval_id": [*NO_IDS, None],
            "approved": [1, "yes", None],
            "feedback": [7],
            "meta": [[], "x"],
            **MOVES,
        },
    ),
    ("cancel_run", {"run_id": "r"}, {"run_id": [*NO_IDS, None], "reason": NO_REASONS, **MOVES}),
    (
        "sweep",
        {},
        {
            "max_scheduled_runs": NO_COUNTS,
            "max_timers": NO_COUNTS,
            "max_ready": NO_COUNTS,
            "max_recovered": NO_COUNTS,
            "owner": NO_IDS,
            **MOVES,
        },
    ),
    (
        "serve",
        {"signals": False},
        {
            "concurrency": [0, *NO_COUNTS],
            "per_workflow": [0, *NO_COUNTS, ["greet"], {"nope": 1}, *({"greet": n} for n in [0, *NO_COUNTS])],
            "poll_interval": NO_LIMITS,
            "grace": NO_SPANS,
        },
    ),
    ("get_run", {}, {"run_id": [*NO_IDS, None]}),
    ("why_stuck", {}, {"run_id": [*NO_IDS, None]}),
    (
        "get_timeline",
        {"run_id": "r"},
        {"run_id": [*NO_IDS, None], "after": [-2, *NO_COUNTS[1:], None], "limit": [0, *NO_COUNTS]},
    ),
    ("stream", {"run_id": "r"}, {"run_id": [*NO_IDS, None], "after": [-2, *NO_COUNTS[1:], None]}),
    ("wait_for_run", {"run_id": "r"}, {"run_id": [*NO_IDS, None], "timeout": NO_SPANS}),
    (
        "list_runs",
        {},
        {
            "workflow_id": NO_IDS,
            "status": ["done", "", 7, ["paused", 3]],
            "created_from": NO_INSTANTS,
            "created_until": NO_INSTANTS,
            "limit": [0, *NO_COUNTS],
            "cursor": [*NO_IDS, "x"],
        },
    ),
    ("retry_run", {"run_id": "r"}, {"run_id": [*NO_IDS, None], "from_step": NO_IDS, "reason": NO_REASONS, **MOVES}),
    (
        "rerun_from",
        {"run_id": "r", "step_id": "hello"},
        {"run_id": [*NO_IDS, None], "step_id": [*NO_IDS, None], "new_run_id": NO_IDS, **MOVES},
    ),
    ("diagnose_open", {}, {"limit": [0, *NO_COUNTS]}),
    (
        "purge",
        {"older_than": datetime(2100, 1, 1, tzinfo=UTC)},
        {
            "older_than": [*NO_INSTANTS, timedelta(-1), timedelta.max],
            "workflow_id": NO_IDS,
            "limit": NO_COUNTS,
            "now": NO_INSTANTS,
        },
    ),
    ("list_schedules", {}, {"workflow_id": NO_IDS}),
    ("get_schedule", {"schedule_id": "s"}, {"schedule_id": [*NO_IDS, None], "workflow_id": NO_IDS}),
    (
        "schedule_history",
        {"schedule_id": "s"},
        {"schedule_id": [*NO_IDS, None], "workflow_id": NO_IDS, "limit": [0, *NO_COUNTS], "before": [*NO_IDS, "x"]},
    ),
    (
        "pause_schedule",
        {"schedule_id": "s"},
        {"schedule_id": [*NO_IDS, None], "workflow_id": NO_IDS, "reason": NO_REASONS, "now": NO_INSTANTS},
    ),
    (
        "resume_schedule",
        {"schedule_id": "s"},
        {"schedule_id": [*NO_IDS, None], "workflow_id": NO_IDS, "now": NO_INSTANTS},
    ),
    (
        "trigger_schedule",
        {"schedule_id": "s"},
        {"schedule_id": [*NO_IDS, None], "workflow_id": NO_IDS, "trigger_id": NO_IDS, **MOVES},
    ),
    (
        "backfill",
        {"schedule_id": "s", "start": START - DAY, "end": START},
        {
            "schedule_id": [*NO_IDS, None],
            "start": NO_INSTANTS,
            "end": NO_INSTANTS,
            "limit": [0, *NO_COUNTS],
            "now": NO_INSTANTS,
        },
    ),
]
CALLS = [
    pytest.param(verb, good, name, values, id=f"{verb}-{name}")
    for verb, good, bad in VERBS
    for name, values in bad.items()
]


@pytest.mark.parametrize(("verb", "good", "name", "values"), CALLS)
@asynchronous
async def test_bad_arguments_are_refused(verb: str, good: dict[str, Any], name: str, values: list[Any]) -> None:
    """A verb refuses each bad value with an error of ours, and has written nothing then."""
    runtime = an_app()
    for value in values:
        try:
            async with asyncio.timeout(5):
                await getattr(runtime, verb)(**{**good, name: value})
        except InvalidArgumentError:
            continue
        pytest.fail(f"{verb}({name}={value!r:.50}) was accepted")
    assert await runtime.store.list_runs(RunFilter()) == []
    assert await runtime.store.read_schedules() == []


QUEUE: dict[str, list[Any]] = {
    "concurrency": [0, *NO_COUNTS],
    "concurrency_per_key": [0, *NO_COUNTS],
    "rate_limit": [0, 5, "100/m"],
    "rate_limit_per_key": [0, 5, "100/m"],
    "holds": ["x", None, 7],
}
MAKERS: list[tuple[Callable[..., Any], dict[str, Any], dict[str, list[Any]]]] = [
    (
        Registration,
        {"target": greet},
        {
            "target": [None, 7, "app.module", ":x"],
            "id": NO_IDS,
            "timeout": NO_LIMITS,
            "priority": NO_PRIORITIES,
            "key": ["tenant", 7],
            "schedules": [None, 7, "x", ["x"], Schedule("s", every.days(1))],
            **QUEUE,
        },
    ),
    (Queue, {"name": "q"}, {"name": [*NO_IDS, None], **QUEUE}),
    (RateLimit, {"limit": 5}, {"limit": [0, *NO_COUNTS], "per": NO_LIMITS}),
    (
        Schedule,
        {"id": "s", "spec": every.days(1)},
        {
            "id": [*NO_IDS, None],
            "spec": [None, "* * * * *", timedelta(1)],
            "overlap": [None, "x"],
            "catch_up": [0, *NO_COUNTS, None, timedelta(0), timedelta(-1)],
            "enabled": [None, 1],
            "jitter": [*NO_SPANS, timedelta(days=2)],
        },
    ),
    (every.seconds, {}, {"n": [0, *NO_COUNTS, None]}),
    (every.minutes, {}, {"n": [0, *NO_COUNTS, None]}),
    (every.hours, {}, {"n": [0, *NO_COUNTS, None]}),
    (every.days, {}, {"n": [0, *NO_COUNTS, None]}),
    (
        cron,
        {"expr": "0 9 * * *"},
        {
            "expr": ["", "* * * *", "@daily", "* * * * * *", "60 * * * *", "*/0 * * * *", "0 0 30 2 *", 7, None],
            "timezone": ["", None, 7, "Mars/Olympus", "../etc/passwd"],
        },
    ),
    (
        WorkflowRuntime,
        {"store": MemoryStore(), "workflows": [greet]},
        {
            "store": [None, "workflow.db", MemoryStore],
            "workflows": [None, greet, "greet", ["greet"], [None]],
            "queues": ["mail", ["mail"], [7]],
            "lease": NO_LIMITS,
            "concurrency": [0, *NO_COUNTS],
            "max_recoveries": NO_COUNTS,
            "owner": NO_IDS,
            "publish": [7, "x"],
            "clock": [7, datetime],
            "codec": [7, "x"],
        },
    ),
]
DEFINITIONS = [
    pytest.param(make, good, name, values, id=f"{make.__name__}-{name}")
    for make, good, bad in MAKERS
    for name, values in bad.items()
]


@pytest.mark.parametrize(("make", "good", "name", "values"), DEFINITIONS)
def test_bad_definitions_are_refused(
    make: Callable[..., Any], good: dict[str, Any], name: str, values: list[Any]
) -> None:
    """What could not work fails where it is written."""
    for value in values:
        try:
            make(**{**good, name: value})
        except (DefinitionError, InvalidArgumentError):
            continue
        pytest.fail(f"{make.__name__}({name}={value!r:.50}) was accepted")


@asynchronous
async def test_nothing_is_a_length_where_it_means_something() -> None:
    """A delay, a debounce, a budget, a grace period and a wait of nothing are what computing them may come to."""
    runtime = an_app()
    assert (await runtime.start_run("greet", run_id="a", input="Ann", delay=0)).kind == "queued"
    assert (await runtime.start_run("greet", run_id="b", input="Ann", debounce=0)).kind == "queued"
    assert (await runtime.sweep(max_duration=0)).deadline_reached
    run = await runtime.wait_for_run((await runtime.start_run("greet", input="Ann")).run_id, timeout=0)
    assert run is not None and run.ended
