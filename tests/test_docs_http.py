"""The guide to the HTTP API knows all of it."""

from __future__ import annotations

import re
from pathlib import Path

from workflow.runtime.http.problems import _TITLES as STATUSES  # pyright: ignore[reportPrivateUsage]
from workflow.runtime.http.routes import ROUTES

PAGE = (Path(__file__).resolve().parent.parent / "docs" / "http.md").read_text("utf-8")


def rows(heading: str) -> dict[str, str]:
    """The rows of the table under a heading: the first cell, and the whole row."""
    section = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")][2:]
    return {line.split("|")[1].strip(): line for line in lines}


def test_every_route_has_its_row_with_its_fields() -> None:
    """Each route is in the table with the fields that only it takes, and the table has no others."""
    table = rows("Routes")
    assert sorted(table) == sorted(f"`{route.method} {route.path}`" for route in ROUTES)
    for route in ROUTES:
        model = route.body or route.query
        fields = set(model.model_fields) - {"drive", "include_events"} if model is not None else set[str]()
        told = table[f"`{route.method} {route.path}`"].split("|")[2]
        assert set(re.findall(r"`(\w+)`", told)) == fields or "the bounds" in told, route.path


def test_every_status_is_explained() -> None:
    """Each status that a problem may have is in the table of errors."""
    assert set(re.findall(r"\d{3}", " ".join(rows("Errors")))) == {str(status) for status in STATUSES}
