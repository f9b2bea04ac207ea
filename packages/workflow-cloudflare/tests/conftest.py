"""Node's side of the tests: Pyodide and Miniflare, which the tests of workflow-store-d1 install and start."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

HARNESS = Path(__file__).parents[2] / "workflow-store-d1" / "tests" / "node" / "harness.py"


def load(name: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def harness() -> ModuleType:
    """Node's side, or a skip that says what is absent."""
    module = load("cloudflare_harness", HARNESS)
    if reason := module.absence():
        pytest.skip(reason)
    return module


@pytest.fixture(scope="session")
def round_trips() -> ModuleType:
    """The script that counts calls."""
    return load("cloudflare_round_trips", Path(__file__).parent / "round_trips.py")
