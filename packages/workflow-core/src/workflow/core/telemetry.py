"""OpenTelemetry spans, through its API package where that is installed.

A span for each drive and for each live attempt of a step, with stable identifiers only: never inputs, results, payloads
or error messages. A replayed step has no span, and a pause is not an error.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from typing import Any, Protocol

from .records import RunRecord
from .step import StepContext

__all__ = ["NO_TELEMETRY", "DriveSpan", "OpenTelemetry", "Telemetry", "find_telemetry"]


class DriveSpan(Protocol):
    def end(self, kind: str, error: BaseException | None) -> None:
        """Say how the drive ended."""
        ...


class Telemetry(Protocol):
    """Where a drive reports to."""

    def drive(self, run: RunRecord) -> AbstractContextManager[DriveSpan]: ...

    def step(self, run_id: str, step: StepContext) -> AbstractContextManager[Any]: ...


class _Silent:
    _nothing = nullcontext()

    def end(self, kind: str, error: BaseException | None) -> None:
        return

    def drive(self, run: RunRecord) -> AbstractContextManager[DriveSpan]:
        return nullcontext(self)

    def step(self, run_id: str, step: StepContext) -> AbstractContextManager[Any]:
        return self._nothing


NO_TELEMETRY: Telemetry = _Silent()


class OpenTelemetry:
    """Spans `workflow.drive` and `workflow.step`, by the tracer of the application's provider."""

    def __init__(self, trace: Any) -> None:
        self._trace = trace
        self._tracer = trace.get_tracer("workflow.core")

    @contextmanager
    def drive(self, run: RunRecord) -> Generator[DriveSpan]:
        attributes = {"workflow.id": run.workflow_id, "workflow.run_id": run.run_id, "workflow.fence": run.fence}
        if run.workflow_version is not None:
            attributes["workflow.version"] = run.workflow_version
        with self._reporting("workflow.drive", attributes) as span:
            yield span

    @contextmanager
    def step(self, run_id: str, step: StepContext) -> Generator[None]:
        attributes = {"workflow.run_id": run_id, "workflow.step_id": step.step_id, "workflow.attempt": step.attempt}
        with self._reporting("workflow.step", attributes):
            yield

    @contextmanager
    def _reporting(self, name: str, attributes: dict[str, Any]) -> Generator[_Span]:
        with self._span(name, attributes) as opened:
            span = _Span(opened, self._trace)
            try:
                yield span
            except Exception as error:
                span.fail(error)
                raise

    def _span(self, name: str, attributes: dict[str, Any]) -> AbstractContextManager[Any]:
        return self._tracer.start_as_current_span(
            name, attributes=attributes, record_exception=False, set_status_on_exception=False
        )


class _Span:
    def __init__(self, span: Any, trace: Any) -> None:
        self._span = span
        self._trace = trace

    def end(self, kind: str, error: BaseException | None) -> None:
        self._span.set_attribute("workflow.outcome", kind)
        if error is not None:
            self.fail(error)

    def fail(self, error: BaseException) -> None:
        self._span.set_attribute("error.type", type(error).__name__)
        self._span.set_status(self._trace.Status(self._trace.StatusCode.ERROR))


def find_telemetry() -> Telemetry:
    """OpenTelemetry where its API is installed and the app has set a provider (by now), else silence."""
    trace = _api()
    if trace is None or isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        return NO_TELEMETRY  # spans that nobody could ever see are not made: they would cost more than a step
    return OpenTelemetry(trace)


@cache
def _api() -> Any:
    try:
        from opentelemetry import trace
    except ImportError:
        return None
    return trace
