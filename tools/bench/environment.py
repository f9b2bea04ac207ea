"""The benchmark's own virtual environment: our packages from this tree, the peers and the tools from the index.

It is kept in the user's cache folder, and made anew when this tree is another one or requirements.txt changes. Nothing
of it is needed to develop or use Workflow for Python.
"""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path

import dev

__all__ = ["FOLDER", "cache", "ensure", "inside"]

FOLDER = Path(__file__).resolve().parent
_MEMBERS = ("workflow-core", "workflow-runtime", "workflow-store-sqlite", "workflow-store-postgres")


def cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "workflow-python-bench"


def _path() -> Path:
    digest = hashlib.sha256(str(dev.ROOT).encode() + sys.version.encode())
    digest.update((FOLDER / "requirements.txt").read_bytes())
    for member in _MEMBERS:
        digest.update((dev.ROOT / "packages" / member / "pyproject.toml").read_bytes())
    return cache() / f"venv-{digest.hexdigest()[:12]}"


def inside() -> bool:
    return Path(sys.prefix).resolve() == _path().resolve()


def ensure() -> str:
    """The interpreter of the environment, which is made first where it is missing."""
    found = dev.environment(None)
    venv = dev.Environment(_path(), found.base_python, found.version)
    if not venv.stamp.exists():
        venv.path.parent.mkdir(parents=True, exist_ok=True)
        venv.create()
        editables = [part for member in _MEMBERS for part in ("--editable", str(dev.ROOT / "packages" / member))]
        venv.pip_install(dev.build_requirements())
        # All in one resolution: a sibling must never be looked up in the index.
        venv.pip_install(["--no-build-isolation", *editables, "-r", str(FOLDER / "requirements.txt")])
        venv.stamp.write_text("{}", encoding="utf-8")
    return venv.python
