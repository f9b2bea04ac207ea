"""What each handler makes of its events, without a process of its own."""

from __future__ import annotations

import base64
import itertools
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from workflow.aws_lambda import create_handler, create_http_handler, create_queue_handler, create_sweep_handler
from workflow.aws_lambda.bridge import request_of
from workflow.core import Context, InvalidArgumentError, create_workflow
from workflow.runtime import MemoryStore, WorkflowRuntime


class Clock:
    """The `context` of an invocation that has so many seconds left."""

    def __init__(self, *seconds: float) -> None:
        self.aws_request_id = "request-1"
        self._left = itertools.chain(seconds, itertools.repeat(seconds[-1]))

    def get_remaining_time_in_millis(self) -> int:
        return int(next(self._left) * 1000)


order_of_work: list[str] = []


async def note(text: str) -> str:
    order_of_work.append(text)
    return text


@create_workflow(id="note")
async def note_it(ctx: Context[str]) -> str:
    return await ctx.step("note", note, ctx.input)


@create_workflow(id="mail")
async def mail(ctx: Context[Any]) -> Any:
    return await ctx.wait_for_event("mail")


@create_workflow(id="decision")
async def decision(ctx: Context[Any]) -> bool:
    return (await ctx.approve("Well?", id="well")).approved


@pytest.fixture
def runtime() -> WorkflowRuntime:
    order_of_work.clear()
    return WorkflowRuntime(MemoryStore(), [note_it, mail, decision])


def start(run_id: str, workflow_id: str = "note", **more: Any) -> dict[str, Any]:
    return {"type": "start", "run_id": run_id, "workflow_id": workflow_id, "input": run_id, **more}


def http_event(method: str = "GET", path: str = "/runs", **more: Any) -> dict[str, Any]:
    context = {"http": {"method": method, "path": path}, **more.pop("requestContext", {})}
    headers = {"authorization": "Bearer token", "content-type": "application/json"}
    return {"rawPath": path, "rawQueryString": "", "headers": headers, "requestContext": context, **more}


def failures(answer: Any) -> list[str]:
    return [item["itemIdentifier"] for item in answer["batchItemFailures"]]


# -- Queues


def test_messages_start_signal_decide_and_cancel(runtime: WorkflowRuntime, make_sqs_event: Callable[..., Any]):
    """Each kind of message does what it says, and none of them comes again."""
    handler = create_queue_handler(runtime)
    first = [start("n"), start("m", "mail"), start("c", "mail"), start("d", "decision")]
    assert failures(handler(make_sqs_event(*first), Clock(30))) == []
    signal = {"type": "signal", "run_id": "m", "signal_id": "s", "name": "mail", "payload": [1]}
    approve = {"type": "approve", "run_id": "d", "approval_id": "well", "approved": True}
    cancel = {"type": "cancel", "run_id": "c", "reason": "enough"}
    assert failures(handler(make_sqs_event(signal, approve, cancel), Clock(30))) == []
    http = create_http_handler(runtime, token="token")
    runs = json.loads(http(http_event(), Clock(30))["body"])["runs"]
    ends = {run["run_id"]: (run["status"], run["output"]) for run in runs}
    assert ends == {
        "n": ("completed", "n"),
        "m": ("completed", [1]),
        "c": ("cancelled", None),
        "d": ("completed", True),
    }


def test_a_message_that_comes_twice_does_its_work_once(runtime: WorkflowRuntime, make_sqs_event: Callable[..., Any]):
    """SQS delivers at least once; a start and a signal take effect once."""
    handler = create_queue_handler(runtime)
    signal = {"type": "signal", "run_id": "m", "signal_id": "s", "name": "mail"}
    for _ in range(2):
        assert failures(handler(make_sqs_event(start("n")), Clock(30))) == []
        assert failures(handler(make_sqs_event(start("m", "mail")), Clock(30))) == []
        assert failures(handler(make_sqs_event(signal), Clock(30))) == []
    assert order_of_work == ["n"]


