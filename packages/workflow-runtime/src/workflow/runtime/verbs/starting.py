"""Starting runs."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, TypeVar, overload

from workflow.core import InvalidArgumentError, Workflow
from workflow.core.arguments import Duration
from workflow.core.payload import check_size
from workflow.core.records import ClaimedRun, CreatedRun, NewRun
from workflow.runtime.placing import Placement, place
from workflow.runtime.results import RunResult
from workflow.runtime.spans import span

from .parts import RuntimeParts, check_same_workflow, chosen_id

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
        queue: str | None = None,
        key: str | None = None,
        priority: int | None = None,
        timeout: Duration | None = None,
        debounce: Duration | None = None,
        connection: Any = None,
        max_duration: Duration | None = None,
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
        queue: str | None = None,
        key: str | None = None,
        priority: int | None = None,
        timeout: Duration | None = None,
        debounce: Duration | None = None,
        connection: Any = None,
        max_duration: Duration | None = None,
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
        queue: str | None = None,
        key: str | None = None,
        priority: int | None = None,
        timeout: Duration | None = None,
        debounce: Duration | None = None,
        connection: Any = None,
        max_duration: Duration | None = None,
        include_events: bool = True,
        now: datetime | None = None,
    ) -> RunResult[Any]:
        """Start a run, and drive it until it ends, pauses, or `max_duration` (seconds) is spent.

        Idempotent by `run_id`: if there is a run of this id its state is returned with `created=False`, whatever its
        input, and nothing is executed. With `drive=False` the run is only enqueued, for a sweep or worker; with a
        `delay` as well, and it starts no earlier than that.

        - `queue`, `key`, `priority`, `timeout`: instead of what the workflow's `Registration` says; see there. A run
          whose queue has no room is `queued`, and goes on when there is some.
        - `debounce`: enqueue it for so much later; a run of this `run_id` (which must be given) that is still waiting
          to begin gets the new input and waits anew. So of many starts in a row one run comes, with the last input.
        - `connection`: create the run in the transaction that is open on it, of the store's database (docs say which
          kinds each store takes). It is there when that transaction is committed, and never if it is rolled back. It
          is not driven here, whatever `drive` says: a worker or sweep finds it after the commit.

        Raises `InvalidArgumentError` (unknown workflow, bad id, an id that another workflow's run has, a
        `connection` that won't do) and `PayloadError` (the input does not fit). What goes wrong in the workflow is in
        the result.
        """
        definition = self._registry.get(workflow)
        budget = self._budget(now, max_duration)
        at = budget.clock.now()
        later = _later(delay, debounce, run_id)
        run_id = chosen_id(definition.id, run_id)
        text, value = self._input_text(definition, input, run_id)
        new = NewRun(
            run_id, definition.id, definition.version, text, at + later, replace_unstarted=debounce is not None
        )
        new = place(self._registry, new, value, Placement(queue, key, priority, timeout))
        if connection is not None:
            created = await self.store.create_run_within(connection, new, now=at)
            check_same_workflow(created.run, definition.id)
            return self._state_result(created.run, created.run.status, created=created.created)
        drive = drive and delay is None and debounce is None
        created, claimed = await self._create(new, drive, at)
        if claimed is not None:
            return await self._driver.drive(claimed, self.owner, budget, keep_events=include_events, created=True)
        if created.created or (debounce is not None and created.run.status == "queued"):
            self._bell.ring(new.due_at)
            await self._publisher.expect(new.due_at)
        check_same_workflow(created.run, definition.id)
        return self._state_result(created.run, created.run.status, created=created.created)

    async def _create(self, new: NewRun, drive: bool, at: datetime) -> tuple[CreatedRun, ClaimedRun | None]:
        """Create a run, and claim it for a drive. Where its queue has limits, they are asked after it is there."""
        limited = new.queue is not None
        lease = self._driver.lease(self.owner, at) if drive and not limited else None
        created = await self.store.create_run(new, lease=lease, now=at)
        if drive and limited and created.created:
            return created, await self._claim_one(created.run, at)
        return created, created.claimed

    def _input_text(self, definition: Workflow[Any, Any], input: Any, run_id: str) -> tuple[str, Any]:
        """The input as text, and as the handler will see it."""
        what = f"The input of run {run_id!r} of workflow {definition.id!r}"
        text, value = definition.input_type.coerce(input, what)
        check_size(text, self.store.capabilities.max_payload, what)
        return text, value


def _later(delay: Duration | None, debounce: Duration | None, run_id: str | None) -> timedelta:
    if delay is not None and debounce is not None:
        raise InvalidArgumentError("Give delay= or debounce=, not both.")
    if debounce is not None:
        if run_id is None:
            raise InvalidArgumentError("debounce= needs run_id=: the same for all starts that are to become one run.")
        return span(debounce, "debounce")
    return span(delay, "delay") if delay is not None else timedelta(0)
