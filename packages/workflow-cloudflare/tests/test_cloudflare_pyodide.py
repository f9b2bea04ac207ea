"""A Worker under real Pyodide: Cloudflare's SDK, Miniflare's D1, pydantic's wasm wheel, and the example."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

HERE = Path(__file__).parent
PROGRAM = HERE / "worker_program.py"
EXAMPLE = HERE.parent / "examples" / "worker"
NAMES = re.findall(r"(?m)^async def (test_\w+)\(", PROGRAM.read_text(encoding="utf-8"))

# It begins with Pyodide, which takes its time on a busy machine.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def outcomes(harness: ModuleType, request: pytest.FixtureRequest) -> dict[str, dict[str, Any]]:
    """What came of each test in the program. Prints the versions in use."""
    lines = harness.run_in_pyodide(PROGRAM, extra=[EXAMPLE / "src"], timeout=290)
    answer = json.loads(lines[-1])
    capture: Any = request.config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        print("\n" + ", ".join(f"{name} {version}" for name, version in answer["versions"].items()))
    return answer["outcomes"]


@pytest.mark.parametrize("name", NAMES)
def test_a_worker(outcomes: dict[str, dict[str, Any]], name: str) -> None:
    """The Worker starts, pauses, wakes and ends runs on the Python that workerd runs."""
    assert outcomes[name]["passed"], outcomes[name]["found"]
