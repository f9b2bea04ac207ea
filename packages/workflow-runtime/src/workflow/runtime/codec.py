"""Payload encryption or compression between the runtime and its store."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Protocol

from workflow.core import ErrorInfo, StoreError
from workflow.core.payload import check_size
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
    Wait,
)
from workflow.core.transactions import Transaction

from .contract import ClaimLimits, ExecutionStore, HeldLease, Renewal, RunFilter
from .queues import Queue
from .schedules.records import ScheduleCommit, ScheduleKey, ScheduleRecord, TickRecord

__all__ = ["Codec", "CodecStore"]

logger = logging.getLogger("workflow.runtime")

_UNDECODABLE = "undecodable"
_LATER = timedelta(seconds=60)
"""When a run that can't be decoded is looked at again."""


class Codec(Protocol):
    """Turns payload text into other text and back: `decode(encode(text)) == text`. Raise to refuse a damaged payload.

    Payloads are inputs, outputs, results, errors, signal payloads, decisions and states. Ids, names, times, and the
    titles, descriptions and `meta` of operations are not: they are for people who look into the store.
    """

    def encode(self, text: str) -> str: ...

    def decode(self, text: str) -> str: ...


class _EncodedTransaction(Transaction):
    """A database step whose commit is encoded."""

    def __init__(self, inner: Transaction, encode: Callable[[Commit], Commit]) -> None:
        self.run_id = inner.run_id
        self.isolation = inner.isolation
        self.is_async = inner.is_async
        self._inner = inner
        self._encode = encode

    @property
    def failure(self) -> BaseException | None:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self._inner.failure

    def begin(self) -> None:
        self._inner.begin()

    def call(self, connection: Any) -> Any:
        return self._inner.call(connection)

    async def turn(self) -> None:
        await self._inner.turn()

    def commit(self, result: Any) -> Commit:
        return self._encode(self._inner.commit(result))

    def fail(self, error: Exception) -> Exception:
        return self._inner.fail(error)


