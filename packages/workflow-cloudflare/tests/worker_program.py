"""A Worker's life under Pyodide. Run by pyodide_host.mjs for test_cloudflare_pyodide.py; prints one JSON object.

Its `test_...` functions run in order, in one process and on one database, as a Worker's invocations do.
"""

import asyncio
import importlib.metadata
import importlib.util
import json
import os
import random  # seeds itself when it is imported, which Cloudflare allows
import sys
import traceback
from datetime import timedelta
from typing import Any

real_urandom = os.urandom
draws: list[int] = []
os.urandom = lambda size: draws.append(size) or real_urandom(size)
random_state = random.getstate()
before = set(sys.modules)
for name in ("workflow.core", "workflow.runtime", "workflow.runtime.http", "workflow.store.d1", "workflow.cloudflare"):
    importlib.import_module(name)
brought = sorted({name.partition(".")[0] for name in set(sys.modules) - before})

import entry  # noqa: E402 # pyright: ignore[reportMissingImports] - of the example
import host  # noqa: E402 # pyright: ignore[reportMissingImports] - of pyodide_host.mjs
import js  # noqa: E402 # pyright: ignore[reportMissingImports] - Pyodide's
import pytest  # noqa: E402
from pyodide.ffi import to_js  # noqa: E402 # pyright: ignore[reportMissingImports]
from workers import WorkerEntrypoint  # noqa: E402 # pyright: ignore[reportMissingImports] - Cloudflare's SDK

from workflow.cloudflare import create_fetch_handler, create_scheduled_handler  # noqa: E402
from workflow.core import Context, Retry, StepError, StoreError, create_workflow  # noqa: E402
from workflow.core.clock import SystemClock  # noqa: E402
from workflow.runtime import WorkflowRuntime  # noqa: E402
from workflow.runtime.hosting import SweepLimits  # noqa: E402
from workflow.store.d1 import D1Store  # noqa: E402


class MovableClock(SystemClock):
    """Goes on by itself, as steps' timeouts need it, and can be moved."""

    offset = timedelta()

    def now(self):
        return super().now() + self.offset

    def advance(self, seconds):
        self.offset += timedelta(seconds=seconds)


os.urandom = real_urandom
drawn_at_import = bool(draws) or random.getstate() != random_state

clock = MovableClock()
steps: list[str] = []
stores: list[D1Store] = []


# -- Workflows that need all of the deterministic loop


async def note(what: str, pauses: int = 0) -> str:
    """A step with real awaits: of this loop, and of a JavaScript promise."""
    for _ in range(pauses):
        await asyncio.sleep(0)
    await js.Promise.resolve(1)
    steps.append(what)
    return what


def note_sync(what: str) -> str:
    steps.append(what)
    return what


async def hang() -> None:
    await asyncio.Event().wait()


async def fail() -> None:
    raise LookupError("nothing there")


@create_workflow(id="branches")
async def branches(ctx: Context[int]) -> dict:
    """Branches end in another order than they began, pause in between, and one of them fails."""

    async def branch(number: int) -> str:
        first = await ctx.step(f"first-{number}", note, f"first-{number}", ctx.input - number)
        await asyncio.sleep(10 * number)
        return first + await ctx.step(f"second-{number}", note_sync, f"/second-{number}")

    found = await asyncio.gather(*(branch(number) for number in range(ctx.input)))
    async with asyncio.TaskGroup() as group:
        task = group.create_task(branch(9))
    found.append(task.result())
    try:
        async with asyncio.timeout(30):
            await ctx.wait_for_event("never")
    except TimeoutError:
        found.append("timeout")
    try:
        await ctx.step("fail", fail, retry=Retry.none())
    except StepError as error:
        found.append(error.error_type)
    try:
        await ctx.step("hang", hang, timeout=0.05, retry=Retry.none())
    except TimeoutError:
        found.append("step timeout")
    return {"found": found, "id": str(await ctx.uuid())}


@create_workflow(id="cancelled")
async def cancelled(ctx: Context[None]) -> str:
    try:
        await ctx.wait_for_event("never")
    finally:
        await ctx.step("undo", note, "undo")
    return "not reached"


