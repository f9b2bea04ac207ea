"""What a drive comes to."""

from __future__ import annotations

from typing import Any, Literal

from workflow.core.events import ErrorInfo
from workflow.core.records import RunRecord, hot

__all__ = ["DriveKind", "DriveOutcome"]

DriveKind = Literal["completed", "errored", "cancelled", "paused", "queued", "lost", "postponed"]


@hot
class DriveOutcome:
    """How a drive left its run.

    `queued`: it yielded and is ready to go on. `lost`: another owner has the run now, and nothing was written since.
    `postponed`: nothing could be done here and now (an unknown version, a middleware that failed); due again later.
    `run` is the row as this drive left it, `output` the output as the handler's type says.
    """

    kind: DriveKind
    run: RunRecord
    output: Any = None
    error: ErrorInfo | None = None
    exception: BaseException | None = None
    """The exception behind `error`, where it happened in this drive."""
