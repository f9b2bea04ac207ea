"""The rules of the store suite itself: nobody overrides it, nothing in it is hidden, and it finds broken stores."""

from __future__ import annotations

import ast
import asyncio
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from workflow.core.records import ClaimedRun, LogRecord, NewRun, RunRecord
from workflow.runtime.contract import ExecutionStore
from workflow.runtime.memory import MemoryStore
from workflow.runtime.testing import broken_invariants, check_invariants
from workflow.runtime.testing.suite import ExecutionStoreSuite

NOW = datetime(2026, 1, 1, tzinfo=UTC)
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
    suite = set(dir(ExecutionStoreSuite)) - {"make_store", "reopen", "app_side", "model_examples"}
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


def test_the_model_test_tells_a_broken_store_by_the_operations_it_takes(tmp_path: Path) -> None:
    """A store that counts forced claims as recoveries is found, and told in a few operations."""

    class Miscounting(MemoryStore):
        async def claim_run(self, run_id: str, *args: Any, **options: Any) -> ClaimedRun | None:
            claimed = await super().claim_run(run_id, *args, **options)
            self._runs[run_id].recoveries += claimed is not None
            return claimed

    class TestMiscounting(ExecutionStoreSuite):
        def make_store(self, tmp_path: Path) -> ExecutionStore:
            return Miscounting()

    with pytest.raises(AssertionError, match="The store differs from the model in this") as found:
        TestMiscounting().test_any_operations_answer_as_the_model_does(tmp_path)
    told = str(found.value).splitlines()[1:]
    assert len(told) <= 4
    assert "Claim" in told[-1]


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        ({"due_at": None}, "nobody will ever find it"),
        ({"owner": "ann"}, "still owned by 'ann'"),
        ({"completed_at": NOW}, "completed at"),
        ({"status": "running"}, "running without a lease"),
        ({"status": "paused", "due_at": None}, "neither a time nor mail can wake it"),
        ({"status": "completed"}, "due again"),
        ({"created_at": NOW.replace(tzinfo=None)}, "created_at is not in UTC"),
        ({"recoveries": -1}, "recoveries is -1"),
    ],
)
def test_broken_invariants_are_named(broken: dict[str, Any], words: str) -> None:
    """Each way in which a row can be stuck, owned by nobody or otherwise wrong is told in words."""
    sound = RunRecord("r", "orders", None, "queued", "{}", NOW, NOW, NOW)
    assert broken_invariants(sound) == []
    assert words in "; ".join(broken_invariants(replace(sound, **broken)))


def test_check_invariants_names_the_run() -> None:
    """A gap in a log, and a due run that `next_due` does not know, are found in the store as a whole."""

    class Forgetful(MemoryStore):
        async def next_due(self, workflow_ids: object) -> None: ...

        async def read_log(self, run_id: str, *, after: int = -1, limit: int | None = None) -> list[LogRecord]:
            return [LogRecord(1, "{}")]

    async def scenario() -> None:
        store = Forgetful()
        await store.create_run(NewRun("r7", "orders", None, "{}", NOW), lease=None, now=NOW)
        await check_invariants(store)

    with pytest.raises(AssertionError, match="run 'r7': log_length is 0, and the log has the indexes") as found:
        asyncio.run(scenario())
    assert "next_due says None" in str(found.value)
