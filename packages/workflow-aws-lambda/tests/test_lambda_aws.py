"""Exact wake-ups and queues, against moto's EventBridge Scheduler and SQS."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from workflow.aws_lambda import EventBridgeWaker, SQSDispatcher, create_queue_handler
from workflow.core import Context, InvalidArgumentError, PayloadError, create_workflow
from workflow.core.events import ApprovalRequested, RunFinished, SignalAwaited, StepRetrying, TimerStarted
from workflow.runtime import MemoryStore, WorkflowRuntime

FUNCTION = "arn:aws:lambda:eu-central-1:123456789012:function:shop"
ROLE = "arn:aws:iam::123456789012:role/waker"


@create_workflow(id="nap")
async def nap(ctx: Context[Any]) -> str:
    await asyncio.gather(*(ctx.sleep(timedelta(hours=hours), id=f"s{hours}") for hours in (1, 2)))
    return "awake"


@create_workflow(id="echo")
async def echo(ctx: Context[Any]) -> Any:
    return ctx.input


@pytest.fixture
def aws_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("boto3")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")


@pytest.fixture
def aws(aws_credentials: None) -> Iterator[Any]:
    """boto3, whose calls go to moto."""
    boto3 = pytest.importorskip("boto3")
    moto = pytest.importorskip("moto")
    with moto.mock_aws():
        yield boto3


def schedules(aws: Any) -> list[Any]:
    client = aws.client("scheduler")
    names = [item["Name"] for item in client.list_schedules()["Schedules"]]
    return sorted((client.get_schedule(Name=name) for name in names), key=lambda item: item["ScheduleExpression"])


# -- The waker


def test_a_run_that_sleeps_is_woken_at_its_time(aws: Any):
    """Each time for which a run waits has a one-shot schedule that invokes the function and is deleted then."""
    waker = EventBridgeWaker(target_arn=FUNCTION, role_arn=ROLE)
    runtime = WorkflowRuntime(MemoryStore(), [nap], publish=waker)
    before = datetime.now(UTC)
    result = asyncio.run(runtime.start_run("nap", run_id="n"))
    assert result.kind == "paused" and result.run is not None and result.run.due_at is not None
    first, second = schedules(aws)
    at = datetime.strptime(first["ScheduleExpression"], "at(%Y-%m-%dT%H:%M:%S)").replace(tzinfo=UTC)
    assert before + timedelta(hours=1) <= at < result.run.due_at + timedelta(seconds=1)
    assert at >= result.run.due_at
    assert first["ActionAfterCompletion"] == "DELETE" and first["Target"]["Arn"] == FUNCTION
    assert first["FlexibleTimeWindow"] == {"Mode": "OFF"} and first["ScheduleExpressionTimezone"] == "UTC"
    assert json.loads(first["Target"]["Input"])["source"] == "workflow.waker"
    assert second["ScheduleExpression"] > first["ScheduleExpression"]


def test_runs_that_are_due_at_one_time_share_a_schedule(aws: Any):
    """A moment has one schedule, whichever process asks for it, and however often."""
    due = datetime.now(UTC) + timedelta(hours=1)
    event = TimerStarted(id="t", due_at=due, at=due)
    for _ in range(2):
        waker = EventBridgeWaker(target_arn=FUNCTION, role_arn=ROLE)
        for _ in range(2):
            asyncio.run(waker(event))
            assert asyncio.run(waker.wake_at(due)) is True
    assert len(schedules(aws)) == 1
    name = schedules(aws)[0]["Name"]
    assert len(name) <= 64 and name.startswith("workflow-")


@pytest.mark.parametrize(
    ("make", "count"),
    [
        (lambda at, due: SignalAwaited(id="a", name="n", until=due, at=at), 1),
        (lambda at, due: ApprovalRequested(id="a", title="t", until=due, at=at), 1),
        (lambda at, due: StepRetrying(id="a", retry_at=due, at=at), 1),
        (lambda at, due: SignalAwaited(id="a", name="n", at=at), 0),
        (lambda at, due: RunFinished(at=at), 0),
        (lambda at, due: TimerStarted(id="a", due_at=at + timedelta(seconds=5), at=at), 0),
        (lambda at, due: TimerStarted(id="a", due_at=at - timedelta(days=1), at=at), 0),
    ],
)
def test_only_what_waits_for_a_later_time_makes_a_schedule(aws: Any, make: Callable[..., Any], count: int):
    """Timeouts and late retries are woken as well; what is due soon, or never, is not."""
    at = datetime.now(UTC)
    asyncio.run(EventBridgeWaker(target_arn=FUNCTION, role_arn=ROLE)(make(at, at + timedelta(hours=1))))
    assert len(schedules(aws)) == count


def test_a_waker_that_fails_hurts_no_run(aws: Any, caplog: pytest.LogCaptureFixture):
    """Without its schedule group, its rights or a network, runs go on, and the periodic sweep finds them."""
    waker = EventBridgeWaker(target_arn=FUNCTION, role_arn=ROLE, group="no-such-group")
    runtime = WorkflowRuntime(MemoryStore(), [nap], publish=waker)
    assert asyncio.run(runtime.start_run("nap")).kind == "paused"
    assert schedules(aws) == [] and "the periodic sweep does it, later" in caplog.text


def test_a_network_without_a_way_to_aws_holds_no_run_up(
    aws_credentials: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    """In a VPC without an endpoint nobody answers: the waker gives up in time, and asks no more for a while."""
    silent = socket.create_server(("127.0.0.1", 0))  # takes connections, and says nothing
    monkeypatch.setenv("AWS_ENDPOINT_URL_SCHEDULER", f"http://127.0.0.1:{silent.getsockname()[1]}")
    waker = EventBridgeWaker(target_arn=FUNCTION, role_arn=ROLE, timeout=0.5)
    runtime = WorkflowRuntime(MemoryStore(), [nap], publish=waker)
    took: list[float] = []

    async def work() -> None:
        try:
            for _ in range(3):
                started = time.monotonic()
                assert (await runtime.start_run("nap")).kind == "paused"
                took.append(time.monotonic() - started)
        finally:
            silent.close()  # or the thread that still waits for an answer would hold the test up

    asyncio.run(work())
    assert took[0] < 5 and max(took[1:]) < 0.5 <= took[0]
    assert "no answer within 0.5 s" in caplog.text


def test_a_waker_hands_events_on(aws: Any):
    """The app's own publisher, sync or async, gets every event as well."""
    seen: list[str] = []

    async def later(event: Any) -> None:
        seen.append(event.type)

    for forward in (later, lambda event: seen.append(event.type)):
        waker = EventBridgeWaker(target_arn=FUNCTION, role_arn=ROLE, forward=forward)
        asyncio.run(waker(RunFinished(at=datetime.now(UTC))))
    assert seen == ["RUN_FINISHED", "RUN_FINISHED"]


