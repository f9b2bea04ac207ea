"""What a handler can't do, and what it is told instead: DESIGN 4.1."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest

from workflow.core import Context, create_workflow
from workflow.core.engine import DriveOutcome
from workflow.core.loop import loop as loop_module

from .engine_kit import World, echo, play


def outcome_of(handler: Callable[[Context], Coroutine[Any, Any, Any]]) -> DriveOutcome:
    return play(World(create_workflow(id="w")(handler)).start())


def refused(handler: Callable[[Context], Coroutine[Any, Any, Any]], *words: str) -> None:
    outcome = outcome_of(handler)
    assert outcome.kind == "errored" and outcome.error is not None, outcome
    assert outcome.error.type == "HandlerError", outcome.error
    for word in words:
        assert word in outcome.error.message, outcome.error.message


async def a_socket() -> None:
    with socket.socket() as sock:
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_recv(sock, 1)


IO: dict[str, Callable[[], Awaitable[Any]]] = {
    "open_connection": lambda: asyncio.open_connection("127.0.0.1", 9),
    "start_server": lambda: asyncio.start_server(lambda reader, writer: None),
    "open_unix_connection": lambda: asyncio.open_unix_connection("/nowhere"),
    "subprocess_exec": lambda: asyncio.create_subprocess_exec("true"),
    "subprocess_shell": lambda: asyncio.create_subprocess_shell("true"),
    "getaddrinfo": lambda: asyncio.get_running_loop().getaddrinfo("localhost", 80),
    "sock_recv": a_socket,
}


@pytest.mark.parametrize("name", IO)
def test_io_is_refused(name: str) -> None:
    """Real I/O in a handler is an error that says: put it in `ctx.step`."""

    async def w(ctx: Context) -> None:
        await IO[name]()

    refused(w, "real I/O is not durable", "ctx.step")


@pytest.mark.parametrize("name", ["to_thread", "run_in_executor", "call_soon_threadsafe"])
def test_threads_are_refused(name: str) -> None:
    """Threads in a handler are an error that says: give the function to `ctx.step`."""

    async def w(ctx: Context) -> None:
        loop = asyncio.get_running_loop()
        if name == "to_thread":
            await asyncio.to_thread(print)
        elif name == "run_in_executor":
            await loop.run_in_executor(None, print)
        else:
            loop.call_soon_threadsafe(print)

    refused(w, "threads don't run in a handler", "ctx.step")


@pytest.mark.parametrize("name", ["run_forever", "stop", "close", "set_debug", "set_exception_handler"])
def test_the_loop_is_not_the_handlers(name: str) -> None:
    """What would take the loop over, or change it, is refused."""

    async def w(ctx: Context) -> None:
        arguments = (None,) if name.startswith("set") else ()
        getattr(asyncio.get_running_loop(), name)(*arguments)

    refused(w, f"loop.{name}()", "belongs to the engine")


def test_task_factories_and_eager_tasks_are_refused() -> None:
    """Eager tasks would run code before its turn: both ways to make them are refused."""

    async def factory(ctx: Context) -> None:
        loop = asyncio.get_running_loop()
        loop.set_task_factory(getattr(asyncio, "eager_task_factory", None))

    async def eager(ctx: Context) -> None:
        loop: Any = asyncio.get_running_loop()
        await loop.create_task(ctx.now(), eager_start=True)

    refused(factory, "set_task_factory")
    refused(eager, "eager_start")


def test_future_of_another_loop_is_refused() -> None:
    """Waiting for a future of the host's loop is an error that says what to do."""

    async def scenario() -> DriveOutcome:
        foreign = asyncio.get_running_loop().create_future()

        @create_workflow(id="w")
        async def w(ctx: Context) -> None:
            await foreign

        return await World(w).start()

    outcome = play(scenario())
    assert outcome.kind == "errored" and outcome.error is not None
    assert outcome.error.type == "HandlerError"
    assert "ctx.step" in outcome.error.message


def test_refusal_can_be_handled() -> None:
    """A refusal is an ordinary error where it happens: a library may fall back on something else."""

    async def w(ctx: Context) -> str:
        try:
            await asyncio.open_connection("127.0.0.1", 9)
        except Exception:
            return await ctx.step("instead", echo, "fell back")
        return "connected"

    assert outcome_of(w).output == "fell back"


