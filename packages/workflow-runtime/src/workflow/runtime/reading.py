"""Looking at runs: one, many, their log, and their log as it grows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Sequence
from datetime import datetime
from typing import Any, get_args

from workflow.core import ErrorInfo, InvalidArgumentError, RunNotFoundError
from workflow.core.arguments import Duration, aware
from workflow.core.events import Event, RunErrored, RunFinished
from workflow.core.journal import read_events
from workflow.core.payload import Json
from workflow.core.records import LogRecord, RunRecord, RunStatus

from .contract import ExecutionStore, RunFilter
from .cursor import decode_cursor, encode_cursor
from .driving import Driver
from .publishing import Publisher
from .results import Run, RunPage
from .spans import count, span, wanted_id

__all__ = ["Reader"]

_FIRST_POLL = 0.02
_LAST_POLL = 1.0


class Reader:
    """The runtime's reading side. Nothing here writes."""

    def __init__(self, store: ExecutionStore, driver: Driver, publisher: Publisher) -> None:
        self._store = store
        self._driver = driver
        self._publisher = publisher

    async def get_run(self, run_id: str) -> Run[Any] | None:
        run = await self._store.get_run(run_id)
        return None if run is None else self._driver.view(run)

    async def list_runs(
        self,
        workflow_id: str | None,
        status: RunStatus | Collection[RunStatus] | None,
        created_from: datetime | None,
        created_until: datetime | None,
        limit: int,
        cursor: str | None,
    ) -> RunPage:
        count(limit, "limit", least=1)
        query = RunFilter(
            workflow_id=wanted_id(workflow_id, "workflow_id"),
            status=_statuses(status),
            created_from=None if created_from is None else aware(created_from, "created_from"),
            created_until=None if created_until is None else aware(created_until, "created_until"),
            before=decode_cursor(cursor) if cursor is not None else None,
            limit=limit + 1,
        )
        rows = await self._store.list_runs(query)
        more = len(rows) > limit
        rows = rows[:limit]
        next_cursor = encode_cursor(rows[-1].created_at, rows[-1].run_id) if more else None
        return RunPage(tuple(self._driver.view(row) for row in rows), next_cursor)

    async def get_timeline(self, run_id: str, after: int, limit: int | None) -> Sequence[Event]:
        run = await self._store.get_run(run_id)
        if run is None:
            raise RunNotFoundError(run_id)
        return await self._events(run, await self._store.read_log(run_id, after=after, limit=limit))

    async def stream(self, run_id: str, after: int) -> AsyncIterator[Event]:
        watcher = self._publisher.watch(run_id)
        try:
            poll = _FIRST_POLL
            while True:
                watcher.clear()
                # The row is read first: what an ended run has in its log then is all there will ever be.
                run = await self._store.get_run(run_id)
                if run is None:
                    raise RunNotFoundError(run_id)
                records = await self._store.read_log(run_id, after=after)
                for event in await self._events(run, records):
                    yield event
                if run.ended:
                    return
                if records:
                    after, poll = records[-1].index, _FIRST_POLL
                poll = await _pause(watcher, poll)
        finally:
            self._publisher.unwatch(run_id, watcher)

    async def wait_for_run(self, run_id: str, timeout: Duration | None) -> Run[Any] | None:
        limit = None if timeout is None else span(timeout, "timeout").total_seconds()
        watcher = self._publisher.watch(run_id)
        expiry = asyncio.timeout(limit)
        try:
            run = await self._store.get_run(run_id)  # it looks once, however short the time is
            poll = _FIRST_POLL
            async with expiry:
                while run is not None and not run.ended:
                    poll = await _pause(watcher, poll)
                    watcher.clear()
                    run = await self._store.get_run(run_id)
        except TimeoutError:
            if not expiry.expired():
                raise  # the store's
            raise TimeoutError(f"Run {run_id!r} has not ended within {limit:g} s.") from None
        finally:
            self._publisher.unwatch(run_id, watcher)
        return None if run is None else self._driver.view(run)

    async def _events(self, run: RunRecord, records: Sequence[LogRecord]) -> Sequence[Event]:
        """The events of records. How a run ended is in its row, once: it is put into the event that says so."""
        events = read_events(run.run_id, records)
        if events and isinstance(events[-1], (RunFinished, RunErrored)):
            if not run.ended:  # it ended after its row was read
                run = await self._store.get_run(run.run_id) or run
            events[-1] = _with_end(events[-1], run)
        return events


def _with_end(event: Event, run: RunRecord) -> Event:
    if isinstance(event, RunFinished) and run.output is not None:
        return event.model_copy(update={"output": Json(run.output)})
    if isinstance(event, RunErrored) and run.error is not None:
        return event.model_copy(update={"error": ErrorInfo.model_validate_json(run.error)})
    return event


async def _pause(watcher: asyncio.Event, poll: float) -> float:
    """Wait for news of this process, or for the next look at what others do: rarer and rarer."""
    try:
        async with asyncio.timeout(poll):
            await watcher.wait()
        return _FIRST_POLL
    except TimeoutError:
        return min(poll * 1.5, _LAST_POLL)


def _statuses(status: RunStatus | Collection[RunStatus] | None) -> frozenset[RunStatus] | None:
    if status is None:
        return None
    try:
        wanted: frozenset[Any] = frozenset({status} if isinstance(status, str) else status)
    except TypeError:
        wanted = frozenset({repr(status)})
    if unknown := wanted - set(get_args(RunStatus)):
        raise InvalidArgumentError(
            f"Unknown status {', '.join(sorted(map(repr, unknown)))}: use {', '.join(get_args(RunStatus))}."
        )
    return wanted
