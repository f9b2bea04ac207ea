"""docs/deploy/aws-lambda.md, followed line by line."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from guides import Guide, Reader, base_python, needs_of, quotes, third_party

GUIDE = Guide("aws-lambda")
EXAMPLES = Path(__file__).parent.parent / "examples"


def test_the_guide_quotes_the_example():
    """What the guide shows of the app and the module is in the files that it has the reader copy."""
    ours = quotes(GUIDE, "python", EXAMPLES / "app.py")
    # What another app does to send messages, which test_lambda_aws.py runs.
    assert len(ours) == 1 and "dispatcher = SQSDispatcher(queue_url)" in ours[0]
    (module,) = GUIDE.blocks("hcl")
    variables = (EXAMPLES / "terraform" / "main.tf").read_text()
    for name in ("name", "package", "secret_name"):
        assert f"{name} " in module and f'variable "{name}"' in variables


def test_the_snippet_of_the_dispatcher_runs():
    """The messages that the guide sends by `SQSDispatcher` are ones that it can send."""
    import asyncio
    import textwrap

    import workflow.aws_lambda

    (snippet,) = [block for block in GUIDE.blocks("python") if "SQSDispatcher" in block]
    sent: list[dict[str, Any]] = []

    class Queue:
        def send_message(self, **request: Any) -> None:
            sent.append(json.loads(request["MessageBody"]))

    body = snippet.replace("SQSDispatcher(queue_url)", "SQSDispatcher(queue_url, client=client)")
    program = f"async def snippet(queue_url, client):\n{textwrap.indent(body, '    ')}"
    names: dict[str, Any] = {"workflow": workflow}
    exec(program, names)
    asyncio.run(names["snippet"]("https://sqs/work", Queue()))
    assert [message["type"] for message in sent] == ["start", "signal"]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_guide_leads_to_a_function_that_works(
    tmp_path: Path, postgres_url: str, start_function: Callable[..., Any]
):
    """Its commands make a folder that Lambda's runtime client runs with nothing else, and its requests are answered."""
    links = third_party(sys.executable, *needs_of("workflow-aws-lambda", "workflow-store-postgres"))
    reader = Reader(GUIDE, tmp_path, links=[links], env={"DATABASE_URL": postgres_url})
    # Lambda's Python is newer than the one of these tests may be.
    version = ".".join(map(str, sys.version_info[:2]))
    reader.replace = {"--python-version 3.13": f"--python-version {version}"}
    reader.follow(until="curl", env={"URL": ""})
    secret = next(line for line in reader.calls.read_text().splitlines() if line.startswith("aws secretsmanager"))
    token = (reader.place / "token.txt").read_text().strip()
    assert token in secret and "sam deploy --stack-name shop" in reader.calls.read_text()
    function = start_function(
        folder=reader.place / "build",
        python=(base_python(), "-S"),  # without the packages of this environment
        DATABASE_URL=postgres_url,
        WORKFLOW_TOKEN=token,
        PYTHONPATH=f"{reader.place / 'build'}:{runtime_client(tmp_path)}",
    )
    with front(function) as url:
        reader.env["URL"] = url
        started, paid, shown = (json.loads(reader.step()) for _ in range(3))
    assert (started["kind"], paid["kind"], shown["output"]) == ("paused", "completed", "p1")
    swept = function.invoke({}).value
    assert swept.get("summary", {}).get("ready") == {}, swept


def runtime_client(folder: Path) -> Path:
    """AWS's runtime client by itself, as Lambda's image has it beside the function's own packages."""
    target = folder / "client"
    target.mkdir()
    for name in ("awslambdaric", "simplejson", "snapshot-restore-py"):
        for path in importlib.metadata.files(name) or []:
            top, place = path.parts[0], Path(str(path.locate()))
            wanted = top not in ("..", "__pycache__") and not top.endswith(".dist-info")
            if wanted and not (target / top).exists():
                (target / top).symlink_to(place.parents[len(path.parts) - 2] if len(path.parts) > 1 else place)
    return target


@contextlib.contextmanager
def front(function: Any) -> Iterator[str]:
    """The address of a function: requests become events, as a Function URL does it."""

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            body = json.loads(self.rfile.read(length)) if length else None
            token = self.headers.get("Authorization", "").removeprefix("Bearer ")
            answer = function.http(self.command, self.path, body, token=token).value
            self.send_response(answer["statusCode"])
            self.end_headers()
            self.wfile.write(answer["body"].encode())

        do_GET = do_POST = answer  # noqa: N815

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
