"""Miniflare's real D1, behind Cloudflare's REST API as it looks from outside."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest


def load_harness() -> ModuleType:
    path = Path(__file__).parent / "node" / "harness.py"
    spec = importlib.util.spec_from_file_location("cloudflare_harness", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def harness() -> ModuleType:
    """Node's side, or a skip that says what is absent."""
    module = load_harness()
    if reason := module.absence():
        pytest.skip(reason)
    return module


@pytest.fixture(scope="session")
def d1_url(harness: ModuleType) -> Iterator[str]:
    """The base URL of a REST API with the databases suite, empty and other: one server for the whole session."""
    with harness.d1_server() as url:
        yield url
