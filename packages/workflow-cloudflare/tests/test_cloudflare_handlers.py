"""The handlers, without Cloudflare: which runtime they use, for how long, and when they stop."""

from __future__ import annotations

import asyncio
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from workflow.cloudflare import create_fetch_handler, create_scheduled_handler
from workflow.core import Context, InvalidArgumentError, StoreError, create_workflow
from workflow.runtime import WorkflowRuntime
from workflow.runtime.codec import Codec
from workflow.runtime.hosting import SweepLimits
from workflow.runtime.memory import MemoryStore


@create_workflow(id="echo")
async def echo(ctx: Context[int]) -> int:
    return await ctx.step("echo", double, ctx.input)


async def double(value: int) -> int:
    return 2 * value


class Usage:
    """What a store counts, as `workflow.store.d1.Usage` does."""

    def __init__(self) -> None:
        self.watched: list[int] = []
        self.acts: list[Any] = []

    def watch(self, queries: int, act: Any) -> None:
        self.watched.append(queries)
        self.acts.append(act)


class MeteredStore(MemoryStore):
    """A store with its usage, which says when it was closed."""

    def __init__(self) -> None:
        super().__init__()
        self.usage = Usage()
        self.closed = 0

    async def close(self) -> None:
        self.closed += 1


def env(store: MemoryStore) -> Any:
    return SimpleNamespace(STORE=store, WORKFLOW_TOKEN="secret")


def make_runtime(env: Any) -> WorkflowRuntime:
    return WorkflowRuntime(env.STORE, [echo])


async def make_runtime_later(env: Any) -> WorkflowRuntime:
    await asyncio.sleep(0)
    return make_runtime(env)


@pytest.mark.parametrize("make", [make_runtime, make_runtime_later])
def test_a_trigger_sweeps(make: Any) -> None:
    """A trigger does what is due, answers the counts, and closes the runtime it has made."""

    async def run() -> None:
        store = MeteredStore()
        await make_runtime(env(store)).start_run(echo, run_id="a", input=21, drive=False)
        scheduled = create_scheduled_handler(make)
        answer = await scheduled(SimpleNamespace(cron="* * * * *"), env(store), None)
        assert (answer.summary.ready, answer.remaining_may_exist) == ({"completed": 1}, False)
        assert answer.owner is not None
        assert answer.owner.startswith("cloudflare:")
        assert store.closed == 1
        assert (await scheduled(None, env(store), None)).summary.ready == {}
        assert store.closed == 2

    asyncio.run(run())


@pytest.mark.parametrize(("queries", "threshold"), [(1000, 800), (50, 40), (5, 4)])
def test_a_fifth_of_the_queries_is_kept_for_the_end(queries: int, threshold: int) -> None:
    """When most of an invocation's queries are used up, the runtime winds down, and the sweep says there is more."""

    async def run() -> None:
        store = MeteredStore()
        await make_runtime(env(store)).start_run(echo, run_id="a", input=1, drive=False)

        def winding_down(env: Any) -> WorkflowRuntime:
            runtime = make_runtime(env)
            asyncio.get_running_loop().call_soon(lambda: store.usage.acts[-1]())
            return runtime

        answer = await create_scheduled_handler(winding_down, queries=queries)(None, env(store), None)
        assert store.usage.watched == [threshold]
        assert answer.remaining_may_exist

    asyncio.run(run())


class Plain(Codec):
    """A codec that changes nothing."""

    def encode(self, text: str) -> str:
        return text

    def decode(self, text: str) -> str:
        return text


def test_queries_are_counted_behind_a_codec() -> None:
    """A codec around the store does not hide its count; `queries=None` leaves it alone."""

    async def run() -> None:
        store = MeteredStore()

        def encoded(env: Any) -> WorkflowRuntime:
            return WorkflowRuntime(env.STORE, [echo], codec=Plain())

        await create_scheduled_handler(encoded)(None, env(store), None)
        await create_scheduled_handler(encoded, queries=None)(None, env(store), None)
        assert store.usage.watched == [800]

    asyncio.run(run())


