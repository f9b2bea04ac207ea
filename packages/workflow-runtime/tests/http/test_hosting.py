"""What the hosts share: where a runtime comes from, how long a sweep may take, and which errors go away."""

from __future__ import annotations

import asyncio
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from workflow.core import Context, DefinitionError, InvalidArgumentError, Retry, StoreError, create_workflow
from workflow.runtime import MemoryStore, WorkflowRuntime
from workflow.runtime.hosting import (
    DEFAULT_DURATION,
    RuntimeSource,
    SweepLimits,
    allowance,
    import_runtime,
    is_temporary,
    lease_owner,
    sweep_within,
)


@pytest.mark.parametrize(
    ("max_duration", "remaining", "expected"),
    [(None, None, DEFAULT_DURATION), (7, None, 7), (None, 60, 58), (7, 60, 7), (70, 60, 58), (7, 1, 0), (None, 0, 0)],
)
def test_work_takes_no_longer_than_the_host_has_left(max_duration: Any, remaining: Any, expected: float):
    """A sweep gets what was asked for, and at most what is left less the margin."""
    assert allowance(max_duration, remaining, 2.0) == expected


@pytest.mark.parametrize("limits", [{"max_timers": -1}, {"max_duration": 0}, {"max_duration": -1}, {"margin": -0.1}])
def test_impossible_limits_are_refused(limits: dict[str, Any]):
    """Limits that nothing can keep are an error where they are written."""
    with pytest.raises(InvalidArgumentError):
        SweepLimits(**limits)


def test_single_bounds_take_the_place_of_those_in_limits():
    """What a host's function is given by itself counts, and the rest of the limits stays as it is."""
    limits = SweepLimits(max_timers=3, max_duration=9, margin=1)
    assert SweepLimits.of(None) == SweepLimits() and SweepLimits.of(limits) == limits
    assert SweepLimits.of(limits, max_duration=timedelta(seconds=5), include_sweep_result=True) == SweepLimits(
        max_timers=3, max_duration=5.0, margin=1.0, include_sweep_result=True
    )
    with pytest.raises(InvalidArgumentError, match="max_duration"):
        SweepLimits.of(limits, max_duration=timedelta(0))


def test_an_owner_names_host_and_invocation():
    """The owner of a lease says which invocation of which host it is, in letters that every store and log can take."""
    assert lease_owner("lambda", "8f2c-1") == "lambda:8f2c-1"
    assert lease_owner("vercel", "a b\nc\u00e9") == "vercel:a_b_c_"
    assert len(lease_owner("x", "y" * 1000)) == 200
    assert lease_owner("x") != lease_owner("x")


@pytest.mark.parametrize(
    ("error", "temporary"),
    [
        (ConnectionResetError(), True),
        (TimeoutError(), True),
        (OSError("no route to host"), True),
        (type("OperationalError", (Exception,), {})(), True),
        (type("Sub", (type("InterfaceError", (Exception,), {}),), {})(), True),
        (StoreError("migrate"), False),
        (type("StoreUnavailableError", (StoreError, ConnectionError), {})(), True),
        (InvalidArgumentError("no"), False),
        (KeyError("bug"), False),
    ],
)
def test_only_errors_that_go_away_are_worth_a_retry(error: Exception, temporary: bool):
    """A lost connection is temporary, a missing schema or a bug is not."""
    assert is_temporary(error) is temporary


