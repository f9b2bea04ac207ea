"""The signatures that the documents promise: examples written against them must go on working."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from workflow.aws_lambda import create_http_handler, create_queue_handler, create_sweep_handler
from workflow.cloudflare import create_fetch_handler, create_scheduled_handler
from workflow.core import (
    Approval,
    Context,
    Retry,
    RetryAfter,
    StepError,
    create_workflow,
    current_step,
    run_workflow,
)
from workflow.gcp import create_http_function, create_sweep_function
from workflow.netlify import create_sweep_app as create_netlify_app
from workflow.railway import create_cron_command
from workflow.runtime import MemoryStore, Registration, Schedule, WorkflowHTTP, WorkflowRuntime, cron, every
from workflow.store.d1 import D1Store
from workflow.store.postgres import PostgresStore
from workflow.store.sqlite import SQLiteStore
from workflow.vercel import create_sweep_app

BOUNDS = "max_duration=None, include_sweep_result=False"

PROMISED = [
    (
        create_workflow,
        "*, id, version=None, description=None, input=None, output=None, state=None, initialize=None, "
        "default_retry=None, middleware=(), previous_versions=()",
    ),
    (Context.step, "id, fn, *args, retry=None, timeout=None, meta=None"),
    (Context.sleep, "delay, *, id=None, meta=None"),
    (Context.sleep_until, "when, *, id=None, meta=None"),
    (Context.wait_for_event, "name, type=typing.Any, *, id=None, timeout=None, deadline=None, meta=None"),
    (Context.approve, "title, *, id=None, description=None, timeout=None, meta=None"),
    (Context.now, "*, id=None"),
    (Context.uuid, "*, id=None"),
    (Context.emit, "name, value=None"),
    (current_step, ""),
    (
        Retry,
        "max_attempts=3, initial_delay=0.5, backoff_rate=2.0, max_delay=60.0, jitter=True, "
        "retry_on=(<class 'Exception'>,), give_up_on=(), should_retry=None",
    ),
    (Retry.none, ""),
    (Retry.at_most_once, ""),
    (RetryAfter, "delay"),
    (StepError, "step_id, error_type, message, attempts=1"),
    (Approval, "approval_id, approved, feedback=None, meta=None"),
    (run_workflow, "workflow, *, store, run_id=None, input=..., signal=None, approval=None, recover=False"),
    (WorkflowRuntime, "store, workflows, *, lease=30.0, concurrency=10, publish=None, telemetry=True, clock=None"),
    (WorkflowRuntime.start_run, "workflow, *, run_id=None, input=None, drive=True"),
    (WorkflowRuntime.deliver_signal, "*, run_id, signal_id, name, payload=None, drive=True"),
    (WorkflowRuntime.deliver_approval, "*, run_id, approval_id, approved, feedback=None, drive=True"),
    (WorkflowRuntime.cancel_run, "run_id, *, reason=None, drive=True"),
    (
        WorkflowRuntime.sweep,
        "*, max_scheduled_runs=25, max_timers=25, max_duration=None, include_events=False, now=None",
    ),
    (WorkflowRuntime.get_run, "run_id"),
    (WorkflowRuntime.list_runs, "*, workflow_id=None, status=None, limit=50, cursor=None"),
    (WorkflowRuntime.get_timeline, "run_id"),
    (WorkflowRuntime.stream, "run_id"),
    (WorkflowRuntime.wait_for_run, "run_id, timeout=None"),
    (WorkflowRuntime.purge, "older_than"),
    (WorkflowRuntime.backfill, "schedule_id, start, end"),
    (Registration, "target, id=None, schedules=()"),
    (Schedule, "id, spec, *, input=None, overlap='skip', catch_up=1, enabled=True, jitter=None"),
    (cron, "expr, timezone='UTC'"),
    (every.seconds, "n"),
    (every.minutes, "n"),
    (every.hours, "n"),
    (every.days, "n"),
    (WorkflowHTTP, "runtime, *, token"),
    (MemoryStore, ""),
    (SQLiteStore, "path"),
    (PostgresStore, "engine, schema='public'"),
    (D1Store, "binding"),
    (D1Store.from_http, "account_id, database_id, api_token"),
    (create_sweep_handler, f"runtime, *, {BOUNDS}"),
    (create_http_handler, "runtime, *, token"),
    (create_queue_handler, "runtime"),
    (create_sweep_app, f"runtime, *, cron_secret, {BOUNDS}"),
    (create_netlify_app, f"runtime, *, secret, {BOUNDS}"),
    (create_sweep_function, f"runtime, *, {BOUNDS}"),
    (create_http_function, "runtime, *, token"),
    (create_cron_command, "runtime, *, max_duration=270.0, include_sweep_result=False"),
    (create_scheduled_handler, f"runtime, *, {BOUNDS}"),
    (create_fetch_handler, "runtime, *, token"),
]


def _name(function: Any) -> str:
    return getattr(function, "__qualname__", repr(function))


@pytest.mark.parametrize(("function", "promised"), PROMISED, ids=[_name(function) for function, _ in PROMISED])
def test_signatures_are_as_promised(function: Any, promised: str) -> None:
    """Each parameter is there, in its place, of its kind and with its default; more of them may follow by keyword."""
    real = list(inspect.signature(function).parameters.values())
    real = real[1:] if real and real[0].name == "self" else real
    wanted = promised.split(", ") if promised else []
    keywords = wanted[wanted.index("*") + 1 :] if "*" in wanted else []
    assert [_written(one) for one in real[: len(wanted) - len(keywords) - bool(keywords)]] == [
        one for one in wanted if one not in ("*", *keywords)
    ]
    by_keyword = {_written(one) for one in real if one.kind is inspect.Parameter.KEYWORD_ONLY}
    assert {word for word in keywords if word != "input=..."} <= by_keyword
    rest = real[len(wanted) :]
    assert all(one.default is not one.empty or one.kind in (one.VAR_KEYWORD, one.VAR_POSITIONAL) for one in rest)


def _written(parameter: inspect.Parameter) -> str:
    if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
        return f"*{parameter.name}"
    return parameter.name if parameter.default is parameter.empty else f"{parameter.name}={parameter.default!r}"
