"""Why a run does not go on, in plain words, from its row alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from shlex import quote
from typing import Literal

from workflow.core import DefinitionError, ErrorInfo
from workflow.core.records import RunRecord, RunStatus, Wait

from .contract import ExecutionStore, RunFilter
from .registry import Registry

__all__ = ["Diagnosis", "DiagnosisCode", "diagnose", "diagnose_open"]

DiagnosisCode = Literal[
    "ended",
    "driven",
    "abandoned",
    "ready",
    "delayed",
    "limited",
    "waiting",
    "overdue",
    "blocked",
    "postponed",
    "unknown",
    "broken",
]

OPEN: tuple[RunStatus, ...] = ("queued", "running", "paused")
_PAGE = 200

PATIENCE = timedelta(minutes=1)
"""What is due for longer than this has nobody who drives it."""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What a run does or waits for at this moment.

    `stuck` tells that somebody has to do something: start a worker, deploy, or look into a failure. `summary` is one
    sentence, `details` are further ones, `remedy` is what helps.
    """

    run_id: str
    workflow_id: str
    code: DiagnosisCode
    stuck: bool
    summary: str
    details: tuple[str, ...] = ()
    remedy: str | None = None


def diagnose(run: RunRecord, registry: Registry, now: datetime, patience: timedelta = PATIENCE) -> Diagnosis:
    """What `WorkflowRuntime.why_stuck` says."""
    return _Diagnoser(run, registry, now, patience).diagnose()


async def diagnose_open(store: ExecutionStore, registry: Registry, now: datetime, limit: int) -> list[Diagnosis]:
    """What `WorkflowRuntime.diagnose_open` says."""
    found: list[Diagnosis] = []
    query = RunFilter(status=frozenset(OPEN), limit=min(limit, _PAGE))
    while query.limit:
        runs = await store.list_runs(query)
        found += [diagnose(run, registry, now) for run in runs]
        if len(runs) < query.limit:
            break
        before = (runs[-1].created_at, runs[-1].run_id)
        query = replace(query, before=before, limit=min(limit - len(found), _PAGE))
    return found