def test_a_sweep_is_bounded() -> None:
    """The limits given are those of the sweep; without a time of its own it takes less than the trigger's minute."""

    async def run() -> None:
        store = MeteredStore()
        for run_id in "abc":
            await make_runtime(env(store)).start_run(echo, run_id=run_id, input=1, drive=False)
        answer = await create_scheduled_handler(make_runtime, limits=SweepLimits(max_ready=1))(None, env(store), None)
        assert (answer.summary.ready, answer.remaining_may_exist) == ({"completed": 1}, True)

    asyncio.run(run())


def test_a_store_that_fails_fails_the_invocation() -> None:
    """What the store raises reaches the platform, and the runtime is closed all the same."""

    class NoSchema(MeteredStore):
        async def claim_due(self, *args: Any, **kwargs: Any) -> Any:
            raise StoreError("no schema")

    async def run() -> None:
        store = NoSchema()
        with pytest.raises(StoreError, match="no schema"):
            await create_scheduled_handler(make_runtime)(None, env(store), None)
        assert store.closed == 1

    asyncio.run(run())


# -- Requests


@pytest.fixture
def bridge(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for the SDK's ASGI bridge: a request is (method, path, token), an answer the messages sent."""

    async def fetch(app: Any, request: Any, env: Any, ctx: Any) -> list[Any]:
        method, path, token = request
        sent: list[Any] = []
        headers = [(b"authorization", f"Bearer {token}".encode())]
        scope = {"type": "http", "method": method, "path": path, "query_string": b"", "headers": headers}
        lifespan = iter([{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])

        async def receive() -> Any:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def receive_lifespan() -> Any:
            return next(lifespan)

        async def send(message: Any) -> None:
            sent.append(message)

        await app({**scope, "root_path": ""}, receive, send)
        await app({"type": "lifespan"}, receive_lifespan, send)
        return sent

    sdk = ModuleType("workers.asgi")
    vars(sdk)["fetch"] = fetch
    monkeypatch.setitem(sys.modules, "workers", ModuleType("workers"))
    monkeypatch.setitem(sys.modules, "workers.asgi", sdk)


@pytest.mark.usefixtures("bridge")
def test_a_request_has_a_runtime_of_its_own() -> None:
    """A request is served by a runtime made for it, and closed after it; strangers get none."""

    async def run() -> None:
        store = MeteredStore()
        await make_runtime(env(store)).start_run(echo, run_id="a", input=21)
        fetch = create_fetch_handler(make_runtime, token=lambda env: env.WORKFLOW_TOKEN)
        sent = await fetch(("GET", "/runs/a", "secret"), env(store), None)
        assert sent[0]["status"] == 200
        assert (store.closed, store.usage.watched) == (1, [800])
        sent = await fetch(("GET", "/runs/a", "wrong"), env(store), None)
        assert (sent[0]["status"], store.closed) == (401, 1)

    asyncio.run(run())


@pytest.mark.usefixtures("bridge")
@pytest.mark.parametrize("token", [lambda env: "", lambda env: None, lambda env: env.ABSENT])
def test_without_a_token_nobody_is_let_in(token: Any) -> None:
    """A secret that is not set fails every request, and lets nobody in."""
    fetch = create_fetch_handler(make_runtime, token=token)

    async def run() -> None:
        with pytest.raises((InvalidArgumentError, AttributeError)):
            await fetch(("GET", "/runs", ""), env(MeteredStore()), None)

    asyncio.run(run())


def test_what_is_wrong_is_said_when_the_worker_starts() -> None:
    """A token instead of a function, or too few queries, is an error when the handler is made."""
    with pytest.raises(InvalidArgumentError, match="lambda env"):
        create_fetch_handler(make_runtime, token="secret")  # pyright: ignore[reportArgumentType]
    with pytest.raises(InvalidArgumentError, match="queries"):
        create_scheduled_handler(make_runtime, queries=1)
