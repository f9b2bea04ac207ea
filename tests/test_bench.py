"""The benchmark's own arithmetic and pages. What it measures is not asserted anywhere: that is no test's business."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from bench.catalog import CATALOG
from bench.goals import goals
from bench.page import filled
from bench.plans import shortened
from bench.results import Report, medians
from bench.rows import number, rows
from bench.sizes import FULL, QUICK

ROOT = Path(__file__).resolve().parent.parent


def _speed(single: float, at_once: float) -> dict[str, Any]:
    return {
        "single_ms": {"1": single, "5": single, "20": single},
        "at_once": {count: {"per_second": at_once, "cpu_ms": 1.0} for count in ("100", "1000")},
        "memory_mb": {"opened": 60.0, "peak": 64.0},
    }


def _report() -> Report:
    ours = [_speed(2.0, 2000.0), _speed(2.6, 1000.0), _speed(2.2, 3000.0)]
    return Report(
        when="2026-11-22",
        took_s=600,
        machine={"cores": "2 cores"},
        versions={"DBOS": "3.4.0"},
        sizes=json.loads(json.dumps(FULL.as_json())),
        rounds={
            "floor-single": {"speed": [_speed(2.0, 800.0)]},
            "floor-group": {"speed": [_speed(2.0, 6000.0)]},
            "ours-postgres": {"speed": ours, "sleepers": [{"per_second": 3000.0, "cpu_ms": 1.0}]},
            "absurd": {"speed": [_speed(14.0, 140.0)], "sleepers": [{"per_second": 500.0, "cpu_ms": 1.0}]},
            "dbos": {"speed": [_speed(30.0, 40.0)]},
        },
        scale={"1": 1000.0, "2": 1500.0},
    )


def test_medians_go_number_by_number():
    """Three rounds become one: the middle of each number, also where one round lacks it."""
    rounds = [{"a": {"x": 1.0}, "b": 5.0}, {"a": {"x": 9.0}}, {"a": {"x": 2.0}, "b": 7.0}]
    assert medians(rounds) == {"a": {"x": 2.0}, "b": 6.0}


@pytest.mark.parametrize(
    ("value", "text"), [(0.0345, "0.03"), (3.14159, "3.14"), (31.4159, "31.4"), (314.15, "314"), (12345.6, "12,346")]
)
def test_numbers_have_the_digits_that_count(value: float, text: str):
    """A table shows three digits, and never an exponent."""
    assert number(value) == text


def test_goals_are_ratios_within_a_round():
    """Our figures are held against those of the same round, and against the better peer, whichever that is."""
    found = {goal.title: goal for goal in goals(_report())}
    peer = found["1000 at once: runs/s, beside the best Python peer"]
    assert peer.ratio == pytest.approx(2000 / 140)
    assert peer.met
    assert found["one at a time, 5 steps: time, beside 6 bare commits"].ratio == pytest.approx(1.0)
    assert not found["1000 at once: runs/s, beside the group-commit floor"].met
    assert not any("resume" in title for title in found), "what was not measured has no ratio"


def test_a_report_survives_its_json():
    """The page can be drawn again from the file that a run has written."""
    report = _report()
    assert Report.model_validate_json(report.model_dump_json()) == report


def test_a_report_of_another_shape_is_refused():
    """A file of an older or a damaged run says what is wrong with it, instead of drawing half a page."""
    with pytest.raises(ValueError, match="surprise"):
        Report.model_validate({**json.loads(_report().model_dump_json()), "surprise": 1})


def test_the_page_has_a_place_for_every_part():
    """What is generated goes between the markers of docs/benchmark.md, and twice gives what once gives."""
    from bench.render import parts

    page = (ROOT / "docs" / "benchmark.md").read_text(encoding="utf-8")
    once = filled(page, parts(_report()))
    assert filled(once, parts(_report())) == once
    assert "| one at a time, 5 steps | ms | 2.00 | 2.00 | 2.20 | 14.0 | 30.0 |" in once
    assert "| 2 | 1,500 | 1.50 |" in once


def test_a_page_without_a_marker_is_an_error():
    """A marker that was lost in editing is named, and not passed over."""
    with pytest.raises(ValueError, match="goals"):
        filled("no markers", {"goals": ""})


def test_plans_are_shortened_to_what_was_read():
    """A plan on the page has the nodes that touched a table, the pages and the time."""
    plan = [
        "Aggregate  (cost=9.33..9.34 rows=1 width=8) (actual time=0.118..0.121 rows=1.00 loops=1)",
        "  Buffers: shared hit=12",
        "  ->  Index Scan using workflow_runs_due on workflow_runs r  (cost=0.1..8.4 rows=1 width=4)"
        " (actual time=0.01..0.02 rows=0.50 loops=2)",
        "        ->  Index Scan using workflow_runs_pkey on workflow_runs r_1  (cost=0.1..8.4) (never executed)",
        "Execution Time: 0.301 ms",
    ]
    assert shortened(plan) == [
        "Index Scan using workflow_runs_due on workflow_runs r: 0.5 rows, 0.020 ms",
        "in all: 0.301 ms, pages of shared buffers: hit=12",
    ]


@pytest.mark.parametrize("sizes", [FULL, QUICK])
def test_every_row_has_another_figure(sizes: Any):
    """No two rows of the table show the same number under different names."""
    paths = [row.path for row in rows(sizes.as_json())]
    assert len(paths) == len(set(paths))


def test_our_system_does_what_is_measured():
    """The measures run through on the memory store, with few runs, and give what the table's rows look for."""
    from bench.catalog import system
    from bench.measures import MEASURES
    from bench.rows import figure

    async def main() -> None:
        few = QUICK.as_json() | {"single": 1, "at_once": (2,), "sleepers": 2, "histories": (20,), "resumes": 1}
        sizes = type(QUICK)(**few)  # pyright: ignore[reportArgumentType]
        numbers: dict[str, Any] = {}
        for name in CATALOG["ours-memory"].measures:
            numbers |= await MEASURES[name](system("ours-memory", ""), sizes)
        wanted = [
            row for row in rows(sizes.as_json()) if "statements" not in row.path and "transactions" not in row.path
        ]
        assert [row.title for row in wanted if figure({"it": numbers}, "it", row.path) is None] == []

    asyncio.run(main())
