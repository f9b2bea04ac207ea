"""The JSON documents that only the command line has; what it shares with HTTP is in `workflow.runtime.answers`.

Their fields are stable: new ones may come, none goes or changes its meaning.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict

from workflow.core.events import WorkflowEvent
from workflow.runtime.answers import RunAnswer
from workflow.runtime.diagnosis import Diagnosis
from workflow.runtime.results import Run

from .schedule_documents import ScheduleProblem

__all__ = ["DiagnosisAnswer", "DoctorReport", "MigrateReport", "PurgeReport", "RunDocument", "WorkerEnd"]


class DiagnosisAnswer(BaseModel):
    """What a run does or waits for; `stuck` where somebody has to do something about it."""

    model_config = ConfigDict(from_attributes=True)

    run_id: str
    workflow_id: str
    code: str
    stuck: bool
    summary: str
    details: list[str] = []
    remedy: str | None = None


class RunDocument(BaseModel):
    """`runs show`."""

    run: RunAnswer
    diagnosis: DiagnosisAnswer
    events: list[WorkflowEvent]

    @classmethod
    def of(cls, run: Run[Any], diagnosis: Diagnosis, events: Sequence[Any]) -> RunDocument:
        return cls(run=RunAnswer.of(run), diagnosis=DiagnosisAnswer.model_validate(diagnosis), events=list(events))


class MigrateReport(BaseModel):
    """`migrate`. `problem` is null where the schema is what this package needs."""

    problem: str | None = None


class WorkerEnd(BaseModel):
    """The last line of `worker`: how many drives came to what, and how many runs were handed back unfinished."""

    kinds: dict[str, int]
    handed_back: int


class PurgeReport(BaseModel):
    """`purge`: how many runs were deleted."""

    deleted: int


class DoctorReport(BaseModel):
    """`doctor`. `open` counts the runs that have not ended, by what they do; `stuck` are those that need somebody."""

    healthy: bool
    schema_problem: str | None = None
    workflows: list[str] = []
    workflow_problems: dict[str, str] = {}
    next_due: datetime | None = None
    open: dict[str, int] = {}
    examined: int = 0
    complete: bool = True
    stuck: list[DiagnosisAnswer] = []
    schedules: list[ScheduleProblem] = []
    """Those that don't fire, or should have fired (`wrong`)."""