class _Diagnoser:
    def __init__(self, run: RunRecord, registry: Registry, now: datetime, patience: timedelta) -> None:
        self._run = run
        self._now = now
        self._patience = patience
        self._missing = _missing(run, registry)
        self._queue = registry.queues.get(run.queue_name)

    def diagnose(self) -> Diagnosis:
        run = self._run
        if run.ended:
            return self._says("ended", False, f"It has ended {run.status}{_reason(run)}.")
        by_status: dict[str, Callable[[], Diagnosis]] = {
            "running": self._running,
            "queued": self._queued,
            "paused": self._paused,
        }
        return by_status[run.status]()

    def _says(
        self, code: DiagnosisCode, stuck: bool, summary: str, *details: str, remedy: str | None = None
    ) -> Diagnosis:
        return Diagnosis(self._run.run_id, self._run.workflow_id, code, stuck, summary, details, remedy)

    @property
    def _late(self) -> timedelta:
        """For how long it has been due; negative before that."""
        assert self._run.due_at is not None
        return self._now - self._run.due_at

    def _running(self) -> Diagnosis:
        run, recovered = self._run, self._recovered()
        if run.due_at is None:
            return self._broken()
        if self._late < timedelta():
            owner = f"{run.owner} drives it, and holds its lease for another {_span(-self._late)} unless it is renewed"
            return self._says("driven", False, f"{owner}.", *recovered)
        summary = (
            f"Its owner {run.owner} has not renewed its lease, which ended {_span(self._late)} ago: it died or stalled"
        )
        return self._not_taken("abandoned", summary, *recovered)

    def _queued(self) -> Diagnosis:
        if self._run.due_at is None:
            return self._broken()
        if self._late < timedelta():
            return self._says("delayed", False, f"It starts in {_span(-self._late)}, as it was asked to.")
        return self._not_taken("ready", f"It has been ready for {_span(self._late)}")

    def _paused(self) -> Diagnosis:
        run = self._run
        blocked = next((wait for wait in run.waits if wait.kind == "blocked"), None)
        if blocked is not None:
            return self._blocked(blocked)
        if run.due_at is not None and self._late >= timedelta():
            return self._not_taken("overdue", f"Its time came {_span(self._late)} ago", *self._waits())
        if run.due_at is None and not any(wait.mail_key for wait in run.waits):
            return self._broken()
        first, *more = self._waits()
        also = tuple(f"Or: {wait}" for wait in more)
        return self._says("waiting", False, first, *also, remedy=self._delivery())

    def _blocked(self, wait: Wait) -> Diagnosis:
        when = f"It is looked at again {self._when(wait.until)}."
        if wait.id == "postponed":
            remedy = "Start a process that has it, or make what failed work again; then it goes on by itself."
            summary = f"It could not be driven where it was tried: {wait.detail}"
            return self._says("postponed", True, summary, when, *self._waits(), remedy=remedy)
        remedy = (
            "Deploy code that fits its log (or the version it began with, in previous_versions), or cancel the run."
        )
        return self._says("blocked", True, f"It is blocked: {wait.detail}", when, *self._waits(), remedy=remedy)

    def _not_taken(self, code: DiagnosisCode, summary: str, *details: str) -> Diagnosis:
        if self._missing is not None:
            remedy = "Start a worker or sweep of a deployment that has it."
            return self._says("unknown", True, f"{summary}. {self._missing}", *details, remedy=remedy)
        if self._queue is not None and self._queue.limited and self._run.status != "running":
            limits = f"It is in the queue {self._queue.name!r}, which allows {self._queue.in_words}."
            remedy = (
                "If nothing of that queue goes on either, start `workflow worker`, or see why the sweeps don't come."
            )
            return self._says(
                "limited", False, f"{summary}, and goes on when its queue has room.", limits, *details, remedy=remedy
            )
        if self._late < self._patience:
            return self._says(code, False, f"{summary}; the next sweep or worker takes it.", *details)
        remedy = "Start `workflow worker`, or see why the sweeps don't come, or end early."
        return self._says(code, True, f"{summary}, and nobody takes it.", *details, remedy=remedy)

    def _broken(self) -> Diagnosis:
        summary = "Nothing will ever wake it: it has neither a lease, nor a due time, nor anything to wait for."
        return self._says("broken", True, summary, remedy="This is a bug, of the store most likely. Please report it.")

    # Words

    def _recovered(self) -> tuple[str, ...]:
        times = self._run.recoveries
        return (f"It was taken over {times} times in a row from owners that died or stalled.",) if times else ()

    def _waits(self) -> tuple[str, ...]:
        return tuple(self._wait(wait) for wait in self._run.waits if wait.kind != "blocked")

    def _delivery(self) -> str | None:
        """The command that brings what it waits for, where only one thing does."""
        awaited = [wait for wait in self._run.waits if wait.mail_key]
        if len(awaited) != 1:
            return None
        (wait,), run_id = awaited, quote(self._run.run_id)
        if wait.kind == "approval":
            return f"workflow runs approve {run_id} {quote(wait.id)} [--reject]"
        return f"workflow runs signal {run_id} {quote(wait.name or '')} --payload JSON"

    def _wait(self, wait: Wait) -> str:
        until = "" if wait.until is None else f"; its time is up {self._when(wait.until)}"
        if wait.kind == "signal":
            return f"It waits for the signal {wait.name!r}{until}."
        if wait.kind == "approval":
            return f"It waits for a decision on {wait.name!r} (approval {wait.id!r}){until}."
        if wait.kind == "retry":
            return f"Step {wait.id!r} has failed, and is tried again {self._when(wait.until)}."
        return f"It sleeps ({wait.id!r}) and wakes {self._when(wait.until)}."

    def _when(self, at: datetime | None) -> str:
        if at is None:
            return "never"
        distance = at - self._now
        stamp = f"{at:%Y-%m-%d %H:%M:%S} UTC"
        return f"in {_span(distance)} ({stamp})" if distance > timedelta() else f"now (since {stamp})"


def _missing(run: RunRecord, registry: Registry) -> str | None:
    """What this process lacks to drive it; None where it has all of it."""
    try:
        workflow = registry.find(run.workflow_id)
    except DefinitionError as error:
        return str(error)
    if workflow is None:
        return f"Workflow {run.workflow_id!r} is not registered here."
    if workflow.for_version(run.workflow_version) is None:
        known = ", ".join(map(repr, workflow.versions))
        return f"Version {run.workflow_version!r} of workflow {run.workflow_id!r} is not here (here are: {known})."
    return None


def _reason(run: RunRecord) -> str:
    if run.error is None:
        return ""
    error = ErrorInfo.model_validate_json(run.error)
    return f": {error.type}: {error.message}"


def _span(length: timedelta) -> str:
    """A length of time in its two largest units."""
    seconds = int(length.total_seconds())
    if seconds < 1:
        return "less than a second"
    parts: list[str] = []
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        number, seconds = divmod(seconds, size)
        parts += [f"{number} {unit}"] if number else []
    return " ".join(parts[:2])