@create_workflow(id="long")
async def long(ctx: Context[int]) -> int:
    for number in range(ctx.input):
        await ctx.step(f"step-{number}", note, f"long-{number}")
    return ctx.input


# -- The Worker, as workerd would make and call it


def make_runtime(env):
    store = D1Store(env.DB)
    stores.append(store)
    workflows = [entry.make_runtime.__globals__["fulfillment"], branches, cancelled, long]
    return WorkflowRuntime(store=store, workflows=workflows, clock=clock)


sweep = create_scheduled_handler(make_runtime)
serve = create_fetch_handler(make_runtime, token=lambda env: env.WORKFLOW_TOKEN)


class Default(WorkerEntrypoint):
    async def scheduled(self, controller, env, ctx):
        self.answer = await sweep(controller, self.env, self.ctx)

    async def fetch(self, request):
        return await serve(request, self.env, self.ctx)


def options(**given):
    return to_js(given, dict_converter=js.Object.fromEntries)


context = options(waitUntil=lambda task: None)


async def call(method, path, body=None, *, token="secret-token", worker=Default) -> tuple[int, Any]:
    """A request to a Worker of its own: its status and its JSON."""
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    init = {"method": method, "headers": headers}
    if body is not None:
        init["body"] = json.dumps(body)
    request = js.Request.new(f"https://worker.example{path}", options(**init))
    response = await worker(context, host.env).fetch(request)
    text = await response.text()
    return response.status, json.loads(text) if text else None


async def trigger(worker=Default) -> Any:
    """A Cron Trigger fires: what the sweep did."""
    instance = worker(context, host.env)
    controller = options(cron="* * * * *", scheduledTime=clock.now().timestamp() * 1000)
    await instance.scheduled(controller, host.env, context)
    return getattr(instance, "answer", None)


# -- What it must do


async def test_imports():
    for name in ("sqlalchemy", "asyncpg", "httpx", "greenlet", "sqlite3", "boto3"):
        assert name not in sys.modules, name
    assert importlib.util.find_spec("sqlalchemy") is None
    assert not drawn_at_import, "Cloudflare fails a Worker that needs randomness while it is imported"
    return brought


async def test_no_schema():
    with pytest.raises(StoreError, match="no workflow schema"):
        await trigger()
    status, problem = await call(
        "POST", "/runs", {"workflow_id": "fulfillment", "input": {"order_id": "", "delay_ms": 0}}
    )
    assert (status, problem["code"]) == (500, "store"), problem
    await D1Store(host.env.DB).migrate()


async def test_strangers():
    assert (await call("GET", "/runs", token="wrong"))[0] == 401
    assert (await call("GET", "/runs"))[0] == 200


async def test_fulfillment():
    order = {"order_id": "o1", "delay_ms": 3_600_000}
    status, answer = await call("POST", "/runs", {"workflow_id": "fulfillment", "run_id": "f", "input": order})
    assert (status, answer["kind"], answer["created"]) == (201, "paused", True), (status, answer)
    status, answer = await call("POST", "/runs", {"workflow_id": "fulfillment", "run_id": "f", "input": order})
    assert (status, answer["kind"], answer["created"]) == (200, "paused", False), (status, answer)
    # Mail comes before it is asked for, and waits; a trigger that comes too early does nothing.
    mail = {"signal_id": "s1", "name": "payment-received", "payload": {"payment_id": "p1"}}
    assert (await call("POST", "/runs/f/signals", mail))[1]["kind"] == "buffered"
    assert (await call("POST", "/runs/f/signals", mail))[1]["kind"] == "duplicate"
    answer = await trigger()
    assert answer.summary.timers == {}, answer
    clock.advance(3600)
    answer = await trigger()
    assert answer.summary.timers == {"completed": 1}, answer
    status, run = await call("GET", "/runs/f")
    assert (status, run["status"], run["output"]) == (200, "completed", {"order_id": "o1", "shipped": True}), run


async def test_stream():
    """A stream of events outlives the call that answers it, with its runtime."""
    headers = {"Authorization": "Bearer secret-token"}
    request = js.Request.new("https://worker.example/runs/f/stream", options(headers=headers))
    response = await Default(context, host.env).fetch(request)
    assert response.status == 200, response.status
    text = await response.text()
    assert text.index("STEP_FINISHED") < text.index("RUN_FINISHED"), text


