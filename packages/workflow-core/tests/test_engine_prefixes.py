"""Replay from every prefix of every log of generated workflows: DESIGN 4.1."""

from __future__ import annotations

import os
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from workflow.core.engine import primitives

from .engine_kit import play
from .program_kit import Outside, Program, plain, programs

settings.register_profile("default", max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
settings.register_profile("thorough", settings.get_profile("default"), max_examples=600)
EXAMPLES = settings.get_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


@pytest.fixture(autouse=True)
def _same_uuids(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(primitives, "uuid4", lambda: UUID(int=7))


async def check_every_prefix(program: Program, choices: Any) -> None:
    live = await Outside.begin(program)
    await live.play(lambda count: choices.draw(st.integers(0, count - 1)))
    log = live.world.log
    for length in range(len(log)):
        again = live.restart(length)
        await again.follow(log[length:])
        assert again.ended, (length, live.world.trace, again.world.trace, again.world.run)
        assert again.world.log == log, length
        assert again.machine.trace == live.machine.trace, length
        assert plain(again.outcome) == plain(live.outcome)


@EXAMPLES
@given(program=programs(), choices=st.data())
def test_every_prefix_of_a_log_leads_to_the_same_end(program: Program, choices: Any) -> None:
    """From any prefix of its log a run asks for the same operations again, gets equal values, and ends alike."""
    play(check_every_prefix(program, choices))
