"""Spans: one for each drive and each live attempt of a step, with stable identifiers and nothing that users wrote."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from workflow.core import Context, InMemoryRunStore, NonRetryableError, Retry, Workflow, create_workflow
from workflow.core.clock import SystemClock
from workflow.core.engine import Drive, DriveEnvironment
from workflow.core.payload import payload_type
from workflow.core.records import Lease, NewRun
from workflow.core.telemetry import NO_TELEMETRY, OpenTelemetry, Telemetry

sdk = pytest.importorskip("opentelemetry.sdk.trace", reason="opentelemetry-sdk is not installed (group `test`)")

SECRET = "s3cret"


class Spans:
    """A tracer provider of its own, whose spans are kept."""

    def __init__(self) -> None:
        from opentelemetry import trace
        from opentelemetry.sdk.trace.export import SimpleSpanProcessor
        from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

        self._exporter = InMemorySpanExporter()
        self.provider = sdk.TracerProvider(shutdown_on_exit=False)
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.telemetry: Telemetry = OpenTelemetry(
            SimpleNamespace(get_tracer=self.provider.get_tracer, Status=trace.Status, StatusCode=trace.StatusCode)
        )

    def take(self) -> list[Any]:
        found = sorted(self._exporter.get_finished_spans(), key=lambda span: span.start_time or 0)
        self._exporter.clear()
        return found

    def names(self) -> list[tuple[str, bool]]:
        """What ended since the last look: names, and whether each is an error."""
        return [(span.name, not span.status.is_ok and span.status.status_code.name == "ERROR") for span in self.take()]


@pytest.fixture
def spans() -> Spans:
    return Spans()


def drives(workflow: Workflow[Any, Any], telemetry: Telemetry, after: list[Callable[[], object]]) -> None:
    """Drive a run once before each of `after`, which are called when the drive has ended."""

    async def main() -> None:
        store, clock = InMemoryRunStore(), SystemClock()
        now = clock.now()
        await store.create_run(NewRun("r", workflow.id, workflow.version, f'"{SECRET}"', now), lease=None, now=now)
        for look in after:
            lease = Lease("me", clock.now() + timedelta(seconds=30))
            claimed = await store.claim_run("r", lease, now=clock.now(), force=True)
            assert claimed is not None
            environment = DriveEnvironment(store=store, owner="me", telemetry=telemetry)
            await Drive(workflow, claimed, environment).run()
            look()

    asyncio.run(main())


async def fine(text: str) -> str:
    return text


def fine_in_a_thread(text: str) -> str:
    return text


async def broken(text: str) -> None:
    raise ValueError(f"message with {text}")


async def hopeless(text: str) -> None:
    raise NonRetryableError(f"message with {text}")


def test_a_span_for_each_drive_and_live_step(spans: Spans) -> None:
    """A replayed step has none, and a pause is not an error."""

    @create_workflow(id="orders", version="2", input=str)
    async def pausing(ctx: Context[str]) -> str:
        await ctx.step("a", fine, ctx.input)
        await ctx.step("b", fine_in_a_thread, ctx.input)
        await ctx.wait_for_event(f"never-{SECRET}")
        return ctx.input

    first: list[Any] = []
    second: list[Any] = []
    drives(pausing, spans.telemetry, [lambda: first.extend(spans.take()), lambda: second.extend(spans.take())])
    assert [span.name for span in first] == ["workflow.drive", "workflow.step", "workflow.step"]
    assert [span.name for span in second] == ["workflow.drive"]
    assert all(span.status.is_unset and not span.events for span in [*first, *second])
    assert dict(first[0].attributes) == {
        "workflow.id": "orders",
        "workflow.version": "2",
        "workflow.run_id": "r",
        "workflow.fence": 1,
        "workflow.outcome": "paused",
    }
    assert dict(first[1].attributes) == {"workflow.run_id": "r", "workflow.step_id": "a", "workflow.attempt": 1}
    assert [span.parent.span_id for span in first[1:]] == [first[0].context.span_id] * 2
    assert all(SECRET not in span.to_json() for span in [*first, *second])


def test_failed_attempts_are_errors(spans: Spans) -> None:
    """Each failed attempt is a span with the error's class, and neither its message nor its traceback."""

    @create_workflow(id="orders", input=str, default_retry=Retry(max_attempts=2, initial_delay=0.001))
    async def handler(ctx: Context[str]) -> str:
        try:
            await ctx.step("a", broken, ctx.input)
        except Exception:
            return "compensated"
        return "not reached"

    found: list[Any] = []
    drives(handler, spans.telemetry, [lambda: found.extend(spans.take())])
    assert [(span.name, span.status.status_code.name) for span in found] == [
        ("workflow.drive", "UNSET"),
        ("workflow.step", "ERROR"),
        ("workflow.step", "ERROR"),
    ]
    assert [span.attributes["workflow.attempt"] for span in found[1:]] == [1, 2]
    assert found[1].attributes["error.type"] == "ValueError"
    assert found[1].status.description is None and not found[1].events
    assert all(SECRET not in span.to_json() for span in found)
    assert found[0].attributes["workflow.outcome"] == "completed"


