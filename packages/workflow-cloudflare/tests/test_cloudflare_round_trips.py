"""How many calls to D1 it takes: which is how fast it is, where a call is 10 to 40 ms away."""

from __future__ import annotations

import asyncio
from types import ModuleType

import pytest


@pytest.fixture(scope="module")
def calls(round_trips: ModuleType) -> dict[str, int]:
    return {what: calls for what, calls, _ in asyncio.run(round_trips.measure())}


def test_an_idle_sweep_is_one_call(calls: dict[str, int]) -> None:
    """A trigger that finds nothing costs one call."""
    assert calls["idle sweep"] == 1


@pytest.mark.parametrize("count", [1, 5, 10])
def test_steps_in_a_row_cost_one_call_each(calls: dict[str, int], count: int) -> None:
    """A run of n steps is n + 1 calls: its creation, and then a commit before each next step and at the end."""
    assert calls[f"start a run of {count} steps in a row, to its end"] == count + 1


def test_steps_at_once_share_a_call(calls: dict[str, int]) -> None:
    """Ten steps that end together are committed together."""
    assert calls["start a run of 10 steps at once, to its end"] == 2


def test_a_signal_wakes_in_its_own_call(calls: dict[str, int]) -> None:
    """Delivering, claiming and reading the run are one call; then there is one for the step and one for the end."""
    assert calls["signal that wakes the run: one step, then its end"] == 3
    assert calls["signal that nobody waits for yet"] == 1


def test_the_guide_has_these_numbers(round_trips: ModuleType) -> None:
    """The table in docs/deploy/cloudflare.md is what the script measures: run tests/round_trips.py after a change."""
    page = round_trips.PAGE.read_text(encoding="utf-8")
    assert round_trips.with_table(page, asyncio.run(round_trips.measure())) == page
