"""The model test: any list of operations, asked of the store and of `MemoryStore`, is answered alike.

After each operation the rows, logs and inboxes are the same, and the invariants of the contract hold. Operations are
drawn by hypothesis, and repeated at times, as a caller does who lost the answer. A list that fails is shortened to what
it takes, and the lists are the same in every run.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Any, cast

import pytest

from workflow.core.errors import WorkflowError
from workflow.core.records import ClaimedRun, CreatedRun, Delivered, RunRecord
from workflow.runtime.contract import ExecutionStore, Renewal
from workflow.runtime.memory import MemoryStore
from workflow.runtime.testing.invariants import check_invariants

from .harness import StoreSuite
from .operations import Call, Operation, Script
from .samples import Snapshot, snapshot

__all__ = ["ModelSuite"]


class ModelSuite(StoreSuite):
    def test_any_operations_answer_as_the_model_does(self, tmp_path: Path) -> None:
        """Whatever is asked in whatever order: answers and contents are those of the reference, invariants hold."""
        hypothesis = pytest.importorskip("hypothesis", reason="the model test needs hypothesis")
        from .scripts import scripts

        folders = (tmp_path / f"example-{number}" for number in count())

        def check(script: Script) -> None:
            if self._difference(script, next(folders)) is not None:
                shortest = _shortened(script, lambda shorter: self._difference(shorter, next(folders)) is not None)
                raise AssertionError(_told(shortest)) from self._difference(shortest, next(folders))

        settings = hypothesis.settings(
            max_examples=self.model_examples,
            derandomize=True,
            database=None,
            deadline=None,
            report_multiple_bugs=False,
            # Hypothesis would try thousands of shorter ones, each on a new store: see `_shortened`.
            phases=[hypothesis.Phase.generate],
            suppress_health_check=list(hypothesis.HealthCheck),
        )
        settings(hypothesis.given(script=scripts())(check))()

    def _difference(self, script: Script, folder: Path) -> Exception | None:
        """How the store fails this script on fresh data, if it does."""
        folder.mkdir()
        try:
            asyncio.run(self._compare(script, folder))
        except Exception as error:
            return error
        return None

    async def _compare(self, script: Script, folder: Path) -> None:
        async with self.opened(folder) as store:
            pair = _Pair(store)
            for seconds, twice, operation in script:
                pair.now += seconds
                if operation.needs is not None and not getattr(store.capabilities, operation.needs):
                    continue
                call = operation.call(pair.seen.rows, pair.now)
                for _ in range(2 if twice else 1):
                    await pair.ask(call, operation)


def _shortened(script: Script, fails: Callable[[Script], bool]) -> Script:
    """The script without every operation that it fails without, from the last to the first."""
    for position in reversed(range(len(script))):
        shorter = [*script[:position], *script[position + 1 :]]
        if fails(shorter):
            script = shorter
    return script


def _told(script: Script) -> str:
    lines = [f"after {seconds} s{', twice' * twice}: {operation}" for seconds, twice, operation in script]
    return "The store differs from the model in this:\n" + "\n".join(lines)


@dataclass
class _Pair:
    """The store under test and its model, always asked the same."""

    store: ExecutionStore
    model: MemoryStore = field(default_factory=MemoryStore)
    seen: Snapshot = field(default_factory=lambda: Snapshot({}, {}, {}))
    now: int = 0

    async def ask(self, call: Call, operation: Operation) -> None:
        expected, answer = await _outcome(call, self.model), await _outcome(call, self.store)
        assert answer == expected, f"another answer to {operation}"
        await check_invariants(self.store)
        self.seen = await snapshot(self.model)
        assert _comparable(await snapshot(self.store)) == _comparable(self.seen), f"other contents after {operation}"


async def _outcome(call: Call, store: ExecutionStore) -> Any:
    """The answer, or the kind of refusal, in a form in which two stores can be compared."""
    try:
        return _plain(await call(store))
    except WorkflowError as error:
        return type(error).__name__


def _comparable(contents: Snapshot) -> Snapshot:
    return replace(contents, rows={run_id: _plain(row) for run_id, row in contents.rows.items()})


def _plain(value: Any) -> Any:
    """The same without what the contract leaves open: `updated_at`, kinds of sequences, the order of sets of runs."""
    match value:
        case RunRecord():
            return replace(value, updated_at=value.created_at)
        case ClaimedRun():
            return replace(value, run=_plain(value.run), log=tuple(value.log), mail=tuple(value.mail))
        case CreatedRun():
            return replace(value, run=_plain(value.run), claimed=_plain(value.claimed))
        case Delivered():
            awaited = value.outcome == "accepted" and value.awaited
            return replace(value, run=_plain(value.run), awaited=awaited, claimed=_plain(value.claimed))
        case list() | tuple():
            return _plain_sequence(cast("Sequence[Any]", value))
        case _:
            return value


def _plain_sequence(values: Sequence[Any]) -> list[Any]:
    plain = [_plain(value) for value in values]
    if plain and isinstance(plain[0], ClaimedRun):
        return sorted(plain, key=lambda claimed: claimed.run.run_id)
    return sorted(plain, key=lambda renewal: renewal.run_id) if plain and isinstance(plain[0], Renewal) else plain
