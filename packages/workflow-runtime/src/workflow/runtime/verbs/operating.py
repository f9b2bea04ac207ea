"""What people do with runs that went wrong, or are over."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from workflow.core import InvalidArgumentError, RunNotFoundError
from workflow.core.arguments import Duration, aware, identifier
from workflow.core.deliveries import reason_text
from workflow.core.records import LogRecord, NewRun, RunRecord
from workflow.runtime.diagnosis import Diagnosis, diagnose, diagnose_open
from workflow.runtime.driving import Budget
from workflow.runtime.results import RunResult
from workflow.runtime.retrying import plan_rerun, plan_retry
from workflow.runtime.spans import count, span, wanted_id

from .parts import RuntimeParts, check_same_workflow, chosen_id

__all__ = ["Operating"]

_PURGE_BATCH = 1000


class Operating(RuntimeParts):
    """The verbs of an operator."""

    async def retry_run(
        self,
        run_id: str,
        *,
        from_step: str | None = None,
        reason: str | None = None,
        drive: bool = True,
        max_duration: Duration | None = None,
        include_events: bool = True,
        now: datetime | None = None,
    ) -> RunResult[Any]:
        """Let a run that has failed or was cancelled go on from its last good checkpoint, and drive it.

        Steps that had finished before the one that failed keep their results; that one gets all its attempts anew, and
        what came after it (compensation, say) is executed when the handler comes to it again. `from_step` names another
        step to go back to. A run that failed in the handler itself goes on where it was, with the code as it is now.
        Signals and decisions received since then are in the inbox again. A time limit begins anew.

        The log keeps what was, and a `RUN_RETRIED` event with the `reason`. Atomic; of two retries at once one happens,
        and the other answers with the state that it has led to. Raises `RunNotFoundError`, and `InvalidArgumentError`
        for a run that has completed or has not ended, or has no such step.
        """
        reason_text(reason, "The reason to retry")
        wanted_id(from_step, "from_step")
        budget = self._budget(now, max_duration)
        at = budget.clock.now()
        run, log = await self._ended_run(run_id)
        timeout = self._registry.timeout(run.workflow_id)
        plan = plan_retry(run, log, from_step=from_step, reason=reason, timeout=timeout, now=at)
        reopened = await self.store.reopen(
            run_id,
            expected_index=len(log),
            record=plan.record,
            mail=plan.mail,
            expires_at=plan.expires_at,
            now=at,
        )
        if reopened is None:
            return await self._state_of(run_id)
        return await self._go_on(reopened, budget, drive, include_events)

    async def rerun_from(
        self,
        run_id: str,
        step_id: str,
        *,
        new_run_id: str | None = None,
        drive: bool = True,
        max_duration: Duration | None = None,
        include_events: bool = True,
        now: datetime | None = None,
    ) -> RunResult[Any]:
        """Start a new run that has everything of this one up to a step, and goes on with that step; drive it.

        The run itself stays as it is, and may be in any state. The new one has the same input and version, queue, key
        and priority, and its own idempotency keys. Idempotent by `new_run_id`, as `start_run`. Raises
        `RunNotFoundError`, and `InvalidArgumentError` for a step that the run has not come to, or an id that another
        workflow's run has.
        """
        identifier(step_id, "step_id")
        wanted_id(new_run_id, "new_run_id")
        budget = self._budget(now, max_duration)
        at = budget.clock.now()
        run, log = await self._run_and_log(run_id)
        plan = plan_rerun(run, log, step_id, timeout=self._registry.timeout(run.workflow_id), now=at)
        new = NewRun(
            chosen_id(run.workflow_id, new_run_id, "new_run_id"),
            run.workflow_id,
            run.workflow_version,
            run.input,
            at,
            queue=run.queue,
            key=run.key,
            priority=run.priority,
            expires_at=plan.expires_at,
            log=plan.log,
        )
        created = await self.store.create_run(new, lease=None, now=at)
        if not created.created:
            check_same_workflow(created.run, run.workflow_id)
            return self._state_result(created.run, created.run.status)
        return replace(await self._go_on(created.run, budget, drive, include_events), created=True)

    async def _go_on(self, run: RunRecord, budget: Budget, drive: bool, include_events: bool) -> RunResult[Any]:
        """Drive a run that is ready now, or leave it to whoever finds it."""
        claimed = await self._claim_one(run, budget.clock.now()) if drive else None
        if claimed is not None:
            return await self._driver.drive(claimed, self.owner, budget, keep_events=include_events)
        if run.due_at is not None:
            self._bell.ring(run.due_at)
        return self._state_result(run, run.status)

    async def _run_and_log(self, run_id: str) -> tuple[RunRecord, Sequence[LogRecord]]:
        """Row and log, of which the row is read first: a log that has grown since is cut to it."""
        run = await self.store.get_run(identifier(run_id, "run_id"))
        if run is None:
            raise RunNotFoundError(run_id)
        return run, (await self.store.read_log(run_id))[: run.log_length]

    async def _ended_run(self, run_id: str) -> tuple[RunRecord, Sequence[LogRecord]]:
        run, log = await self._run_and_log(run_id)
        if run.status not in ("errored", "cancelled"):
            what = "has completed" if run.status == "completed" else f"has not ended (it is {run.status})"
            raise InvalidArgumentError(
                f"Run {run_id!r} {what}: only a run that has failed or was cancelled can be retried. To go on from a "
                "step in a new run, use rerun_from."
            )
        return run, log

    async def _state_of(self, run_id: str) -> RunResult[Any]:
        run = await self.store.get_run(run_id)
        return RunResult("not_found", run_id) if run is None else self._state_result(run, run.status)

    async def why_stuck(self, run_id: str) -> Diagnosis:
        """What a run does or waits for, in plain words, and what helps if it is stuck. Raises `RunNotFoundError`."""
        run = await self.store.get_run(identifier(run_id, "run_id"))
        if run is None:
            raise RunNotFoundError(run_id)
        return diagnose(run, self._registry, self.clock.now())

    async def diagnose_open(self, *, limit: int = 1000) -> Sequence[Diagnosis]:
        """The same for the runs that have not ended, the newest `limit` of them."""
        count(limit, "limit", least=1)
        return await diagnose_open(self.store, self._registry, self.clock.now(), limit)

    async def purge(
        self,
        older_than: datetime | timedelta,
        *,
        workflow_id: str | None = None,
        limit: int | None = None,
        now: datetime | None = None,
    ) -> int:
        """Delete runs that have ended before that time (or longer ago than that), in batches; returns how many.

        Runs that have not ended are never deleted. `limit` bounds the number.
        """
        wanted_id(workflow_id, "workflow_id")
        at = self._budget(now, None).clock.now()
        if isinstance(older_than, timedelta):
            before = at - span(older_than, "older_than")
        elif not isinstance(older_than, datetime):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidArgumentError(f"older_than must be a datetime or a timedelta, not {older_than!r:.100}.")
        else:
            before = aware(older_than, "older_than")
        left = None if limit is None else count(limit, "limit")
        total = 0
        while left is None or total < left:
            batch = _PURGE_BATCH if left is None else min(_PURGE_BATCH, left - total)
            deleted = await self.store.purge(before, workflow_id=workflow_id, limit=batch)
            total += deleted
            if deleted < batch:
                break
        return total
