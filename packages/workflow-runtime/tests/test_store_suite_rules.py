"""The rules of the store suite itself: nobody overrides it, nothing in it is hidden, and it finds broken stores."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from workflow.runtime.contract import ExecutionStore
from workflow.runtime.memory import MemoryStore
from workflow.runtime.testing.suite import ExecutionStoreSuite

PACKAGES = Path(__file__).parents[2]
PARTS = [part for part in ExecutionStoreSuite.__mro__ if part.__module__.startswith("workflow.runtime.testing")]


def own_tests(part: type) -> list[str]:
    return [name for name in vars(part) if name.startswith("test_")]


def test_no_part_of_the_suite_hides_a_test_of_another() -> None:
    """Test names are unique over all parts: of two tests of one name only one would run."""
    counted = Counter(name for part in PARTS for name in own_tests(part))
    assert [name for name, times in counted.items() if times > 1] == []
    assert len(counted) > 100


def test_each_test_of_the_suite_says_what_it_promises() -> None:
    """Every test has a sentence of its own, for whoever sees it fail."""
    sentences = Counter(getattr(ExecutionStoreSuite, name).__doc__ for part in PARTS for name in own_tests(part))
    assert None not in sentences
    assert set(sentences.values()) == {1}
    assert [sentence for sentence in sentences if not sentence.endswith(".")] == []


def test_nobody_overrides_a_test_of_the_suite() -> None:
    """A subclass that replaces, disables or mixes over a test can't even be defined."""

    class Helpful:
        def test_claim_of_nothing(self) -> None: ...

    with pytest.raises(TypeError, match="overrides test_claim_of_nothing"):
        type("TestReplaced", (ExecutionStoreSuite,), {"test_claim_of_nothing": lambda self: None})
    with pytest.raises(TypeError, match="overrides test_claim_of_nothing"):
        type("TestDisabled", (ExecutionStoreSuite,), {"test_claim_of_nothing": None})
    with pytest.raises(TypeError, match="overrides test_claim_of_nothing"):
        type("TestMixed", (Helpful, ExecutionStoreSuite), {})


def test_a_subclass_may_add_tests_and_settings() -> None:
    """What is not in the suite can be added to it."""
    added = type("TestMore", (ExecutionStoreSuite,), {"test_of_my_own": lambda self: None, "model_examples": 5})
    assert issubclass(added, ExecutionStoreSuite)


def test_no_store_of_this_repository_weakens_the_suite() -> None:
    """The classes that run the suite in this repository override nothing but the setup."""
    suite = set(dir(ExecutionStoreSuite)) - {"make_store", "reopen", "model_examples"}
    users = [user for path in PACKAGES.glob("*/tests/**/test_*.py") for user in users_of_the_suite(path)]
    assert "TestMemoryStore" in [user.name for user in users]
    for user in users:
        defined = {node.name for node in user.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
        assert defined & suite == set(), user.name


def users_of_the_suite(path: Path) -> list[ast.ClassDef]:
    classes = [node for node in ast.parse(path.read_text("utf-8")).body if isinstance(node, ast.ClassDef)]
    return [node for node in classes if "ExecutionStoreSuite" in [ast.unparse(base) for base in node.bases]]


def test_a_suite_without_a_store_says_what_is_missing(tmp_path: Path) -> None:
    """Who forgets the one line of setup is told which line."""
    with pytest.raises(NotImplementedError, match="TestNothing must override make_store"):
        type("TestNothing", (ExecutionStoreSuite,), {})().test_claim_of_nothing(tmp_path)


def test_a_shared_store_must_offer_a_second_handle(tmp_path: Path) -> None:
    """A store that claims to be shared is not let off the tests of it."""

    class Boastful(MemoryStore):
        capabilities = ExecutionStore.capabilities

    class TestBoastful(ExecutionStoreSuite):
        def make_store(self, tmp_path: Path) -> ExecutionStore:
            return Boastful()

    with pytest.raises(NotImplementedError, match="must override reopen"):
        TestBoastful().test_handles_see_each_other(tmp_path)


def test_the_testing_package_needs_no_test_library() -> None:
    """Clock, crashing store and time skipping can be imported where neither pytest nor hypothesis is."""
    program = (
        "import sys; sys.modules['pytest'] = sys.modules['hypothesis'] = None\n"
        "from workflow.runtime.testing import CrashingStore, TestClock, check_invariants, skip_time\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
