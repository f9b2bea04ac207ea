"""Signals, approvals, and the times that race with them: DESIGN 4.4."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any

import pytest
from pydantic import BaseModel

from workflow.core import Approval, Context, EventTimeoutError, PayloadError, create_workflow

from .engine_kit import World, at, play

Handler = Callable[[Context], Coroutine[Any, Any, Any]]


class Payment(BaseModel):
    payment_id: str


def world_of(handler: Handler, **environment: Any) -> World:
    return World(create_workflow(id="w")(handler), **environment)


async def waits(ctx: Context) -> str:
    payment = await ctx.wait_for_event("paid", Payment, timeout=10)
    return payment.payment_id


async def waits_or_not(ctx: Context) -> str:
    try:
        return await waits(ctx)
    except EventTimeoutError as error:
        return f"{isinstance(error, TimeoutError)}: {error}"


UP = "True: The time to wait for 'paid' (operation '$event:paid#1') is up."


def test_payload_is_validated_and_consumed_with_the_record() -> None:
    """The payload comes in the type that was asked for; its mail is consumed by the commit that records it."""

    async def scenario() -> None:
        world = world_of(waits)
        assert (await world.start()).run.waits[0].name == "paid"
        await world.signal("paid", {"payment_id": "p1"}, "s1")
        assert world.inbox == ["s1"]
        assert (await world.drive()).output == "p1"
        assert world.inbox == []
        (commit,) = [commit for commit in world.store.commits if commit.consumed]
        assert "SIGNAL_RESOLVED" in commit.records[0].event and commit.consumed == (1,)

    play(scenario())


def test_early_signal_waits_for_the_handler() -> None:
    """A signal that comes before anybody asks for it is kept, and given without a pause."""

    async def scenario() -> None:
        world = world_of(waits)
        await world.create()
        delivered = await world.signal("paid", {"payment_id": "early"})
        assert delivered.outcome == "accepted" and not delivered.awaited
        assert (await world.drive(force=True)).output == "early"

    play(scenario())


def test_signals_of_a_name_come_in_order() -> None:
    """Signals are given in the order of their delivery, to the waits in the order in which they were asked for."""

    async def w(ctx: Context) -> list[Any]:
        first = [await ctx.wait_for_event("n") for _ in range(2)]
        return first + await asyncio.gather(*(ctx.wait_for_event("n") for _ in range(3)))

    async def scenario() -> None:
        world = world_of(w)
        await world.create()
        for number in range(3):
            await world.signal("n", number)
        await world.drive(force=True)
        for number in range(3, 5):
            await world.signal("n", number)
        assert (await world.drive()).output == [0, 1, 2, 3, 4]

    play(scenario())


def test_other_names_are_left_in_the_inbox() -> None:
    """A signal that nobody asks for stays unconsumed and disturbs nothing."""

    async def scenario() -> None:
        world = world_of(waits)
        await world.start()
        await world.signal("other", 1, "o1")
        assert world.run.status == "paused"
        await world.signal("paid", {"payment_id": "p"})
        assert (await world.drive()).output == "p"
        assert world.inbox == ["o1"]

    play(scenario())


def test_doubled_signal_is_one() -> None:
    """A second delivery of a signal id is a duplicate, also after the first was consumed."""

    async def w(ctx: Context) -> str:
        await ctx.wait_for_event("paid")
        try:
            await ctx.wait_for_event("paid", timeout=5)
        except EventTimeoutError:
            return "once"
        return "twice"

    async def scenario() -> None:
        world = world_of(w)
        await world.start()
        await world.signal("paid", 1, "s1")
        await world.drive()
        assert (await world.signal("paid", 1, "s1")).outcome == "duplicate"
        world.clock.advance(5)
        assert (await world.drive()).output == "once"

    play(scenario())


def test_payload_that_does_not_fit_is_an_error_of_the_wait() -> None:
    """A payload of another shape raises `PayloadError` in the handler, the same on replay, and is used up."""

    async def w(ctx: Context) -> str:
        try:
            await ctx.wait_for_event("paid", Payment)
        except PayloadError as error:
            found = str(error)
        await ctx.wait_for_event("go")
        return found

    async def scenario() -> None:
        world = world_of(w)
        await world.start()
        await world.signal("paid", {"payment": 5})
        await world.drive()
        assert world.inbox == []
        await world.signal("go")
        outcome = await world.drive()
        assert "paid" in outcome.output and "payment_id" in outcome.output

    play(scenario())


def test_timeout_raises_event_timeout() -> None:
    """A wait whose time is up raises `EventTimeoutError`, a `TimeoutError`, the same live and on replay."""

    async def scenario() -> None:
        world = world_of(waits_or_not)
        assert (await world.start()).run.due_at == at(10)
        world.clock.advance(10)
        assert (await world.drive()).output == UP
        assert (await world.cut(2).drive()).output == UP

    play(scenario())


@pytest.mark.parametrize(("sent", "wins"), [(5, True), (10, True), (10.001, False), (15, False)])
def test_earlier_of_event_and_timeout_wins(sent: float, wins: bool) -> None:
    """Where both are there when somebody looks, the one that came earlier by the clock wins, and the log says so."""

    async def scenario() -> None:
        world = world_of(waits_or_not)
        await world.start()
        world.clock.set(at(sent))
        await world.signal("paid", {"payment_id": "p"})
        world.clock.set(at(20))
        outcome = await world.drive()
        assert outcome.output == ("p" if wins else UP)
        assert (await world.cut(2).drive()).output == outcome.output

    play(scenario())


def test_cancel_request_and_timeout_race_by_time() -> None:
    """A cancel request that came after a timeout does not undo it."""

    async def scenario() -> None:
        world = world_of(waits_or_not)
        await world.start()
        world.clock.set(at(15))
        await world.cancel()
        assert (await world.drive()).output == UP

    play(scenario())


def test_deadline_and_timeout_take_the_earlier() -> None:
    """Of a `timeout` and a `deadline` the earlier one counts; a deadline that is past times out at once."""

    async def w(ctx: Context) -> list[str]:
        found = []
        for timeout, deadline in ((30, at(20)), (5, at(1000)), (timedelta(seconds=5), at(-1))):
            try:
                await ctx.wait_for_event("never", timeout=timeout, deadline=deadline)
            except EventTimeoutError:
                found.append((await ctx.now()).isoformat())
        return found

    assert play(world_of(w).finish()).output == [at(20).isoformat(), at(25).isoformat(), at(25).isoformat()]


def test_abandoned_wait_takes_no_mail() -> None:
    """A signal for a wait that lost its race goes to the next one who asks."""

    async def w(ctx: Context) -> Any:
        first = asyncio.create_task(ctx.wait_for_event("paid", id="first"))
        await ctx.sleep(1)
        first.cancel()
        await asyncio.wait([first])
        return await ctx.wait_for_event("paid", id="second")

    async def scenario() -> None:
        world = world_of(w)
        await world.start()
        world.clock.advance(1)
        outcome = await world.drive()
        assert [wait.id for wait in outcome.run.waits] == ["second"]
        await world.signal("paid", 7)
        assert (await world.drive()).output == 7

    play(scenario())


def test_approval() -> None:
    """An approval has a known id, and brings the decision with its feedback, the same on replay."""

    async def w(ctx: Context) -> Approval:
        approval = await ctx.approve("Spend 5,000?", id="spend", description="For the team", meta={"amount": 5000})
        await ctx.sleep(1)
        return approval

    async def scenario() -> None:
        world = world_of(w)
        (wait,) = (await world.start()).run.waits
        assert (wait.kind, wait.id, wait.name, wait.detail) == ("approval", "spend", "Spend 5,000?", "For the team")
        assert wait.meta == {"amount": 5000}
        await world.decide("other", True)
        assert world.run.status == "paused"
        await world.decide("spend", False, "too much")
        assert (await world.decide("spend", True)).outcome == "duplicate"
        assert (await world.finish()).output == Approval("spend", False, "too much", None)

    play(scenario())


def test_approval_by_automatic_id_and_timeout() -> None:
    """Without an id an approval has one made of its title; a timeout raises `EventTimeoutError`."""

    async def w(ctx: Context) -> str:
        try:
            await ctx.approve("Sure?", timeout=60)
        except EventTimeoutError as error:
            return error.wait_id
        return "decided"

    assert play(world_of(w).finish()).output == "$approval:Sure?#1"


def test_naive_deadline_is_refused() -> None:
    """A naive datetime is an error at once: it would mean another instant on another machine."""

    async def w(ctx: Context) -> list[str]:
        found = []
        for operation in (
            ctx.sleep_until(at(5).replace(tzinfo=None)),
            ctx.wait_for_event("x", deadline=at(5).replace(tzinfo=None)),
            ctx.sleep(-1),
            ctx.sleep(float("nan")),
            ctx.wait_for_event(""),
            ctx.wait_for_event("x", id="$mine"),
        ):
            try:
                await operation
            except ValueError as error:
                found.append(str(error).split(" ")[0])
        return found

    assert play(world_of(w).start()).output == ["when", "deadline", "delay", "delay", "event", "event"]


def test_sleeps() -> None:
    """`sleep` and `sleep_until` go on when their time has come; a time that is past takes no pause."""

    async def w(ctx: Context) -> list[str]:
        found = []
        sleeps = [
            lambda: ctx.sleep(timedelta(minutes=1)),
            lambda: ctx.sleep_until(at(100), id="until", meta={"why": "test"}),
            lambda: ctx.sleep_until(at(50)),
            lambda: ctx.sleep(0),
        ]
        for sleep in sleeps:
            await sleep()
            found.append((await ctx.now()).isoformat())
        return found

    world = world_of(w)
    assert play(world.finish()).output == [at(60).isoformat(), *([at(100).isoformat()] * 3)]
    assert "TIMER_STARTED until" in world.trace


def test_sleep_beyond_the_calendar_is_for_ever() -> None:
    """A delay of more years than there are is kept as the end of the calendar, and not an error."""

    async def w(ctx: Context) -> None:
        await asyncio.gather(ctx.sleep(10.0**13), asyncio.sleep(10.0**13))

    outcome = play(world_of(w).start())
    assert outcome.kind == "paused" and outcome.run.due_at is not None and outcome.run.due_at.year == 9999