def test_spinning_handler_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    """A handler that never becomes idle is stopped with an error, not left to hold up its host for ever."""
    monkeypatch.setattr(loop_module, "SPIN_LIMIT", 10_000)

    async def w(ctx: Context) -> None:
        while True:
            await asyncio.sleep(0)

    refused(w, "it spins", "ctx.sleep")


def test_deadlocked_handler_is_told() -> None:
    """A handler that waits for something that nothing can bring about fails, and is told so."""

    async def event(ctx: Context) -> None:
        await asyncio.Event().wait()

    async def future(ctx: Context) -> None:
        await ctx.step("first", echo)
        await asyncio.get_running_loop().create_future()

    async def lock(ctx: Context) -> None:
        lock = asyncio.Lock()
        async with lock, lock:
            pass

    for handler in (event, future, lock):
        refused(handler, "nothing durable can bring about", "ctx.wait_for_event")


@pytest.mark.parametrize("where", ["step", "thread", "after"])
def test_operations_belong_in_the_handler(where: str) -> None:
    """A durable operation called in a step, in its thread, or after the drive is refused with the reason."""
    kept: list[Context] = []

    async def w(ctx: Context) -> None:
        kept.append(ctx)

        async def inside() -> None:
            await ctx.now()

        def in_thread() -> None:
            ctx.now().send(None)  # type: ignore[attr-defined]

        await ctx.step("a", inside if where == "step" else in_thread)

    if where != "after":
        outcome = outcome_of(w)
        assert outcome.error is not None and "outside the handler" in outcome.error.message
        return

    async def scenario() -> None:
        await World(create_workflow(id="w")(w)).start()
        with pytest.raises(Exception, match="outside the handler"):
            await kept[0].now()

    play(scenario())


@pytest.mark.parametrize("how", ["call_soon", "done_callback", "timer"])
def test_failing_callback_fails_the_run(how: str) -> None:
    """What a callback raises is the run's error: it is neither logged away nor the host's problem."""

    def fail(*_: Any) -> None:
        raise ValueError("in a callback")

    async def w(ctx: Context) -> None:
        loop = asyncio.get_running_loop()
        if how == "call_soon":
            loop.call_soon(fail)
        elif how == "timer":
            loop.call_later(0, fail)
        else:
            asyncio.create_task(ctx.step("a", echo)).add_done_callback(fail)
        await ctx.wait_for_event("never")

    refused(w, "in a callback")


class Odd(BaseException):
    """Neither an Exception nor known to asyncio."""


@pytest.mark.parametrize("error", [SystemExit, Odd, GeneratorExit])
@pytest.mark.parametrize("where", ["handler", "branch", "group"])
@pytest.mark.parametrize("late", [False, True])
def test_no_error_of_a_handler_leaves_its_drive(
    error: type[BaseException], where: str, late: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """`sys.exit()` and other odd errors in a handler end the run as errored; the host goes on."""

    async def fail(ctx: Context) -> None:
        if late:
            await ctx.step("first", echo)
        raise error("odd")

    async def w(ctx: Context) -> None:
        if where == "handler":
            await fail(ctx)
        elif where == "branch":
            await asyncio.gather(fail(ctx), ctx.now())
        else:
            async with asyncio.TaskGroup() as group:
                group.create_task(fail(ctx))

    outcome = outcome_of(w)
    assert outcome.kind == "errored" and outcome.error is not None
    assert error.__name__ in outcome.error.type + outcome.error.message
    assert not [message for message in caplog.messages if "never retrieved" in message]


@pytest.mark.parametrize("error", [SystemExit, Odd, GeneratorExit, StopIteration, StopAsyncIteration])
@pytest.mark.parametrize("sync", [False, True])
def test_odd_errors_of_steps_fail_the_step(error: type[BaseException], sync: bool) -> None:
    """A step that calls `sys.exit()`, or raises what is no Exception, has failed like any other."""

    def fail() -> None:
        raise error("odd")

    async def fail_async() -> None:
        raise error("odd")

    async def w(ctx: Context) -> str:
        try:
            await ctx.step("a", fail if sync else fail_async)
        except Exception as caught:
            return str(caught)
        return "fine"

    assert "odd" in str(outcome_of(w).output) or error.__name__ in str(outcome_of(w).output)