class CodecStore(ExecutionStore):
    """A store whose payloads go through a codec. Everything else is the inner store's.

    A run with a payload that the codec can't decode is not driven: it is put back for a while, with the reason, and the
    others go on. Whoever looks at it sees the reason as its error.
    """

    def __init__(self, inner: ExecutionStore, codec: Codec) -> None:
        self.inner = inner
        self._codec = codec
        # The contract declares capabilities on the class; these are those of the store inside.
        vars(self)["capabilities"] = inner.capabilities

    async def create_run(self, new: NewRun, *, lease: Lease | None, now: datetime) -> CreatedRun:
        created = await self.inner.create_run(self._encoded_run(new), lease=lease, now=now)
        claimed = await self._claimed(created.claimed, now)
        return replace(created, run=self._shown(created.run), claimed=claimed)

    async def claim_run(self, run_id: str, lease: Lease, *, now: datetime, force: bool = False) -> ClaimedRun | None:
        return await self._claimed(await self.inner.claim_run(run_id, lease, now=now, force=force), now)

    async def commit(self, commit: Commit) -> Committed:
        return self._shown_committed(commit.run_id, await self.inner.commit(self._encoded_commit(commit)))

    async def deliver(self, run_id: str, mail: NewMail, *, lease: Lease | None, now: datetime) -> Delivered:
        delivered = await self.inner.deliver(run_id, self._encoded_mail(mail), lease=lease, now=now)
        claimed = await self._claimed(delivered.claimed, now)
        if claimed is None and delivered.claimed is not None:
            return replace(delivered, run=await self.get_run(run_id), claimed=None)
        run = self._shown(delivered.run) if delivered.run is not None else None
        return replace(delivered, run=run, claimed=claimed)

    async def transact(self, transaction: Transaction) -> Committed:
        committed = await self.inner.transact(_EncodedTransaction(transaction, self._encoded_commit))
        return self._shown_committed(transaction.run_id, committed)

    async def create_run_within(self, connection: Any, new: NewRun, *, now: datetime) -> CreatedRun:
        created = await self.inner.create_run_within(connection, self._encoded_run(new), now=now)
        return replace(created, run=self._shown(created.run))

    async def deliver_within(self, connection: Any, run_id: str, mail: NewMail, *, now: datetime) -> Delivered:
        delivered = await self.inner.deliver_within(connection, run_id, self._encoded_mail(mail), now=now)
        return delivered if delivered.run is None else replace(delivered, run=self._shown(delivered.run))

    async def get_run(self, run_id: str) -> RunRecord | None:
        run = await self.inner.get_run(run_id)
        return None if run is None else self._shown(run)

    async def read_log(self, run_id: str, *, after: int = -1, limit: int | None = None) -> Sequence[LogRecord]:
        return self._log(run_id, await self.inner.read_log(run_id, after=after, limit=limit))

    async def claim_due(
        self,
        workflow_ids: Collection[str],
        lease: Lease,
        *,
        limits: ClaimLimits,
        now: datetime,
        without: Collection[str] = (),
    ) -> Sequence[ClaimedRun]:
        claimed = await self.inner.claim_due(workflow_ids, lease, limits=limits, now=now, without=without)
        return await self._all_claimed(claimed, now)

    async def claim_queue(
        self,
        queue: Queue,
        workflow_ids: Collection[str],
        lease: Lease,
        *,
        limits: ClaimLimits,
        now: datetime,
        by_age: bool = False,
        run_id: str | None = None,
    ) -> Sequence[ClaimedRun]:
        claimed = await self.inner.claim_queue(
            queue, workflow_ids, lease, limits=limits, now=now, by_age=by_age, run_id=run_id
        )
        return await self._all_claimed(claimed, now)

    async def read_schedules(self, keys: Collection[ScheduleKey] | None = None) -> Sequence[ScheduleRecord]:
        return await self.inner.read_schedules(keys)

    async def commit_schedule(self, commit: ScheduleCommit) -> bool:
        starts = tuple(self._encoded_run(new) for new in commit.starts)
        mail = commit.cancel_mail and replace(
            commit.cancel_mail, payload=self._codec.encode(commit.cancel_mail.payload)
        )
        return await self.inner.commit_schedule(replace(commit, starts=starts, cancel_mail=mail))

    async def list_ticks(
        self, key: ScheduleKey, *, limit: int = 50, before: tuple[int, int] | None = None
    ) -> Sequence[tuple[tuple[int, int], TickRecord]]:
        return await self.inner.list_ticks(key, limit=limit, before=before)

    async def reopen(
        self,
        run_id: str,
        *,
        expected_index: int,
        record: LogRecord,
        mail: Sequence[NewMail],
        expires_at: datetime | None,
        now: datetime,
    ) -> RunRecord | None:
        run = await self.inner.reopen(
            run_id,
            expected_index=expected_index,
            record=self._encoded_record(record),
            mail=[replace(item, payload=self._codec.encode(item.payload)) for item in mail],
            expires_at=expires_at,
            now=now,
        )
        return None if run is None else self._shown(run)

    async def renew(self, held: Collection[HeldLease], *, until: datetime, now: datetime) -> Sequence[Renewal]:
        return await self.inner.renew(held, until=until, now=now)

    async def next_due(self, workflow_ids: Collection[str], *, without: Collection[str] = ()) -> datetime | None:
        return await self.inner.next_due(workflow_ids, without=without)

    async def wait_for_work(self, workflow_ids: Collection[str]) -> None:
        await self.inner.wait_for_work(workflow_ids)

    async def list_runs(self, query: RunFilter) -> Sequence[RunRecord]:
        return [self._shown(run) for run in await self.inner.list_runs(query)]

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

    # Encoding

    def _encoded(self, text: str | None) -> str | None:
        return None if text is None else self._codec.encode(text)

    def check_input(self, new: NewRun) -> None:
        """Raise `PayloadError` if the input of a run to come is too large when it is encoded."""
        self._encoded_input(new)

    def _encoded_input(self, new: NewRun) -> str:
        return self._fitting(new.input, f"The input of run {new.run_id!r}, encoded,")

    def _encoded_run(self, new: NewRun) -> NewRun:
        return replace(
            new,
            input=self._encoded_input(new),
            log=tuple(self._encoded_record(record) for record in new.log),
            state=self._encoded(new.state),
        )

    def _encoded_record(self, record: LogRecord) -> LogRecord:
        return replace(record, payload=self._encoded(record.payload))

    def _encoded_commit(self, commit: Commit) -> Commit:
        return replace(
            commit,
            records=tuple(self._encoded_record(record) for record in commit.records),
            state=self._encoded(commit.state),
            transition=self._transition(commit.transition),
        )

    def _encoded_mail(self, mail: NewMail) -> NewMail:
        return replace(mail, payload=self._fitting(mail.payload, f"The payload of {mail.kind} {mail.id!r}, encoded,"))

    def _fitting(self, text: str, what: str) -> str:
        encoded = self._codec.encode(text)
        check_size(encoded, self.capabilities.max_payload, what)
        return encoded

    def _transition(self, transition: Transition | None) -> Transition | None:
        if transition is None:
            return None
        waits = transition.waits and tuple(self._reason(wait, self._encoded) for wait in transition.waits)
        output, error = self._encoded(transition.output), self._encoded(transition.error)
        return replace(transition, output=output, error=error, waits=waits)

    def _reason(self, wait: Wait, change: Callable[[str | None], str | None]) -> Wait:
        """Why a run is blocked is the text of an error, unless it is our own."""
        error = wait.kind == "blocked" and wait.id != _UNDECODABLE
        return replace(wait, detail=change(wait.detail)) if error else wait

    # Decoding

    def _decode(self, run_id: str, text: str | None) -> str | None:
        try:
            return None if text is None else self._codec.decode(text)
        except Exception as error:
            raise StoreError(
                f"The codec can't decode a payload of run {run_id!r} ({type(error).__name__}: {error}). "
                "Was it written with another key, or without a codec?"
            ) from error

    def _text(self, run_id: str, text: str) -> str:
        return self._decode(run_id, text) or ""

    def _run(self, run: RunRecord) -> RunRecord:
        decode = partial(self._decode, run.run_id)
        return replace(
            run,
            input=self._text(run.run_id, run.input),
            output=decode(run.output),
            error=decode(run.error),
            state=decode(run.state),
            waits=tuple(self._reason(wait, decode) for wait in run.waits),
        )

    def _shown(self, run: RunRecord) -> RunRecord:
        """The row for those who look: where it can't be decoded, without its payloads, and with the reason."""
        try:
            return self._run(run)
        except StoreError as error:
            waits = tuple(self._reason(wait, lambda _: None) for wait in run.waits)
            reason = ErrorInfo.of(error).model_dump_json()
            return replace(run, input="null", output=None, error=reason, state=None, waits=waits)

    def _log(self, run_id: str, records: Sequence[LogRecord]) -> tuple[LogRecord, ...]:
        return tuple(replace(record, payload=self._decode(run_id, record.payload)) for record in records)

    def _shown_committed(self, run_id: str, committed: Committed) -> Committed:
        return replace(committed, mail=self._mail(run_id, committed.mail)) if committed.mail else committed

    def _mail(self, run_id: str, mail: Sequence[Mail]) -> tuple[Mail, ...]:
        return tuple(replace(item, payload=self._text(run_id, item.payload)) for item in mail)

    async def _claimed(self, claimed: ClaimedRun | None, now: datetime) -> ClaimedRun | None:
        if claimed is None:
            return None
        run_id = claimed.run.run_id
        try:
            run, log = self._run(claimed.run), self._log(run_id, claimed.log)
            return replace(claimed, run=run, log=log, mail=self._mail(run_id, claimed.mail))
        except StoreError as error:
            logger.error("%s The run is put back, to be looked at again later.", error)
            await self._put_back(claimed.run, now)
            return None

    async def _all_claimed(self, claimed: Sequence[ClaimedRun], now: datetime) -> Sequence[ClaimedRun]:
        return [decoded for run in claimed if (decoded := await self._claimed(run, now)) is not None]

    async def _put_back(self, run: RunRecord, now: datetime) -> None:
        until = now + _LATER
        blocked = Wait("blocked", _UNDECODABLE, detail="The codec can't decode a payload of this run.", until=until)
        waits = (*(wait for wait in run.waits if wait.kind != "blocked"), blocked)
        release = Transition("paused", until, waits, error=run.error, recoveries=None)
        lease = Lease(run.owner or "", until)
        await self.inner.commit(
            Commit(run.run_id, run.fence, run.log_length, now, lease, seen_mail=run.mail_count, transition=release)
        )
