"""What importing `workflow.core` costs and brings in."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import workflow.core as core

HEAVY = [
    *("jsonpatch", "jsonpointer", "opentelemetry", "sqlite3", "sqlalchemy", "asyncpg", "multiprocessing", "boto3"),
    *(
        "concurrent.futures.thread",
        "concurrent.futures.process",
        "http",
        "urllib.request",
        "unittest",
        "pickle",
        "email",
    ),
    *("workflow.runtime", "workflow.store"),
]

BASE = "import asyncio, contextvars, dataclasses, inspect, logging, uuid, pydantic, typing_extensions\n" + (
    "from pydantic import BaseModel, ConfigDict, Field, TypeAdapter\nclass M(BaseModel):\n    x: int = 1\n"
)


def run(program: str) -> str:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return done.stdout


def test_nothing_heavy_is_imported() -> None:
    """Beyond asyncio and pydantic, nothing but ourselves: what a drive may need is imported when it does."""
    program = BASE + (
        "import json, sys\nbefore = set(sys.modules)\nimport workflow.core\n"
        "print(json.dumps(sorted(set(sys.modules) - before)))"
    )
    added: list[str] = json.loads(run(program))
    foreign = [name for name in added if name.partition(".")[0] != "workflow"]
    assert [name for name in foreign if not name.startswith(("pydantic", "typing_extensions"))] == []
    assert not [name for name in added if name.startswith(tuple(HEAVY))]


def test_no_threads_and_no_sockets_at_import() -> None:
    """The package imports where there are none (Pyodide)."""
    program = (
        "import asyncio, pydantic, socket, threading\n"
        "def no(*a, **k): raise OSError('no sockets here')\n"
        "socket.socket = no\nthreading.Thread.start = no\n"
        "import workflow.core\nprint('fine')"
    )
    assert run(program).strip() == "fine"


def test_events_are_built_when_they_are_needed() -> None:
    """Pydantic's validators for the events are most of what an import could cost: it makes none of them."""
    program = (
        "from workflow.core.events import *\nimport workflow.core.events as events\nimport workflow.core\n"
        "built = [n for n in events.__all__ if getattr(getattr(events, n), '__pydantic_complete__', False)]\n"
        "print(built)\n"
        "from datetime import datetime, UTC\nprint(TimerFired(at=datetime.now(UTC), id='t').id)"
    )
    built, used = run(program).splitlines()
    assert used == "t"
    assert built in ("[]", "['ErrorInfo']")


def test_all_names_are_there() -> None:
    """`__all__` is what DESIGN names, sorted, and each name exists."""
    assert sorted(core.__all__) == core.__all__
    assert all(hasattr(core, name) for name in core.__all__)
    public = {"Context", "Retry", "RetryAfter", "create_workflow", "current_step", "middleware", "run_workflow"}
    assert public | {"InMemoryRunStore", "Approval", "Workflow", "WorkflowEvent", "WorkflowError"} <= set(core.__all__)


@pytest.mark.parametrize("name", sorted(set(core.__all__) - {"WorkflowEvent", "event_adapter"}))
def test_public_names_are_documented(name: str) -> None:
    """Each has a docstring of its own."""
    doc = getattr(core, name).__doc__
    assert doc and not doc.startswith(f"{name}(")


def test_the_readme_runs() -> None:
    """The first program that a newcomer copies prints what its comments say."""
    readme = (Path(__file__).parents[1] / "README.md").read_text()
    program = readme.partition("```python\n")[2].partition("```")[0]
    assert run(program).split() == re.findall(r"[A-Z]+_[A-Z]+", "".join(re.findall(r"#(.*)", program)))