async def test_signal_wakes():
    order = {"order_id": "o2", "delay_ms": 0}
    await call("POST", "/runs", {"workflow_id": "fulfillment", "run_id": "g", "input": order})
    assert (await trigger()).summary.timers in ({}, {"paused": 1})
    mail = {"signal_id": "s1", "name": "payment-received", "payload": {"payment_id": "p2"}}
    answer = (await call("POST", "/runs/g/signals", mail))[1]
    assert (answer["kind"], answer["run"]["output"]) == ("completed", {"order_id": "o2", "shipped": True}), answer


async def test_branches():
    steps.clear()
    run = (await call("POST", "/runs", {"workflow_id": "branches", "run_id": "b", "input": 3}))[1]["run"]
    for _ in range(20):
        run = (await call("GET", "/runs/b"))[1]
        if run["status"] in ("completed", "errored"):
            break
        clock.advance(10)
        await trigger()
    assert run["status"] == "completed", run
    found = [f"first-{number}/second-{number}" for number in (0, 1, 2, 9)]
    assert run["output"]["found"] == [*found, "timeout", "LookupError", "step timeout"], run["output"]
    assert sorted(steps) == sorted(set(steps)), steps
    assert len(steps) == 8


async def test_cancellation():
    steps.clear()
    await call("POST", "/runs", {"workflow_id": "cancelled", "run_id": "c"})
    answer = (await call("POST", "/runs/c/cancel", {"reason": "no longer needed"}))[1]
    assert (answer["kind"], steps) == ("cancelled", ["undo"]), (answer, steps)


async def test_queries_are_bounded():
    """A long run is spread over invocations, none of which makes more queries than it may."""
    steps.clear()
    bounded = create_scheduled_handler(make_runtime, queries=50, limits=SweepLimits(max_duration=50))
    await call("POST", "/runs", {"workflow_id": "long", "run_id": "l", "input": 40, "drive": False})
    used = []
    for _ in range(20):
        answer = await bounded(None, Default(context, host.env).env, context)
        used.append(stores[-1].usage.queries)
        if answer.summary.ready.get("completed"):
            break
    assert (await call("GET", "/runs/l"))[1]["status"] == "completed"
    assert max(used) <= 50, used
    assert len(used) > 2, used
    assert steps == [f"long-{number}" for number in range(40)], steps
    return used


async def test_both_forms_of_the_binding():
    """Miniflare's own proxy of the binding, which is neither: and it works as a plain one."""
    store = D1Store(await host.miniflare_database())
    await store.check()
    run = await store.get_run("f")
    assert run is not None
    assert run.status == "completed"


async def test_the_example():
    order = {"order_id": "o3", "delay_ms": 0}
    body = {"workflow_id": "fulfillment", "run_id": "example", "input": order}
    status, answer = await call("POST", "/runs", body, worker=entry.Default)
    assert (status, answer["kind"]) == (201, "paused"), answer
    await trigger(entry.Default)
    mail = {"signal_id": "s1", "name": "payment-received", "payload": {"payment_id": "p3"}}
    answer = (await call("POST", "/runs/example/signals", mail, worker=entry.Default))[1]
    assert answer["kind"] in ("completed", "buffered"), answer


async def test_nothing_is_left():
    """No task of an invocation outlives it."""
    others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    assert others == [], others


async def outcome(test):
    try:
        async with asyncio.timeout(30):
            return {"passed": True, "found": await test()}
    except BaseException:
        return {"passed": False, "found": traceback.format_exc()}


async def main():
    versions = {**json.loads(host.versions), "python": sys.version.split()[0], "platform": sys.platform}
    for name in ("pydantic", "pydantic-core", "workers-runtime-sdk"):
        versions[name] = importlib.metadata.version(name)
    tests = [test for name, test in globals().items() if name.startswith("test_")]
    print(json.dumps({"versions": versions, "outcomes": {test.__name__: await outcome(test) for test in tests}}))


await main()  # noqa: F704 # pyright: ignore - Pyodide runs this as a coroutine
