"""Ticks whose input can't be had: they cost themselves, and nothing else."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from workflow.runtime import ExecutionStore, MemoryStore, Schedule, every
from workflow.runtime.codec import CodecStore

from .runtime_kit import asynchronous
from .schedule_kit import START, Host, at, end_run, history, row, state, told

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)


def hourly_host(store: ExecutionStore, **options: Any) -> Host:
    return Host(store, [Schedule("s", every.hours(1), **options)])


def run_of(hour: int) -> str:
    return f"report:s:2026-01-01T{hour:02}:00:00Z"


def broken_at(*hours: int) -> Any:
    """An input that can't be made for the ticks of these hours."""

    def make(tick: datetime) -> str:
        if tick.hour in hours:
            raise LookupError("no figures")
        return f"{tick:%H}"

    return make


@pytest.mark.parametrize("overlap", ["cancel_previous", "terminate_previous"])
@asynchronous
async def test_a_tick_without_an_input_stops_nothing(overlap: Any) -> None:
    """Whether a tick has an input is known before anything is stopped in its favour: a broken one costs only itself."""
    store = MemoryStore()
    hourly = hourly_host(store, overlap=overlap, input=broken_at(2))
    await hourly.look(START)
    await hourly.look(START + HOUR)
    done = await hourly.look(START + 2 * HOUR)
    assert (done.started, done.cancelled) == ([], [])
    run = await store.get_run(run_of(1))
    assert run is not None and (run.status, run.mail_count) == ("queued", 0)
    assert await told(store) == ["started 01-01:00", "skipped 01-02:00"]
    assert "LookupError: no figures" in str((await history(store))[-1].detail)
    assert (await row(store)).due_at == at("2026-01-01T03:00")


@asynchronous
async def test_a_tick_without_an_input_does_not_take_the_place_of_one_that_waits() -> None:
    """With `cancel_previous` the tick that waits goes on waiting, and starts when the run before it has ended."""
    store = MemoryStore()
    hourly = hourly_host(store, overlap="cancel_previous", input=broken_at(3, 4))
    for hour in range(5):
        await hourly.look(START + HOUR * hour)
    assert (await state(store)).waiting == at("2026-01-01T02:00")
    await end_run(store, run_of(1), START + 4 * HOUR)
    await hourly.look(START + 4 * HOUR + MINUTE)
    assert await told(store) == [
        *("started 01-01:00", "buffered 01-02:00", "skipped 01-03:00", "skipped 01-04:00", "started 01-02:00"),
    ]


class Doubling:
    """A codec whose texts are twice as long."""

    def encode(self, text: str) -> str:
        return text * 2

    def decode(self, text: str) -> str:
        return text[: len(text) // 2]


@pytest.mark.parametrize("overlap", ["allow", "cancel_previous", "terminate_previous"])
@asynchronous
async def test_an_input_that_is_too_large_when_it_is_encoded_costs_its_tick(overlap: Any) -> None:
    """A codec may make a text longer than the store takes: the history says so, and the schedule goes on."""
    inner = MemoryStore()
    vars(inner)["capabilities"] = replace(inner.capabilities, max_payload=100)
    store = CodecStore(inner, Doubling())
    sizes = {1: 10, 2: 70, 3: 10}
    hourly = hourly_host(store, overlap=overlap, input=lambda tick: "x" * sizes[tick.hour])
    for hour in range(3):
        await hourly.look(START + HOUR * hour)
    assert await told(inner) == ["started 01-01:00", "skipped 01-02:00"]
    assert "encoded, has 144 bytes" in str((await history(inner))[-1].detail)
    run = await inner.get_run(run_of(1))
    assert run is not None and (run.status, run.mail_count) == ("queued", 0)
    await end_run(inner, run_of(1), START + 2 * HOUR)
    await hourly.look(START + 3 * HOUR)
    assert (await told(inner))[2:] == ["started 01-03:00"]