@pytest.mark.parametrize(
    "body",
    [
        "",
        "no json",
        "{}",
        "[]",
        '{"type": "start"}',
        '{"type": "explode", "run_id": "x"}',
        json.dumps(start("")),
        json.dumps(start("x", "unknown")),
        json.dumps(start("x", extra=1)),
        json.dumps({**start("x"), "input": 5}),
        json.dumps(start("a\x00b")),
        json.dumps({"type": "signal", "run_id": "none", "signal_id": "s", "name": "n"}),
    ],
)
def test_only_bad_messages_come_again(runtime: WorkflowRuntime, make_sqs_event: Callable[..., Any], body: str):
    """A message that can't be done goes back, on its way to the dead letters; the others of its batch are done."""
    answer = create_queue_handler(runtime)(make_sqs_event(body, start("good")), Clock(30))
    assert failures(answer) == ["m0"] and order_of_work == ["good"]


def test_a_signal_for_an_ended_run_is_dropped(
    runtime: WorkflowRuntime, make_sqs_event: Callable[..., Any], caplog: pytest.LogCaptureFixture
):
    """What no retry could deliver does not come again, and is in the log."""
    handler = create_queue_handler(runtime)
    late = {"type": "signal", "run_id": "n", "signal_id": "s", "name": "n"}
    handler(make_sqs_event(start("n")), Clock(30))
    assert failures(handler(make_sqs_event(late), Clock(30))) == [] and "has ended" in caplog.text


def test_a_group_keeps_its_order_and_stops_at_a_failure(runtime: WorkflowRuntime, make_sqs_event: Callable[..., Any]):
    """In a FIFO group messages are done one after another, and nothing overtakes one that comes again."""
    handler = create_queue_handler(runtime)
    messages = [start("a"), start("b"), "broken", start("c")]
    assert failures(handler(make_sqs_event(*messages, group="g"), Clock(30))) == ["m2", "m3"]
    assert order_of_work == ["a", "b"]


def test_messages_for_which_no_time_is_left_come_again(runtime: WorkflowRuntime, make_sqs_event: Callable[..., Any]):
    """A batch ends in time: what was not begun goes back to the queue."""
    handler = create_queue_handler(runtime, concurrency=1)
    answer = handler(make_sqs_event(start("a"), start("b"), start("c")), Clock(30, 30, 1))
    assert failures(answer) == ["m2"] and order_of_work == ["a", "b"]


def test_a_start_for_later_waits(runtime: WorkflowRuntime, make_sqs_event: Callable[..., Any]):
    """A start can be for a time further ahead than SQS can wait."""
    handler = create_queue_handler(runtime)
    later = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    past = (datetime.now(UTC) - timedelta(days=1)).isoformat()
    handler(make_sqs_event(start("later", not_before=later), start("now", not_before=past)), Clock(30))
    assert order_of_work == ["now"]
    assert create_sweep_handler(runtime)({}, Clock(30))["summary"]["ready"] == {}


# -- Sweeps


def test_a_sweep_answers_with_its_summary(runtime: WorkflowRuntime, make_sqs_event: Callable[..., Any]):
    """The answer is the summary, small enough for a log; the results of runs only for debugging."""
    create_queue_handler(runtime)(make_sqs_event(start("m", "mail")), Clock(30))
    plain = create_sweep_handler(lambda: runtime)({}, Clock(30))
    assert plain["owner"] == "lambda:request-1" and "result" not in plain
    full = create_sweep_handler(runtime, max_duration=timedelta(seconds=5), include_sweep_result=True)({}, Clock(30))
    assert full["result"]["timers"] == []


def test_a_sweep_works_without_a_context(runtime: WorkflowRuntime):
    """In a test or a REPL there is no context: the sweep then takes its own time."""
    assert create_sweep_handler(runtime)({}, None)["deadline_reached"] is False


