"""Workflows that a process has, does not have, or can't import; and runs that kill their owners."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from workflow.core import Context, DefinitionError, InvalidArgumentError, create_workflow
from workflow.runtime import Registration, WorkflowRuntime
from workflow.runtime.testing import CrashingStore, CrashPoint, SimulatedCrash

from .runtime_kit import DAY, MINUTE, START, World, asynchronous

LAZY = """
from workflow.core import Context, create_workflow

@create_workflow(id="lazy")
async def lazy(ctx: Context[str]) -> str:
    return f"lazy {ctx.input}"
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Any:
    """Writes a module that can be imported under the name that this answers."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(text: str) -> str:
        name = f"lazy_app_{abs(hash((request.node.name, text)))}"
        (tmp_path / f"{name}.py").write_text(text)
        sys.modules.pop(name, None)
        return name

    return write


# Lazy registrations


@asynchronous
async def test_a_path_is_imported_when_it_is_needed(module: Any) -> None:
    """A workflow that is registered by its path is known at once, and imported with its first run."""
    name = module(LAZY)
    runtime = World().runtime(workflows=[Registration(f"{name}:lazy", id="lazy")])
    assert runtime.workflow_ids == {"lazy"}
    assert (await runtime.sweep()).summary.total == 0
    assert name not in sys.modules
    assert (await runtime.start_run("lazy", run_id="r", input="Ann")).output == "lazy Ann"
    assert name in sys.modules


BROKEN = [
    ("import no_such_module_anywhere", "No module named 'no_such_module_anywhere'"),
    ("def f(:", "SyntaxError"),
    ("1 / 0", "ZeroDivisionError"),
    ("other = 1", "has no attribute 'lazy'"),
    ("lazy = 5", "is not a workflow, but 5"),
    (LAZY.replace('id="lazy"', 'id="other"'), "The registration says id 'lazy', and the workflow says 'other'"),
]


@pytest.mark.parametrize(("text", "says"), BROKEN)
@asynchronous
async def test_a_path_that_can_not_be_imported(module: Any, text: str, says: str) -> None:
    """A bad deploy is an error where a run is started; its runs are put back unharmed, and the others go on."""
    world = World()
    good = world.runtime(workflows=[Registration(f"{module(LAZY)}:lazy", id="lazy"), *world.app.workflows])
    for run_id in ("l1", "l2"):
        await good.start_run("lazy", run_id=run_id, input="Ann", drive=False)
    await good.start_run("greet", run_id="g", input="Ann", drive=False)
    bad = world.runtime(workflows=[Registration(f"{module(text)}:lazy", id="lazy"), *world.app.workflows])
    with pytest.raises(DefinitionError, match=says):
        await bad.start_run("lazy", input="Ann")
    for _ in range(15):
        swept = await bad.sweep()
        kinds = {result.run_id: result.kind for result in (*swept.recovered, *swept.ready, *swept.timers)}
        assert set(kinds.values()) <= {"completed", "not_claimable"}
        world.clock.advance(2 * MINUTE)
    seen = await bad.get_run("l1")
    assert seen is not None and seen.error is not None
    assert (seen.status, seen.input, seen.error.code) == ("paused", "Ann", "definition")
    await world.check()
    assert (await good.sweep()).summary.timers == {"completed": 2}


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Registration("app", id="x"), "package.module:name"),
        (lambda: Registration("app:", id="x"), "package.module:name"),
        (lambda: Registration("app:flow"), "needs id="),
        (lambda: Registration(5), "takes a workflow or its import path"),  # type: ignore[arg-type]
    ],
)
def test_bad_registrations(make: Any, says: str) -> None:
    """A registration that could never work fails where it is written."""
    with pytest.raises(DefinitionError, match=says):
        make()


def test_a_workflow_is_registered_once() -> None:
    """Two workflows of one id, or a registration that renames one, can't be told apart in a store."""
    world = World()
    greet = world.app.workflows[0]
    with pytest.raises(DefinitionError, match="'greet' is registered twice"):
        world.runtime(workflows=[greet, Registration(greet)])
    with pytest.raises(DefinitionError, match="make them the same"):
        world.runtime(workflows=[Registration(greet, id="hello")])
    with pytest.raises(InvalidArgumentError, match="workflow id"):
        world.runtime(workflows=[Registration("a:b", id="")])


# Runs of others


@asynchronous
async def test_runs_of_unknown_workflows_are_left_alone() -> None:
    """A sweep never claims a run whose workflow this process does not have."""
    world = World()
    await world.runtime().start_run("greet", run_id="r", input="Ann", drive=False)
    before = await world.store.get_run("r")
    other = world.runtime(workflows=world.app.workflows[1:])
    assert (await other.sweep()).summary.total == 0
    assert await world.store.get_run("r") == before


@asynchronous
async def test_mail_for_an_unknown_workflow_is_taken() -> None:
    """A delivery through a process that does not have the workflow is durable, and left to one that has it, at once."""
    world = World()
    await world.runtime().start_run("pay", run_id="r", input={"order_id": "o"})
    other = world.runtime(workflows=[])
    result = await other.deliver_signal(run_id="r", signal_id="s", name="paid", payload="card")
    assert result.kind == "not_claimable"
    assert result.error is not None and "not registered with this runtime" in result.error.message
    await world.check()
    swept = await world.runtime().sweep()
    assert [run.kind for run in (*swept.ready, *swept.timers)] == ["completed"]
    seen = await world.runtime().get_run("r")
    assert seen is not None and seen.error is None


