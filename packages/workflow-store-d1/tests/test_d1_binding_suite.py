"""The suite that every store passes, on Miniflare's real D1, by a Worker's binding under Pyodide."""

from __future__ import annotations

import json
from types import ModuleType
from typing import Any

import pytest

from workflow.runtime.testing.suite import ExecutionStoreSuite
from workflow.runtime.testing.suite.committing import CommittingSuite
from workflow.runtime.testing.suite.creating import CreatingSuite
from workflow.runtime.testing.suite.delivering import DeliveringSuite
from workflow.runtime.testing.suite.listing import ListingSuite
from workflow.runtime.testing.suite.values import ValuesSuite

# It begins with Pyodide, and then has some thousand calls to make, in one go.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def names_of(*suites: type) -> list[str]:
    return sorted({name for suite in suites for name in dir(suite) if name.startswith("test_")})


# All of it as Cloudflare's SDK wraps the binding, where a second handle is a plain one; and by a plain one alone what
# has to do with values, of which a plain binding makes others.
TESTS = [("wrapped", name) for name in names_of(ExecutionStoreSuite)]
TESTS += [
    ("raw", name) for name in names_of(CommittingSuite, CreatingSuite, DeliveringSuite, ListingSuite, ValuesSuite)
]


def arguments_of(name: str) -> list[dict[str, Any]]:
    """What pytest would call this test of the suite with, one after the other."""
    for mark in getattr(getattr(ExecutionStoreSuite, name), "pytestmark", []):
        assert mark.name == "parametrize", mark
        argument, values = mark.args
        return [{argument: value} for value in values]
    return [{}]


@pytest.fixture(scope="module")
def outcomes(harness: ModuleType) -> dict[tuple[str, str], list[str]]:
    """What came of each test."""
    cases = [(form, name, arguments) for form, name in TESTS for arguments in arguments_of(name)]
    *_, answer = harness.run_in_pyodide(harness.HERE / "store_suite.py", json.dumps(cases), timeout=590)
    found: dict[tuple[str, str], list[str]] = {}
    for (form, name, _), outcome in zip(cases, json.loads(answer), strict=True):
        found.setdefault((form, name), []).append(outcome)
    return found


@pytest.mark.parametrize(("form", "name"), TESTS)
def test_the_store_by_a_binding(outcomes: dict[tuple[str, str], list[str]], form: str, name: str) -> None:
    """The store keeps the whole contract by a Worker's binding."""
    for outcome in outcomes[form, name]:
        if outcome.startswith("skipped"):
            pytest.skip(outcome.removeprefix("skipped: "))
        assert outcome == "passed"
