"""Node's side of the Cloudflare tests: installs what is pinned here, and starts it. Needs node 20 and npm.

Loaded by its path from the conftest.py of workflow-store-d1 and of workflow-cloudflare.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[3]
MODULES = HERE / "node_modules"
SITE = ROOT / ".cache" / "pyodide-site"
OLDEST_NODE = 20

PYODIDE_PIP = ["--only-binary", ":all:", "--platform", "pyemscripten_2026_0_wasm32", "--python-version", "3.14"]
PYODIDE_PIP += ["--implementation", "cp", "--abi", "cp314"]


def absence() -> str | None:
    """Why nothing of this can run here, or None."""
    if not shutil.which("node") or not shutil.which("npm"):
        return "node and npm are needed for the real D1 and Pyodide, and are not installed"
    version = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout.strip()
    if int(version.removeprefix("v").split(".")[0]) < OLDEST_NODE:
        return f"node {OLDEST_NODE} or newer is needed for the real D1 and Pyodide; this is {version}"
    return None


# -- Installing


def install_modules() -> None:
    """Miniflare and Pyodide, as package-lock.json pins them. Does nothing when they are there."""
    lock = HERE / "package-lock.json"
    with _installation(MODULES / ".stamp", lock.read_bytes()) as needed:
        if needed:
            # No package's own scripts: none of these needs them.
            _call("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", cwd=HERE)


def install_site() -> Path:
    """The wheels that a Python Worker would be deployed with, for Pyodide: a folder for `sys.path` there."""
    install_modules()
    wanted = HERE / "pyodide-requirements.txt"
    with _installation(SITE / ".stamp", wanted.read_bytes()) as needed:
        if needed:
            shutil.rmtree(SITE, ignore_errors=True)
            pip = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-deps"]
            _call(*pip, *PYODIDE_PIP, "--target", str(SITE), "-r", str(wanted))
    return SITE


@contextlib.contextmanager
def _installation(stamp: Path, content: bytes) -> Iterator[bool]:
    """Whether to install; one process at a time. The stamp is written last, so what was interrupted is done again."""
    import fcntl

    digest = hashlib.sha256(content).hexdigest()
    with open(HERE / "package.json", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        needed = not stamp.is_file() or stamp.read_text(encoding="utf-8") != digest
        yield needed
        if needed:
            stamp.write_text(digest, encoding="utf-8")


def _call(*command: str, cwd: Path | None = None) -> None:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"


# -- Running


@contextlib.contextmanager
def d1_server() -> Iterator[str]:
    """Cloudflare's REST API of D1 on this machine: its base URL. It has the databases suite, empty and other."""
    install_modules()
    command = ["node", str(HERE / "d1_server.mjs")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            assert line, "Miniflare did not start: see what it has written above"
            yield f"{json.loads(line)['url']}/client/v4"
        finally:
            process.communicate()  # ends its standard input, and waits


def run_in_pyodide(
    program: Path, arguments: str = "", *, extra: Sequence[Path] = (), timeout: float = 110
) -> list[str]:
    """Run a program as a Python Worker would be run, and give the lines that it printed. See pyodide_host.mjs."""
    paths = [str(path) for path in (install_site(), *sources(), *extra)]
    command = ["node", str(HERE / "pyodide_host.mjs"), str(program), arguments, *paths]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            printed, errors = process.communicate(timeout=timeout)
        finally:
            process.terminate()  # if it is still there: so that it takes workerd along
    assert process.returncode == 0, f"{program.name} failed under Pyodide\n{printed}{errors}"
    return printed.splitlines()


def sources() -> list[Path]:
    """The folders to put on `sys.path`: of everything that a Python Worker uses of this tree."""
    names = ("core", "runtime", "store-sqlite", "store-d1", "cloudflare")
    return [path for name in names if (path := ROOT / "packages" / f"workflow-{name}" / "src").is_dir()]