def test_a_failed_run_is_an_error_of_its_drive(spans: Spans) -> None:
    """The drive in which a run ends with an error is marked."""

    @create_workflow(id="orders", input=str)
    async def handler(ctx: Context[str]) -> None:
        await ctx.step("a", hopeless, ctx.input)

    found: list[Any] = []
    drives(handler, spans.telemetry, [lambda: found.extend(spans.take())])
    assert [span.status.status_code.name for span in found] == ["ERROR", "ERROR"]
    assert found[0].attributes["workflow.outcome"] == "errored"
    assert found[0].attributes["error.type"] == "StepError"
    assert all(SECRET not in span.to_json() for span in found)


def test_a_timeout_and_a_refused_result_are_errors_of_the_attempt(spans: Spans) -> None:
    """An attempt fails in its span however it fails."""

    async def slow() -> None:
        await asyncio.sleep(30)

    async def unfit() -> Any:
        return object()

    @create_workflow(id="orders", input=str)
    async def handler(ctx: Context[str]) -> list[str]:
        errors: list[str] = []
        for step, fn, timeout in (("a", slow, 0.01), ("b", unfit, None)):
            try:
                await ctx.step(step, fn, timeout=timeout)
            except Exception as error:
                errors.append(type(error).__name__)
        return errors

    found: list[Any] = []
    drives(handler, spans.telemetry, [lambda: found.extend(spans.take())])
    assert [span.attributes.get("error.type") for span in found] == [None, "StepTimeoutError", "StepResultError"]


def test_spans_of_the_step_are_within_it(spans: Spans) -> None:
    """What a step function traces by itself, in the loop or in a thread, belongs to its attempt."""
    tracer = spans.provider.get_tracer("app")

    async def traced() -> None:
        with tracer.start_as_current_span("query"):
            await asyncio.sleep(0)

    def traced_in_a_thread() -> None:
        tracer.start_span("compute").end()

    @create_workflow(id="orders", input=str)
    async def handler(ctx: Context[str]) -> None:
        await asyncio.gather(ctx.step("a", traced), ctx.step("b", traced_in_a_thread))

    found: list[Any] = []
    drives(handler, spans.telemetry, [lambda: found.extend(spans.take())])
    parents = {span.context.span_id: span for span in found}
    inner = {span.name: parents[span.parent.span_id] for span in found if span.parent is not None}
    assert inner["query"].attributes["workflow.step_id"] == "a"
    assert inner["compute"].attributes["workflow.step_id"] == "b"


def test_an_error_of_the_store_is_an_error_of_the_drive(spans: Spans) -> None:
    """What a drive raises marks its span, and goes on."""
    run: Any = SimpleNamespace(workflow_id="w", run_id="r", fence=1, workflow_version=None)
    with pytest.raises(ConnectionError), spans.telemetry.drive(run):
        raise ConnectionError(SECRET)
    (span,) = spans.take()
    assert (span.status.status_code.name, span.attributes["error.type"]) == ("ERROR", "ConnectionError")
    assert SECRET not in span.to_json()
    with pytest.raises(asyncio.CancelledError), spans.telemetry.drive(run):
        raise asyncio.CancelledError
    assert spans.names() == [("workflow.drive", False)]


def test_silence_costs_nothing() -> None:
    """Without telemetry no span is made, and the same object serves every drive and step."""
    run: Any = None
    with NO_TELEMETRY.drive(run) as span:
        span.end("completed", ValueError())
    assert NO_TELEMETRY.step("r", run) is NO_TELEMETRY.step("r", run)
    assert payload_type(str).name == "str"


BLOCKED = """
import sys
sys.modules["opentelemetry"] = None
from workflow.core.telemetry import NO_TELEMETRY, find_telemetry
assert find_telemetry() is NO_TELEMETRY
assert not [name for name in sys.modules if name.startswith("opentelemetry.")]
"""

FOUND = """
from workflow.core.telemetry import NO_TELEMETRY, OpenTelemetry, find_telemetry
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
trace.set_tracer_provider(TracerProvider(shutdown_on_exit=False))
assert isinstance(find_telemetry(), OpenTelemetry)
"""


@pytest.mark.parametrize("program", [BLOCKED, FOUND], ids=["absent", "present"])
def test_the_api_package_is_optional(program: str) -> None:
    """Where it is not installed there is silence; where the app traces, there are spans."""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