@pytest.mark.parametrize("empty", ["target_arn", "role_arn", "group"])
def test_a_waker_without_its_target_is_not_made(empty: str):
    """A variable of the environment that was forgotten is an error at the start."""
    settings: dict[str, Any] = {"target_arn": FUNCTION, "role_arn": ROLE, "group": "g", empty: ""}
    with pytest.raises(InvalidArgumentError, match=empty):
        EventBridgeWaker(**settings)


# -- The dispatcher


def received(sqs: Any, url: str) -> dict[str, Any]:
    """What Lambda would hand to a function of what is in a queue."""
    names = ["MessageGroupId", "MessageDeduplicationId"]
    answer = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, AttributeNames=names)
    return {
        "Records": [
            {
                "messageId": item["MessageId"],
                "body": item["Body"],
                "eventSource": "aws:sqs",
                "attributes": item.get("Attributes", {}),
            }
            for item in answer.get("Messages", [])
        ]
    }


@pytest.mark.parametrize("fifo", [False, True])
def test_what_is_dispatched_is_done_by_the_handler(aws: Any, fifo: bool):
    """Starts and deliveries go through a queue, of either kind, to the function that does them."""
    sqs = aws.client("sqs")
    attributes = {"FifoQueue": "true"} if fifo else {}
    url = sqs.create_queue(QueueName="work.fifo" if fifo else "work", Attributes=attributes)["QueueUrl"]
    dispatcher = SQSDispatcher(url)
    runtime = WorkflowRuntime(MemoryStore(), [nap, echo])
    handler = create_queue_handler(runtime)

    async def send() -> str:
        made = await dispatcher.start_run("echo", input={"x": [1, "é"]})
        await dispatcher.start_run("nap", run_id="n" * 300)
        await dispatcher.deliver_signal(run_id="n" * 300, signal_id="s", name="x")
        await dispatcher.deliver_approval(run_id="n" * 300, approval_id="a", approved=False, meta={"by": "me"})
        await dispatcher.cancel_run("n" * 300, reason="enough")
        return made

    run_id = asyncio.run(send())
    while (event := received(sqs, url))["Records"]:
        assert handler(event, None) == {"batchItemFailures": []}
        if fifo:
            assert all(record["attributes"]["MessageGroupId"] for record in event["Records"])
            break
    run = asyncio.run(runtime.get_run(run_id))
    assert run is not None and run.output == {"x": [1, "é"]}
    napping = asyncio.run(runtime.get_run("n" * 300))
    assert napping is not None and napping.status == "cancelled"


