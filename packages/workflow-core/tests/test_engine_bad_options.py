"""Bad arguments of primitives are the handler's errors, where it has written them: they never break a drive."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest

from workflow.core import Context, InvalidArgumentError, WorkflowError, create_workflow

from .engine_kit import World, echo, play


def world_of(handler: Callable[[Context], Coroutine[Any, Any, Any]]) -> World:
    return World(create_workflow(id="w")(handler))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("", echo), "must not be empty"),
        (("$a", echo), "reserved"),
        (("a\n", echo), "control characters"),
        (("a" * 513, echo), "at most 512"),
        ((5, echo), "must be a string"),
        (("a", "echo"), "takes a function"),
        (("a", echo("x")), "takes a function"),
    ],
)
@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")
def test_bad_arguments_are_errors_at_once(arguments: tuple[Any, ...], words: str) -> None:
    """A bad id or function fails where it is written, with a message that says what is wrong."""

    async def w(ctx: Context) -> str:
        try:
            await ctx.step(*arguments)
        except WorkflowError as error:
            return str(error)
        return "taken"

    outcome = play(world_of(w).start())
    assert words in outcome.output
    if asyncio.iscoroutine(arguments[1]):
        arguments[1].close()


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (lambda ctx: ctx.step("a", echo, retry=3), "Step 'a': retry must be a Retry(...), not 3"),
        (lambda ctx: ctx.step("a", echo, meta=[1]), "meta must be a dict of plain JSON, not list"),
        (lambda ctx: ctx.sleep(5, meta=[1]), "meta must be a dict of plain JSON, not list"),
        (lambda ctx: ctx.wait_for_event("e", meta="m"), "meta must be a dict of plain JSON, not str"),
        (lambda ctx: ctx.approve("t", description=5), "description must be a string, not int"),
        (lambda ctx: ctx.step("a", echo, timeout="soon"), "timeout must be a"),
    ],
    ids=["retry", "step meta", "sleep meta", "event meta", "description", "timeout"],
)
def test_bad_options_fail_the_run_where_they_are_written(ask: Callable[[Any], Awaitable[Any]], words: str) -> None:
    """They are errors of the handler: the run ends with them, and no drive breaks."""

    async def w(ctx: Context) -> None:
        await ask(ctx)

    outcome = play(world_of(w).start())
    assert (outcome.kind, isinstance(outcome.exception, InvalidArgumentError)) == ("errored", True)
    assert words in str(outcome.exception)