def test_a_runtime_is_imported_by_its_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A path names a runtime or a factory; anything else is an error that says what is wrong with it."""
    code = "from workflow.runtime import *\nruntime = WorkflowRuntime(MemoryStore(), [])\nnothing = 5\n"
    (tmp_path / "path_of_runtime.py").write_text(
        code + "class app:\n    @staticmethod\n    def make(): return runtime\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert isinstance(import_runtime("path_of_runtime:runtime"), WorkflowRuntime)
    made = import_runtime("path_of_runtime:app.make")
    assert asyncio.run(RuntimeSource(made).get()) is sys.modules["path_of_runtime"].runtime
    for path in (
        "path_of_runtime",
        "path_of_runtime:",
        "path_of_runtime:gone",
        "gone_module:x",
        "path_of_runtime:nothing",
    ):
        with pytest.raises(DefinitionError):
            import_runtime(path)


def test_a_factory_must_make_a_runtime():
    """A factory that returns something else is told so."""
    with pytest.raises(DefinitionError, match="not a WorkflowRuntime"):
        asyncio.run(RuntimeSource(lambda: 5).get())  # pyright: ignore[reportArgumentType]


def test_a_source_outlives_the_loop_that_first_used_it():
    """A runtime that was made on one event loop is there on the next; closing forgets what was made."""
    made: list[WorkflowRuntime] = []

    async def make() -> WorkflowRuntime:
        made.append(WorkflowRuntime(MemoryStore(), []))
        return made[-1]

    source = RuntimeSource(make)
    assert asyncio.run(source.get()) is asyncio.run(source.get()) is made[0]
    asyncio.run(source.close())
    assert asyncio.run(source.get()) is made[1] and len(made) == 2


def test_one_who_gives_up_does_not_take_the_runtime_from_others():
    """A request that is cancelled while the runtime is made leaves it to those who wait as well."""

    async def scenario() -> None:
        go = asyncio.Event()

        async def make() -> WorkflowRuntime:
            await go.wait()
            return WorkflowRuntime(MemoryStore(), [])

        source = RuntimeSource(make)
        first, second = asyncio.ensure_future(source.get()), asyncio.ensure_future(source.get())
        await asyncio.sleep(0)
        first.cancel()
        go.set()
        assert isinstance(await second, WorkflowRuntime)

    asyncio.run(scenario())


@create_workflow(id="hang")
async def stuck_workflow(ctx: Context[None]) -> None: ...


def stuck_runtime(started: asyncio.Event) -> WorkflowRuntime:
    """A runtime whose workflow has a step that never ends."""

    async def forever() -> None:
        started.set()
        await asyncio.Event().wait()

    @create_workflow(id="stuck")
    async def stuck(ctx: Context[None]) -> None:
        await ctx.step("forever", forever, retry=Retry.none())

    return WorkflowRuntime(MemoryStore(), [stuck])


def test_a_step_longer_than_the_invocation_is_handed_back():
    """A step that outlasts the host is cancelled before the host is killed, and its run is free for the next one."""

    async def scenario() -> None:
        started = asyncio.Event()
        runtime = stuck_runtime(started)
        await runtime.start_run("stuck", run_id="s", drive=False)
        limits = SweepLimits(margin=0.2)
        answer = await sweep_within(RuntimeSource(runtime), owner="test", remaining=0.3, limits=limits)
        assert started.is_set() and answer.summary.ready == {"queued": 1}
        assert answer.deadline_reached and answer.remaining_may_exist
        run = await runtime.get_run("s")
        assert run is not None and run.status == "queued"

    asyncio.run(scenario())


def test_a_sweep_that_hangs_is_ended_in_time(caplog: pytest.LogCaptureFixture):
    """A store that does not answer can't keep the host from answering before it is killed."""

    class Hanging(MemoryStore):
        async def claim_due(self, *args: Any, **kwargs: Any) -> Any:
            await asyncio.Event().wait()

    async def scenario() -> None:
        source = RuntimeSource(WorkflowRuntime(Hanging(), [stuck_workflow]))
        answer = await sweep_within(source, owner="test", remaining=0.3, limits=SweepLimits(margin=0.1))
        assert answer.interrupted and answer.deadline_reached and answer.remaining_may_exist

    asyncio.run(scenario())
    assert "did not end" in caplog.text


def test_a_timeout_of_the_store_is_no_end_of_the_budget():
    """When the store times out, that is an error, and not a sweep that did nothing."""

    class Slow(MemoryStore):
        async def claim_due(self, *args: Any, **kwargs: Any) -> Any:
            raise TimeoutError("the store")

    async def scenario() -> None:
        runtime = WorkflowRuntime(Slow(), [stuck_workflow])
        with pytest.raises(TimeoutError, match="the store"):
            await sweep_within(RuntimeSource(runtime), owner="test", remaining=timedelta(minutes=1).total_seconds())

    asyncio.run(scenario())