def test_a_fifo_queue_drops_a_repeated_start(aws: Any):
    """The same start, sent twice within five minutes, is one message; another run's is another."""
    sqs = aws.client("sqs")
    url = sqs.create_queue(QueueName="work.fifo", Attributes={"FifoQueue": "true"})["QueueUrl"]
    dispatcher = SQSDispatcher(url, client=sqs)
    for run_id in ("a", "a", "b"):
        asyncio.run(dispatcher.start_run("echo", run_id=run_id))
    count = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["ApproximateNumberOfMessages"])
    assert count["Attributes"]["ApproximateNumberOfMessages"] == "2"


class Recorder:
    """A client that keeps what it was asked to send."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []

    def send_message(self, **request: Any) -> None:
        self.sent.append(request)


@pytest.mark.parametrize(("delay", "seconds"), [(0, None), (10.5, 12), (86400, 900)])
def test_a_delay_is_waited_for_by_sqs_as_far_as_it_can(delay: float, seconds: int | None):
    """A short delay is SQS's own; a longer one is in the message as well, for the runtime to wait for the rest."""
    client = Recorder()
    asyncio.run(SQSDispatcher("https://sqs/work", client=client).start_run("echo", delay=delay))
    assert client.sent[0].get("DelaySeconds") == seconds
    assert (json.loads(client.sent[0]["MessageBody"])["not_before"] is None) == (seconds is None)


def test_what_sqs_could_not_take_is_refused_before(aws: Any):
    """A message that is too large, a bad id or a value that is no JSON is an error where it is sent."""
    dispatcher = SQSDispatcher("https://sqs/work", client=Recorder())
    with pytest.raises(PayloadError, match="reference"):
        asyncio.run(dispatcher.start_run("echo", input="é" * 140_000))
    with pytest.raises(PayloadError):
        asyncio.run(dispatcher.deliver_signal(run_id="r", signal_id="s", name="n", payload={1: object()}))
    for send in (
        lambda: dispatcher.start_run("echo", run_id="a\nb"),
        lambda: dispatcher.deliver_signal(run_id="r", signal_id="", name="n"),
        lambda: dispatcher.deliver_approval(run_id="r", approval_id="", approved=True),
        lambda: dispatcher.cancel_run(""),
    ):
        with pytest.raises(InvalidArgumentError):
            asyncio.run(send())
    with pytest.raises(InvalidArgumentError, match="queue_url"):
        SQSDispatcher("")


def test_an_error_of_sqs_is_the_senders_to_know(aws: Any):
    """When a message could not be sent, the sender is told."""
    missing = "https://sqs.eu-central-1.amazonaws.com/123456789012/none"
    with pytest.raises(Exception, match="does not exist"):
        asyncio.run(SQSDispatcher(missing).start_run("echo"))


def test_handlers_start_without_boto3():
    """A function that needs neither waker nor dispatcher does not wait for boto3, nor needs it."""
    program = (
        "import sys; sys.modules['boto3'] = None\n"
        "import workflow.aws_lambda as host\n"
        "assert not {'botocore', 'workflow.runtime.http'} & set(sys.modules)\n"
        "import asyncio\n"
        "try: asyncio.run(host.SQSDispatcher('url').start_run('w'))\n"
        "except ModuleNotFoundError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "workflow-aws-lambda[aws]" in done.stdout