def test_an_event_made_by_hand(runtime: WorkflowRuntime):
    """What a person tries a function with has messages, and need not say that they are of SQS; another service's do."""
    handler = create_queue_handler(runtime)
    message = {"messageId": "m", "body": json.dumps(start("n"))}
    assert failures(handler({"Records": [message]}, Clock(30))) == []
    with pytest.raises(InvalidArgumentError, match="no event of SQS"):
        handler({"Records": [{**message, "eventSource": "aws:kinesis"}]}, Clock(30))


def test_handlers_refuse_events_of_another_kind(runtime: WorkflowRuntime, make_sqs_event: Callable[..., Any]):
    """A handler that is wired to the wrong thing says so: a sweep is never to be had at a URL without a secret."""
    sweep, queue = create_sweep_handler(runtime), create_queue_handler(runtime)
    http = create_http_handler(runtime, token="token")
    for handler, event in ((sweep, http_event()), (sweep, make_sqs_event()), (queue, {}), (http, {}), (http, None)):
        with pytest.raises(InvalidArgumentError):
            handler(event, Clock(30))


@pytest.mark.parametrize("token", [None, "", []])
def test_handlers_of_http_need_a_token(runtime: WorkflowRuntime, token: Any):
    """A handler that serves without a secret is not made."""
    for make in (create_handler, create_http_handler):
        with pytest.raises(InvalidArgumentError):
            make(runtime, token=token)


# -- HTTP


def test_a_base64_body_is_read(runtime: WorkflowRuntime):
    """A body that Lambda encoded is decoded, and one that pretends to be is refused as what it is."""
    body = json.dumps({"workflow_id": "note", "run_id": "n", "input": "é"}).encode()
    handler = create_handler(runtime, token="token")
    event = http_event("POST", body=base64.b64encode(body).decode(), isBase64Encoded=True)
    assert handler(event, Clock(30))["statusCode"] == 201
    odd = http_event("POST", body="{", isBase64Encoded=True)
    assert handler(odd, Clock(30))["statusCode"] == 400


def test_an_event_becomes_a_request():
    """Paths, queries, cookies, stages and headers arrive as they were sent."""
    event = http_event(
        path="/prod/runs/a%2Fb",
        rawQueryString="a=1&a=2",
        cookies=["x=1", "y=2"],
        requestContext={"stage": "prod"},
    )
    scope = request_of(event).scope()
    assert (scope["path"], scope["raw_path"], scope["root_path"]) == ("/prod/runs/a/b", b"/prod/runs/a%2Fb", "/prod")
    assert scope["query_string"] == b"a=1&a=2" and (b"cookie", b"x=1; y=2") in scope["headers"]
    assert request_of(http_event(path="/production", requestContext={"stage": "prod"})).root == ""
    assert request_of({"requestContext": {"http": {"method": "GET"}}}).path == "/"


def test_a_run_is_found_behind_a_stage(runtime: WorkflowRuntime):
    """An API with a named stage works, and its addresses hold the stage."""
    handler = create_handler(runtime, token="token")
    body = json.dumps({"workflow_id": "mail", "run_id": "a/b"})
    stage = {"stage": "prod"}
    started = handler(http_event("POST", "/prod/runs", body=body, requestContext=stage), Clock(30))
    assert started["headers"]["location"] == "/prod/runs/a%2Fb"
    shown = handler(http_event("GET", "/prod/runs/a%2Fb", requestContext=stage), Clock(30))
    assert json.loads(shown["body"])["run_id"] == "a/b"


def test_a_stream_is_whole_when_the_time_is_up(runtime: WorkflowRuntime, make_sqs_event: Callable[..., Any]):
    """A stream of events ends while there is time to answer; its reader comes back for the rest."""
    handler = create_handler(runtime, token="token")
    handler(make_sqs_event(start("m", "mail")), Clock(30))
    answer = handler(http_event("GET", "/runs/m/stream"), Clock(2.1))
    assert answer["statusCode"] == 200 and "event: SIGNAL_AWAITED" in answer["body"]
    assert answer["headers"]["content-type"].startswith("text/event-stream")
