"""The handlers: EventBridge, HTTP and SQS events into calls of the runtime."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from typing import Any, cast

from workflow.core import InvalidArgumentError
from workflow.core.arguments import Duration
from workflow.runtime.hosting import RuntimeLike, RuntimeSource, SweepLimits, is_temporary, lease_owner, sweep_within

from .loop import Invocation, LambdaContext, run

__all__ = ["Handler", "create_handler", "create_http_handler", "create_queue_handler", "create_sweep_handler"]

logger = logging.getLogger("workflow.aws_lambda")

Handler = Callable[[Any, Any], Any]
"""A Lambda handler: `handler(event, context)`."""

_HOST = "lambda"
_MAX_STREAM = 10.0


def create_sweep_handler(
    runtime: RuntimeLike,
    *,
    limits: SweepLimits | None = None,
    max_duration: Duration | None = None,
    include_sweep_result: bool = False,
) -> Handler:
    """A handler for a schedule (EventBridge Scheduler or Rules): each event is one sweep, and its answer the summary.

    `runtime` is a runtime, or a (sync or async) function that makes it in the first invocation. The sweep takes what
    the invocation has left, less a margin. An error is raised, so that Lambda counts it; set `MaximumRetryAttempts`
    to 0, because the next tick of the schedule is the retry.

    `max_duration` (seconds or a timedelta) and `include_sweep_result` (answer with the result of every run, for
    debugging) can be given by themselves or in `limits`.
    """
    bounds = SweepLimits.of(limits, max_duration=max_duration, include_sweep_result=include_sweep_result)
    return _sweep_handler(RuntimeSource(runtime), bounds)


def create_http_handler(
    runtime: RuntimeLike, *, token: Any, limits: SweepLimits | None = None, **options: Any
) -> Handler:
    """A handler for a Function URL or an HTTP API (payload format 2.0) that serves `WorkflowHTTP`.

    Options are those of `WorkflowHTTP`. A stream of events ends after ten seconds, because Lambda sends an answer when
    it is whole: its reader comes back for the rest.
    """
    return _http_handler(RuntimeSource(runtime), token, limits or SweepLimits(), options)


def create_queue_handler(runtime: RuntimeLike, *, concurrency: int = 10, margin: float = 2.0) -> Handler:
    """A handler for SQS: starts, signals, approvals and cancellations that `SQSDispatcher` (or anybody) has sent.

    It answers with the messages that must come again (set `ReportBatchItemFailures`): those that found no store, no
    time, or no run yet. One that can never be done also comes again, until its queue moves it to the dead letters. In
    a FIFO queue nothing overtakes a message of its group that has to come again.
    """
    if concurrency < 1:
        raise InvalidArgumentError(f"concurrency must be at least 1, not {concurrency}.")
    return _queue_handler(RuntimeSource(runtime), concurrency, margin)


def create_handler(
    runtime: RuntimeLike, *, token: Any, limits: SweepLimits | None = None, concurrency: int = 10, **options: Any
) -> Handler:
    """One handler for all three, told apart by what the event is: one function then has one runtime and one pool."""
    source, bounds = RuntimeSource(runtime), limits or SweepLimits()
    sweep = _sweep_handler(source, bounds)
    http = _http_handler(source, token, bounds, options)
    queue = _queue_handler(source, concurrency, bounds.margin)

    def handler(event: Any, context: LambdaContext) -> Any:
        if _is_http(event):
            return http(event, context)
        return queue(event, context) if _is_queue(event) else sweep(event, context)

    return handler


# -- Each of them


def _sweep_handler(source: RuntimeSource, limits: SweepLimits) -> Handler:
    def handler(event: Any, context: LambdaContext) -> dict[str, Any]:
        if _is_http(event) or _is_queue(event):
            # Wired to a URL without a secret, anybody could make it work.
            raise InvalidArgumentError(
                "This handler sweeps when a schedule says so. Use create_handler for HTTP or SQS."
            )
        return run(_sweep(source, limits, Invocation(context)))

    return handler


async def _sweep(source: RuntimeSource, limits: SweepLimits, invocation: Invocation) -> dict[str, Any]:
    owner = lease_owner(_HOST, invocation.id)
    try:
        answer = await sweep_within(source, owner=owner, remaining=invocation.remaining(), limits=limits)
    except Exception as error:
        logger.error("The sweep of %s failed%s", owner, "; the next one may succeed" if is_temporary(error) else "")
        raise
    line = answer.to_json()
    logger.info("sweep %s", line)
    return json.loads(line)


def _http_handler(source: RuntimeSource, token: Any, limits: SweepLimits, options: dict[str, Any]) -> Handler:
    from workflow.runtime.http import WorkflowHTTP  # late: most functions don't serve

    from .bridge import answer_event, request_of

    current = Invocation(None)
    settings: dict[str, Any] = {"max_stream": _MAX_STREAM, "host": _HOST, **options}
    app = WorkflowHTTP(source.get, token=token, limits=limits, remaining=lambda: current.remaining(), **settings)

    def handler(event: Any, context: LambdaContext) -> dict[str, Any]:
        nonlocal current
        if not _is_http(event):
            raise InvalidArgumentError(
                "This is no HTTP event of payload format 2.0: use a Function URL or an HTTP API."
            )
        current = Invocation(context)  # one process handles one invocation at a time
        return run(answer_event(app, request_of(event)))

    return handler


def _queue_handler(source: RuntimeSource, concurrency: int, margin: float) -> Handler:
    from .queue import Batch

    def handler(event: Any, context: LambdaContext) -> dict[str, Any]:
        if not _is_queue(event):
            raise InvalidArgumentError("This is no event of SQS.")
        batch = Batch(source, Invocation(context), concurrency=concurrency, margin=margin)
        failed = run(batch.run(event["Records"]))
        return {"batchItemFailures": [{"itemIdentifier": message_id} for message_id in failed]}

    return handler


# -- What an event is


def _field(value: Any, name: str) -> Any:
    return cast("Mapping[str, Any]", value).get(name) if isinstance(value, Mapping) else None


def _is_http(event: Any) -> bool:
    return isinstance(_field(_field(event, "requestContext"), "http"), Mapping)


def _is_queue(event: Any) -> bool:
    records: Any = _field(event, "Records")
    return isinstance(records, list) and all(map(_is_message, cast("list[Any]", records)))


def _is_message(record: Any) -> bool:
    """Of SQS. One that was made by hand may not say so."""
    source = _field(record, "eventSource")
    return source == "aws:sqs" or (source is None and isinstance(_field(record, "messageId"), str))
