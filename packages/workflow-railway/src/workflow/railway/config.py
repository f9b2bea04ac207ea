"""`railway.toml`: written for a cron service, and held to Railway's rules."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from workflow.core import InvalidArgumentError

__all__ = ["MIGRATE", "MIN_GAP", "check_file", "cron_problems", "make_toml", "smallest_gap"]

MIN_GAP = 5
"""Minutes that must lie between any two firings."""

MIGRATE = "python -m workflow.store.postgres migrate"
"""What brings the schema up to date before a new version runs; it takes the database from DATABASE_URL."""

_RANGES = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))
_NAMES = ("minute", "hour", "day of month", "month", "day of week")
_WORDS: tuple[tuple[str, ...], ...] = (
    (),
    (),
    (),
    ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"),
    ("sun", "mon", "tue", "wed", "thu", "fri", "sat"),
)


def make_toml(app: str, cron: str, *, builder: str = "RAILPACK", migrate: str = MIGRATE) -> str:
    """A railway.toml that runs the sweep of an app. Raises `InvalidArgumentError` for a schedule that Railway
    refuses.

    `builder` is Railway's word for what makes the image; `migrate` the command of a deploy, before anything runs.
    """
    if problems := cron_problems(cron):
        raise InvalidArgumentError(" ".join(problems))
    module, _, name = app.partition(":")
    if not module or not name or any(char.isspace() or char in "\"'\\" for char in app):
        raise InvalidArgumentError(f"{app!r} is no path of a runtime: write it as 'package.module:name'.")
    if any(char in '"\\' or ord(char) < 32 for char in migrate):
        raise InvalidArgumentError(f"{migrate!r} can't be written into railway.toml: it has quotes or line ends.")
    return _TEMPLATE.format(app=app, cron=cron, builder=builder, migrate=migrate)


_TEMPLATE = """\
# The cron service of {app}. Railway reads it at each deploy; its times are UTC.

[build]
builder = "{builder}"

[deploy]
# Once before a new version runs, so that no firing meets an old schema.
preDeployCommand = ["{migrate}"]
startCommand = "python -m workflow.railway {app}"
cronSchedule = "{cron}"
# The next firing is the retry.
restartPolicyType = "NEVER"
"""


def check_file(path: Path) -> list[str]:
    """What is wrong with a railway.toml or railway.json, in words."""
    try:
        text = path.read_text(encoding="utf-8")
        document: Any = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except (OSError, ValueError) as error:
        return [f"{path} can't be read: {error}"]
    deploy: Any = cast("Mapping[str, Any]", document).get("deploy") if isinstance(document, Mapping) else None
    if not isinstance(deploy, Mapping):
        return [f"{path} has no [deploy]."]
    return _deploy_problems(cast("Mapping[str, Any]", deploy))


def _deploy_problems(deploy: Mapping[str, Any]) -> list[str]:
    found: list[str] = []
    cron = deploy.get("cronSchedule")
    found += cron_problems(cron) if isinstance(cron, str) else ["cronSchedule is missing: nothing starts the sweep."]
    command = deploy.get("startCommand")
    if not isinstance(command, str) or "workflow.railway" not in command:
        found.append("startCommand does not run 'python -m workflow.railway package.module:runtime'.")
    if deploy.get("restartPolicyType") != "NEVER":
        found.append('restartPolicyType is not "NEVER": Railway would start the sweep again as soon as it has ended.')
    return found


def cron_problems(cron: str) -> list[str]:
    """Why Railway would refuse a schedule, in words; nothing if it takes it."""
    try:
        gap = smallest_gap(cron)
    except InvalidArgumentError as error:
        return [str(error)]
    if gap < MIN_GAP:
        return [
            f"{cron!r} fires twice within {gap} minutes, and Railway wants {MIN_GAP} between any two firings. "
            "A step that does not divide 60 is short at the end of each hour: use */5, */10, */15, */20 or */30."
        ]
    return []


def smallest_gap(cron: str) -> int:
    """The fewest minutes between two firings, taking every day as one on which it fires."""
    fields = cron.split()
    if len(fields) != len(_RANGES):
        raise InvalidArgumentError(
            f"{cron!r} has {len(fields)} fields: a schedule has five (minute hour day month weekday)."
        )
    minutes, hours, *_ = (_values(field, position) for position, field in enumerate(fields))
    firings = sorted(hour * 60 + minute for hour in hours for minute in minutes)
    following = [*firings[1:], firings[0] + 24 * 60]
    return min(later - earlier for earlier, later in zip(firings, following, strict=True))


def _values(field: str, position: int) -> set[int]:
    values: set[int] = set()
    for part in field.lower().split(","):
        span, slash, step = part.partition("/")
        every = _number(step, field, position) if slash else 1
        if every < 1:
            raise _bad(field, position)
        first, last = _span(span, slash != "", field, position)
        values.update(range(first, last + 1, every))
    return values


def _span(span: str, stepped: bool, field: str, position: int) -> tuple[int, int]:
    low, high = _RANGES[position]
    if span == "*":
        return low, high
    start, dash, end = span.partition("-")
    first = _number(start, field, position)
    last = _number(end, field, position) if dash else (high if stepped else first)
    if not low <= first <= last <= high:
        raise _bad(field, position)
    return first, last


def _number(text: str, field: str, position: int) -> int:
    if text in _WORDS[position]:
        return _WORDS[position].index(text) + (1 if position == 3 else 0)
    if not (text.isascii() and text.isdigit() and len(text) <= 2):
        raise _bad(field, position)
    return int(text)


def _bad(field: str, position: int) -> InvalidArgumentError:
    low, high = _RANGES[position]
    return InvalidArgumentError(f"{field!r} is no {_NAMES[position]} of a schedule: numbers from {low} to {high}.")