def versioned(world: World, version: str | None, *previous: Any) -> Any:
    @create_workflow(id="versioned", version=version, previous_versions=previous)
    async def flow(ctx: Context[None]) -> str | None:
        await ctx.wait_for_event("go")
        return version

    return flow


@asynchronous
async def test_runs_of_an_unknown_version_wait_for_a_process_that_has_it() -> None:
    """A rolling deploy fails no run: a run of another version is put back with a delay, reported, and driven later."""
    world = World()
    new = world.runtime(workflows=[versioned(world, "2", versioned(world, "1"))])
    old = world.runtime(workflows=[versioned(world, "1")])
    await new.start_run("versioned", run_id="r")
    result = await old.deliver_signal(run_id="r", signal_id="s", name="go")
    assert result.kind == "not_claimable"
    assert result.error is not None and result.error.code == "version"
    for _ in range(15):
        swept = await old.sweep()
        assert {run.kind for run in swept.timers} <= {"not_claimable"}
        await world.check()
        world.clock.advance(2 * MINUTE)
    (done,) = (await new.sweep()).timers
    assert (done.kind, done.output) == ("completed", "2")


@asynchronous
async def test_old_runs_go_on_with_their_own_version() -> None:
    """A run goes on with the version that it was started with, when the deploy has kept it."""
    world = World()
    await world.runtime(workflows=[versioned(world, "1")]).start_run("versioned", run_id="r")
    deploy = world.runtime(workflows=[versioned(world, "2", versioned(world, "1"))])
    assert (await deploy.deliver_signal(run_id="r", signal_id="s", name="go")).output == "1"


@asynchronous
async def test_code_that_does_not_fit_the_log_blocks_a_run() -> None:
    """A changed handler blocks its run, with the reason and without harm; the fixed deploy goes on with it."""
    world = World()
    runtime = world.runtime()
    await runtime.start_run("pay", run_id="r", input={"order_id": "o"})

    @create_workflow(id="pay")
    async def pay(ctx: Context[Any]) -> None:
        await ctx.step("something-else", world.app.work)

    result = await world.runtime(workflows=[pay]).deliver_signal(run_id="r", signal_id="s", name="paid", payload="card")
    assert result.kind == "paused"
    assert result.error is not None and result.error.code == "nondeterminism"
    assert result.run is not None and [wait.kind for wait in result.run.waits] == ["signal", "blocked"]
    await world.check()
    world.clock.advance(DAY)
    assert (await runtime.sweep()).summary.timers == {"completed": 1}


# Poison


async def kill_owner(world: World, **options: Any) -> None:
    """A process that dies while it drives the run."""
    dying = world.runtime(CrashingStore(world.store, CrashPoint("commit", 1, "before")), **options)
    with pytest.raises(SimulatedCrash):
        await dying.sweep()
    world.clock.advance(31)


@asynchronous
async def test_a_run_that_kills_its_owners_is_given_up() -> None:
    """A run that has killed its owner more often in a row than `max_recoveries` ends `errored`, with that reason."""
    world = World()
    options: dict[str, Any] = {"max_recoveries": 2}
    await world.runtime().start_run("greet", run_id="r", input="Ann", drive=False)
    for _ in range(3):
        await kill_owner(world, **options)
    (result,) = (await world.runtime(**options).sweep()).recovered
    assert (result.kind, result.error and result.error.code) == ("errored", "max_recoveries")
    assert result.error is not None and "was recovered 2 times" in result.error.message
    assert len(world.app.journal) == 3
    await world.check()


@asynchronous
async def test_owners_that_die_now_and_then_are_no_poison() -> None:
    """Only deaths in a row count: a run that gets on to a pause starts counting anew."""
    world = World()
    runtime = world.runtime(max_recoveries=1)

    @create_workflow(id="long")
    async def long(ctx: Context[None]) -> str:
        for number in range(5):
            await ctx.step(f"s{number}", world.app.work)
            await ctx.sleep(60)
        return "done"

    runtime = world.runtime(workflows=[long], max_recoveries=1)
    await runtime.start_run("long", run_id="r")
    swept = await runtime.sweep()
    for _ in range(5):
        world.clock.advance(MINUTE)
        await kill_owner(world, workflows=[long], max_recoveries=1)
        swept = await runtime.sweep()
    assert [(run.kind, run.output) for run in swept.recovered] == [("completed", "done")]


@asynchronous
async def test_a_recovery_is_allowed_where_none_is_promised() -> None:
    """With `max_recoveries=0` the first death is the last."""
    world = World()
    await world.runtime().start_run("greet", run_id="r", input="Ann", drive=False)
    await kill_owner(world)
    (result,) = (await world.runtime(max_recoveries=0).sweep()).recovered
    assert result.kind == "errored"


@asynchronous
async def test_a_runtime_without_workflows_still_looks() -> None:
    """A process that only looks needs no workflows."""
    world = World()
    await world.runtime().start_run("greet", run_id="r", input="Ann")
    looker: WorkflowRuntime = world.runtime(workflows=[])
    seen = await looker.get_run("r")
    assert seen is not None and (seen.output, seen.created_at) == ("Hello Ann", START)
