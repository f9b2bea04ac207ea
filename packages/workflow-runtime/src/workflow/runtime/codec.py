"""Payload encryption or compression between the runtime and its store."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Protocol

from workflow.core.records import (
    ClaimedRun,
    Commit,
    Committed,
    CreatedRun,
    Delivered,
    Lease,
    LogRecord,
    Mail,
    NewMail,
    NewRun,
    RunRecord,
    Transition,
)

from .contract import Capabilities, ClaimLimits, ExecutionStore, HeldLease, Renewal, RunFilter

__all__ = ["Codec", "CodecStore"]


class Codec(Protocol):
    """Turns payload text into other text and back: `decode(encode(text)) == text`. Raise to refuse a damaged payload.

    Payloads are inputs, outputs, results, errors, signal payloads, decisions and states. Ids, names, titles and times are
    not: the store needs them.
    """

    def encode(self, text: str) -> str: ...

    def decode(self, text: str) -> str: ...


class CodecStore(ExecutionStore):
    """A store whose payloads go through a codec. Everything else is the inner store's."""

    def __init__(self, inner: ExecutionStore, codec: Codec) -> None:
        self.inner = inner
        self._codec = codec

    @property
    def capabilities(self) -> Capabilities:
        return self.inner.capabilities

    async def create_run(self, new: NewRun, *, lease: Lease | None, now: datetime) -> CreatedRun:
        created = await self.inner.create_run(replace(new, input=self._codec.encode(new.input)), lease=lease, now=now)
        return replace(created, run=self._run(created.run), claimed=self._claimed(created.claimed))

    async def claim_run(self, run_id: str, lease: Lease, *, now: datetime, force: bool = False) -> ClaimedRun | None:
        return self._claimed(await self.inner.claim_run(run_id, lease, now=now, force=force))

    async def commit(self, commit: Commit) -> Committed:
        encoded = replace(
            commit,
            records=tuple(replace(record, payload=self._encoded(record.payload)) for record in commit.records),
            state=self._encoded(commit.state),
            transition=self._transition(commit.transition),
        )
        committed = await self.inner.commit(encoded)
        return replace(committed, mail=self._mail(committed.mail)) if committed.mail else committed

    async def deliver(self, run_id: str, mail: NewMail, *, lease: Lease | None, now: datetime) -> Delivered:
        encoded = replace(mail, payload=self._codec.encode(mail.payload))
        delivered = await self.inner.deliver(run_id, encoded, lease=lease, now=now)
        run = self._run(delivered.run) if delivered.run is not None else None
        return replace(delivered, run=run, claimed=self._claimed(delivered.claimed))

    async def get_run(self, run_id: str) -> RunRecord | None:
        run = await self.inner.get_run(run_id)
        return None if run is None else self._run(run)

    async def read_log(self, run_id: str, *, after: int = -1, limit: int | None = None) -> Sequence[LogRecord]:
        return self._log(await self.inner.read_log(run_id, after=after, limit=limit))

    async def claim_due(
        self, workflow_ids: Collection[str], lease: Lease, *, limits: ClaimLimits, now: datetime
    ) -> Sequence[ClaimedRun]:
        claimed = await self.inner.claim_due(workflow_ids, lease, limits=limits, now=now)
        return [decoded for run in claimed if (decoded := self._claimed(run)) is not None]

    async def renew(self, held: Collection[HeldLease], *, until: datetime, now: datetime) -> Sequence[Renewal]:
        return await self.inner.renew(held, until=until, now=now)

    async def next_due(self, workflow_ids: Collection[str]) -> datetime | None:
        return await self.inner.next_due(workflow_ids)

    async def wait_for_work(self, workflow_ids: Collection[str]) -> None:
        await self.inner.wait_for_work(workflow_ids)

    async def list_runs(self, query: RunFilter) -> Sequence[RunRecord]:
        return [self._run(run) for run in await self.inner.list_runs(query)]

    async def purge(self, older_than: datetime, *, workflow_id: str | None = None, limit: int = 1000) -> int:
        return await self.inner.purge(older_than, workflow_id=workflow_id, limit=limit)

    async def migrate(self) -> None:
        await self.inner.migrate()

    async def check(self) -> None:
        await self.inner.check()

    async def close(self) -> None:
        await self.inner.close()

    async def close_loop(self) -> None:
        await self.inner.close_loop()

    def _encoded(self, text: str | None) -> str | None:
        return None if text is None else self._codec.encode(text)

    def _decoded(self, text: str | None) -> str | None:
        return None if text is None else self._codec.decode(text)

    def _transition(self, transition: Transition | None) -> Transition | None:
        if transition is None:
            return None
        return replace(transition, output=self._encoded(transition.output), error=self._encoded(transition.error))

    def _run(self, run: RunRecord) -> RunRecord:
        return replace(
            run,
            input=self._codec.decode(run.input),
            output=self._decoded(run.output),
            error=self._decoded(run.error),
            state=self._decoded(run.state),
        )

    def _log(self, records: Sequence[LogRecord]) -> tuple[LogRecord, ...]:
        return tuple(replace(record, payload=self._decoded(record.payload)) for record in records)

    def _mail(self, mail: Sequence[Mail]) -> tuple[Mail, ...]:
        return tuple(replace(item, payload=self._codec.decode(item.payload)) for item in mail)

    def _claimed(self, claimed: ClaimedRun | None) -> ClaimedRun | None:
        if claimed is None:
            return None
        return replace(claimed, run=self._run(claimed.run), log=self._log(claimed.log), mail=self._mail(claimed.mail))
