"""Values are equal live and replayed, or refused: DESIGN 4.1, rule 5, through the whole engine."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from typing import Any, NamedTuple
from uuid import UUID

import pytest
from pydantic import BaseModel

from workflow.core import Context, PayloadError, create_workflow
from workflow.core.errors import StepResultError

from .engine_kit import START, World, play


class Colour(Enum):
    RED = "red"


class Name(StrEnum):
    STEP = "the step"
    EVENT = "the event"


class Level(IntEnum):
    HIGH = 3


@dataclass
class Point:
    x: int
    y: Decimal


class Line(BaseModel):
    points: list[Point]
    colour: Colour = Colour.RED
    when: datetime | None = None


class Pair(NamedTuple):
    left: int
    right: str


class Text(str):
    pass


BERLIN = timezone(timedelta(hours=1))

HELD: dict[str, tuple[Any, Any]] = {
    "none": (None, type(None)),
    "bool": (True, bool),
    "big int": (10**40, int),
    "int beyond floats": (2**63 + 1, Any),
    "float": (0.1 + 0.2, float),
    "nul": ("a\x00b", str),
    "unicode": ("\U0001f600 \u2028 é", Any),
    "decimal": (Decimal("1.10"), Decimal),
    "datetime": (START + timedelta(microseconds=1), datetime),
    "zoned": (datetime(2026, 1, 1, tzinfo=BERLIN), datetime),
    "date": (date(2026, 1, 1), date),
    "delta": (timedelta(days=2, microseconds=3), timedelta),
    "uuid": (UUID(int=5), UUID),
    "bytes": (b"\x00\xff", bytes),
    "enum": (Colour.RED, Colour),
    "int enum": (Level.HIGH, Level),
    "dataclass": (Point(1, Decimal("2.50")), Point),
    "model": (Line(points=[Point(1, Decimal(2))], when=START), Line),
    "models": ([Line(points=[])], list[Line]),
    "tuple": ((1, "a"), tuple[int, str]),
    "named tuple": (Pair(1, "r"), Pair),
    "set": ({1, 2, 3}, set[int]),
    "int keys": ({1: "a", 2: "b"}, dict[int, str]),
    "union": (Decimal("1.5"), Decimal | None),
    "plain": ({"a": [1, 2.5, None, {"b": "c"}]}, Any),
}

REFUSED: dict[str, tuple[Any, Any]] = {
    "nan": (math.nan, Any),
    "infinity": (math.inf, Any),
    "lone surrogate": ("\ud800", Any),
    "typed lone surrogate": ("\ud800", str),
    "tuple": ((1, 2), Any),
    "int keys": ({1: "a"}, Any),
    "bytes": (b"x", Any),
    "decimal": (Decimal(1), Any),
    "datetime": (START, Any),
    "set": ({1}, Any),
    "model": (Line(points=[]), Any),
    "object": (object(), Any),
    "str subclass": (Text("a"), Any),
    "nested": ({"a": [{"b": (1,)}]}, Any),
    "wrong type": ("text", int),
}


def returning(value: Any, type_: Any) -> Callable[[], Any]:
    async def step() -> Any:
        return value

    step.__annotations__["return"] = type_
    return step


@pytest.mark.parametrize("name", HELD)
def test_value_is_equal_live_and_replayed(name: str) -> None:
    """A result comes to the handler as it was returned, with its type, live and from the log alike."""
    value, type_ = HELD[name]
    seen: list[Any] = []

    @create_workflow(id="w")
    async def w(ctx: Context) -> None:
        seen.append(await ctx.step("a", returning(value, type_)))
        await ctx.wait_for_event("go")

    async def scenario() -> None:
        world = World(w)
        assert (await world.start()).kind == "paused"
        await world.signal("go")
        assert (await world.drive()).kind == "completed"

    play(scenario())
    live, replayed = seen
    assert live == replayed == value
    assert type(live) is type(replayed) is type(value)
    assert repr(live) == repr(replayed)


@pytest.mark.parametrize("name", REFUSED)
def test_value_that_would_change_is_refused(name: str) -> None:
    """What JSON can't give back is refused, naming the step, and never silently changed; the same on replay."""
    value, type_ = REFUSED[name]
    seen: list[str] = []

    @create_workflow(id="w")
    async def w(ctx: Context) -> None:
        with pytest.raises(StepResultError) as caught:
            await ctx.step("odd one", returning(value, type_))
        assert isinstance(caught.value, PayloadError)
        seen.append(str(caught.value))
        await ctx.wait_for_event("go")

    async def scenario() -> None:
        world = World(w)
        assert (await world.start()).kind == "paused"
        await world.signal("go")
        assert (await world.drive()).kind == "completed"

    play(scenario())
    assert seen[0] == seen[1] and "'odd one'" in seen[0]


def test_result_is_not_shared_with_the_step() -> None:
    """The handler gets what the JSON gives back, not the very object: later changes of it do not reach the handler."""
    kept: list[int] = [1]

    async def shares() -> list[int]:
        return kept

    @create_workflow(id="w")
    async def w(ctx: Context) -> list[int]:
        found = await ctx.step("a", shares)
        kept.append(2)
        return found

    assert play(World(w).start()).output == [1]


def test_oversized_result_is_refused() -> None:
    """A result beyond the store's limit fails the step, with both sizes in the message."""

    @create_workflow(id="w")
    async def w(ctx: Context) -> str:
        try:
            await ctx.step("big", returning("x" * 2000, str))
        except PayloadError as error:
            return str(error)[:500]
        return "taken"

    outcome = play(World(w, max_payload=1000).start())
    assert "2,002" in outcome.output and "1,000" in outcome.output


def test_now_and_uuid_are_recorded_once() -> None:
    """`now()` and `uuid()` are the same on every replay, and typed."""
    seen: list[tuple[datetime, UUID]] = []

    @create_workflow(id="w")
    async def w(ctx: Context) -> None:
        seen.append((await ctx.now(), await ctx.uuid()))
        await ctx.sleep(10)

    async def scenario() -> None:
        world = World(w)
        world.clock.advance(0.123456)
        assert (await world.finish()).kind == "completed"

    play(scenario())
    assert seen[0] == seen[1]
    assert seen[0][0] == START + timedelta(seconds=0.123456) and seen[0][0].tzinfo is not None
    assert seen[0][0].astimezone(UTC) == seen[1][0]
    assert isinstance(seen[1][1], UUID)


def test_names_that_are_members_of_an_enum_are_their_values() -> None:
    """Ids and names may be members of a StrEnum: what is recorded and shown are plain strings."""

    @create_workflow(id="w")
    async def w(ctx: Context) -> Any:
        number = await ctx.step(Name.STEP, one)
        return [number, await ctx.wait_for_event(Name.EVENT)]

    async def scenario() -> None:
        world = World(w)
        outcome = await world.start()
        (wait,) = outcome.run.waits
        assert (type(wait.name), type(wait.id)) == (str, str)
        assert wait.id == "$event:the event#1"
        await world.signal("the event", 2)
        assert (await world.drive()).output == [1, 2]
        assert world.trace[0] == "STEP_FINISHED the step"

    play(scenario())


async def one() -> int:
    return 1
