"""Durable workflows on AWS Lambda.

    handler = create_handler(runtime, token=os.environ["WORKFLOW_TOKEN"])    # schedules, HTTP and SQS in one function

`create_sweep_handler`, `create_http_handler` and `create_queue_handler` make functions of one kind each.
`EventBridgeWaker` and `SQSDispatcher` need boto3, which Lambda's own image has.
"""

from typing import TYPE_CHECKING, Any

from .handlers import create_handler, create_http_handler, create_queue_handler, create_sweep_handler

if TYPE_CHECKING:
    from .dispatcher import SQSDispatcher
    from .waker import EventBridgeWaker

__all__ = [
    "EventBridgeWaker",
    "SQSDispatcher",
    "create_handler",
    "create_http_handler",
    "create_queue_handler",
    "create_sweep_handler",
]


def __getattr__(name: str) -> Any:
    # Late: a function that only sweeps has no use for them, and a cold start is waited for.
    if name == "EventBridgeWaker":
        from .waker import EventBridgeWaker

        return EventBridgeWaker
    if name == "SQSDispatcher":
        from .dispatcher import SQSDispatcher

        return SQSDispatcher
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
