"""Starting runs."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any, TypeVar, overload
from uuid import uuid4

from workflow.core import InvalidArgumentError, Workflow
from workflow.core.arguments import Duration, identifier
from workflow.core.payload import check_size
from workflow.core.records import NewRun, RunRecord
from workflow.runtime.results import RunResult
from workflow.runtime.spans import span

from .parts import RuntimeParts

__all__ = ["Starting"]

InputT = TypeVar("InputT")
OutputT = TypeVar("OutputT")


class Starting(RuntimeParts):
    """The verbs that start runs."""

    @overload
    async def start_run(
        self,
        workflow: Workflow[InputT, OutputT],
        *,
        run_id: str | None = None,
        input: InputT | dict[str, Any] | None = None,
        drive: bool = True,
        delay: Duration | None = None,
        max_duration: float | None = None,
        include_events: bool = True,
        now: datetime | None = None,
    ) -> RunResult[OutputT]: ...
    @overload
    async def start_run(
        self,
        workflow: str,
        *,
        run_id: str | None = None,
        input: Any = None,
        drive: bool = True,
        delay: Duration | None = None,
        max_duration: float | None = None,
        include_events: bool = True,
        now: datetime | None = None,
    ) -> RunResult[Any]: ...
    async def start_run(
        self,
        workflow: Workflow[Any, Any] | str,
        *,
        run_id: str | None = None,
        input: Any = None,
        drive: bool = True,
        delay: Duration | None = None,
        max_duration: float | None = None,
        include_events: bool = True,
        now: datetime | None = None,
    ) -> RunResult[Any]:
        """Start a run, and drive it until it ends, pauses, or `max_duration` (seconds) is spent.

        Idempotent by `run_id`: if there is a run of this id its state is returned with `created=False`, whatever its
        input, and nothing is executed. With `drive=False` the run is only enqueued, for a sweep or worker; with a
        `delay` as well, and it starts no earlier than that.

        Raises `InvalidArgumentError` (unknown workflow, bad id, an id that another workflow's run has) and
        `PayloadError` (the input does not fit). What goes wrong in the workflow is in the result.
        """
        definition = self._registry.get(workflow)
        run_id = identifier(run_id, "run_id") if run_id is not None else f"{definition.id}:{uuid4()}"
        budget = self._budget(now, max_duration)
        at = budget.clock.now()
        due_at = at if delay is None else at + span(delay, "delay")
        new = NewRun(run_id, definition.id, definition.version, self._input_text(definition, input, run_id), due_at)
        lease = self._driver.lease(self.owner, at) if drive and delay is None else None
        created = await self.store.create_run(new, lease=lease, now=at)
        if created.claimed is not None:
            result = await self._driver.drive(created.claimed, self.owner, budget, keep_events=include_events)
            return replace(result, created=True)
        if created.created:
            self._bell.ring(due_at)
        self._check_same_workflow(created.run, definition)
        return self._state_result(created.run, created.run.status, created=created.created)

    def _input_text(self, definition: Workflow[Any, Any], input: Any, run_id: str) -> str:
        what = f"The input of run {run_id!r} of workflow {definition.id!r}"
        text, _ = definition.input_type.coerce(input, what)
        check_size(text, self.store.capabilities.max_payload, what)
        return text

    def _check_same_workflow(self, run: RunRecord, definition: Workflow[Any, Any]) -> None:
        if run.workflow_id != definition.id:
            raise InvalidArgumentError(
                f"There is a run {run.run_id!r} already, of workflow {run.workflow_id!r}: a run of "
                f"{definition.id!r} needs another run_id."
            )
