"""The suite that every store passes: `ExecutionStoreSuite`. Ours do, and yours does, with one line of setup:

    from workflow.runtime.testing.suite import ExecutionStoreSuite

    class TestMyStore(ExecutionStoreSuite):
        def make_store(self, tmp_path):
            return MyStore(tmp_path / "runs.db")        # fresh, empty data of its own

        def reopen(self, store, tmp_path):              # if it is shared or durable, as most are
            return MyStore(tmp_path / "runs.db")        # another handle on the data of `store`

Both may be `async def`, or async context managers (`@asynccontextmanager`) that clean up, say, drop a schema. The suite
calls `migrate()` on a made store and `close()` on each. Every test runs on a loop of its own by `asyncio.run`. A store
that shares transactions with apps also overrides `app_side`.

What a store can do beyond the contract it says in `ExecutionStore.capabilities`; what it doesn't claim is skipped, with
the reason. No test can be overridden: a store passes the suite or it doesn't. `model_examples` says how long the model
test tries. pytest is needed; the model test needs hypothesis as well, and is skipped without it.
"""

from __future__ import annotations

from typing import Any

import pytest

_PARTS = (
    "apps",
    "claiming",
    "committing",
    "crashing",
    "creating",
    "delivering",
    "harness",
    "joining",
    "lifecycle",
    "listing",
    "model",
    "operations",
    "purging",
    "queueing",
    "racing",
    "renewing",
    "reopening",
    "repeating",
    "samples",
    "scheduling",
    "sweeping",
    "transacting",
    "values",
)
pytest.register_assert_rewrite(*(f"{__name__}.{part}" for part in _PARTS))

from .claiming import ClaimingSuite  # noqa: E402 - its asserts are rewritten only from here on
from .committing import CommittingSuite  # noqa: E402
from .crashing import CrashingSuite  # noqa: E402
from .creating import CreatingSuite  # noqa: E402
from .delivering import DeliveringSuite  # noqa: E402
from .joining import JoiningSuite  # noqa: E402
from .lifecycle import LifecycleSuite  # noqa: E402
from .listing import ListingSuite  # noqa: E402
from .model import ModelSuite  # noqa: E402
from .purging import PurgingSuite  # noqa: E402
from .queueing import QueueingSuite  # noqa: E402
from .racing import RacingSuite  # noqa: E402
from .renewing import RenewingSuite  # noqa: E402
from .reopening import ReopeningSuite  # noqa: E402
from .repeating import RepeatingSuite  # noqa: E402
from .scheduling import SchedulingSuite  # noqa: E402
from .sweeping import SweepingSuite  # noqa: E402
from .transacting import TransactingSuite  # noqa: E402
from .values import ValuesSuite  # noqa: E402

__all__ = ["ExecutionStoreSuite"]


class ExecutionStoreSuite(
    CreatingSuite,
    ClaimingSuite,
    CommittingSuite,
    RepeatingSuite,
    DeliveringSuite,
    SweepingSuite,
    RenewingSuite,
    ListingSuite,
    PurgingSuite,
    QueueingSuite,
    SchedulingSuite,
    ReopeningSuite,
    ValuesSuite,
    LifecycleSuite,
    TransactingSuite,
    JoiningSuite,
    RacingSuite,
    CrashingSuite,
    ModelSuite,
):
    """All tests of the contract. Subclass it, override `make_store` and `reopen`, and name the class `Test...`."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        names = [name for name in dir(ExecutionStoreSuite) if name.startswith("test_")]
        overridden = [name for name in names if getattr(cls, name) is not getattr(ExecutionStoreSuite, name)]
        if overridden:
            raise TypeError(
                f"{cls.__name__} overrides {', '.join(overridden)}. A store passes the suite as it is: say in "
                "`capabilities` what it does not do, or add tests under other names."
            )
