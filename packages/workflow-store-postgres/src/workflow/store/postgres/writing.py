"""What is written in groups: creations, commits, deliveries. Each is one statement, and a look where needed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from workflow.core.records import (
    ENDED,
    ClaimedRun,
    Commit,
    Committed,
    CreatedRun,
    Delivered,
    Lease,
    Mail,
    NewMail,
    RunRecord,
)

from .commits import (
    GOES_ON,
    RELEASED,
    answer_from_row,
    append_args,
    commit_args,
    commit_row,
    finish_args,
    is_short,
    outcome_of,
    size_of,
)
from .connector import Connector
from .creations import Creation, created, creation_args, is_plain, whole_args
from .drivers import BusyError
from .groups import Again, Group
from .rows import LOG, MAIL, REST, Row, as_json, encode, log_from_arrays, mail_from_arrays, run_record, utc
from .statements import Statements

__all__ = ["Delivery", "Undecided", "Writing", "delivered", "delivery_args"]

Undecided = Exception | type[Again]


@dataclass(frozen=True, slots=True)
class Delivery:
    run_id: str
    mail: NewMail
    lease: Lease | None
    now: datetime


class Writing:
    """The groups of one event loop."""

    def __init__(self, sql: Statements, connector: Connector, *, writers: int) -> None:
        self._sql = sql
        self._connector = connector
        self.commits: Group[Commit, Committed] = Group(self._write_commits, size=size_of, writers=writers)
        self.creates: Group[Creation, CreatedRun] = Group(
            self._write_creations, size=lambda creation: len(creation[0].input), writers=2
        )
        self.deliveries: Group[Delivery, Delivered] = Group(
            self._write_deliveries, size=lambda delivery: len(delivery.mail.payload), writers=1
        )

    async def drain(self) -> None:
        for group in (self.commits, self.creates, self.deliveries):
            await group.drain()

    # -- Commits

    async def _write_commits(self, commits: Sequence[Commit]) -> Sequence[Committed | Undecided]:
        if len(commits) == 1 and is_short(commits[0]):
            return [await self._write_short(commits[0])]
        if len(commits) == 1:
            found = await self._connector.fetch(self._sql.commit, *commit_args(commits[0]))
        else:
            found = await self._connector.fetch(self._sql.commit_many, *as_json(map(commit_row, commits)))
        rows = {row[0]: row for row in found}
        answers: list[Committed | None] = [
            answer_from_row(rows[n]) if n in rows else None for n in range(1, len(commits) + 1)
        ]
        if None not in answers:
            return [answer for answer in answers if answer is not None]
        open_ = [commit for commit, answer in zip(commits, answers, strict=True) if answer is None]
        seen = await self._look(open_)
        return [
            answer or _decided(commit, seen.get(commit.run_id), applied=rows.get(n))
            for n, (commit, answer) in enumerate(zip(commits, answers, strict=True), 1)
        ]

    async def _write_short(self, commit: Commit) -> Committed | Undecided:
        sql, transition, one = self._sql, commit.transition, len(commit.records) == 1
        if transition is None:
            rows = await self._connector.fetch(sql.append_one if one else sql.append_two, *append_args(commit))
        else:
            args = finish_args(commit, transition)
            rows = await self._connector.fetch(sql.finish_one if one else sql.finish_two, *args)
        ended = transition is not None
        if rows and (ended or rows[0][0] <= commit.seen_mail):
            return RELEASED if ended else GOES_ON
        seen = await self._look([commit])
        return _decided(commit, seen.get(commit.run_id), applied=(1, ended) if rows else None)

    async def _look(self, commits: Sequence[Commit]) -> dict[str, tuple[RunRecord, tuple[Mail, ...]]]:
        """The rows, and their mail after what each commit has seen, as they are now."""
        asked = as_json((commit.run_id, commit.seen_mail) for commit in commits)
        rows = await self._connector.fetch(self._sql.look, *asked, False)
        return {row[0]: (run_record(row), mail_from_arrays(row[MAIL])) for row in rows}

    # -- Creations

    async def _write_creations(self, creations: Sequence[Creation]) -> Sequence[CreatedRun | Undecided]:
        if len(creations) == 1 or not all(is_plain(new) for new, _, _ in creations):
            return [await self._write_creation(creation) for creation in creations]
        try:
            rows = await self._connector.fetch(self._sql.create_many, *as_json(map(creation_args, creations)))
        except BusyError:
            return [await self._write_creation(creation) for creation in creations]
        found = {row[0]: row for row in rows}
        return [created(creation, found[n]) for n, creation in enumerate(creations, 1)]

    async def _write_creation(self, creation: Creation) -> CreatedRun | Undecided:
        plain = is_plain(creation[0])
        sql, args = (self._sql.create, creation_args) if plain else (self._sql.create_whole, whole_args)
        try:
            (row,) = await self._connector.fetch(sql, *args(creation))
        except BusyError:
            return Again  # a transaction of the app has created a run of this id, and takes its time
        return created(creation, row)

    # -- Deliveries

    async def _write_deliveries(self, deliveries: Sequence[Delivery]) -> Sequence[Delivered | Undecided]:
        asked = [delivery_args(delivery) for delivery in deliveries]
        if len(asked) == 1:
            rows = await self._connector.fetch(self._sql.deliver, *asked[0])
        else:
            rows = await self._connector.fetch(self._sql.deliver_many, *as_json(asked))
        found = {row[REST]: row for row in rows}
        stale = [row[0] for row in rows if row[REST + 3] and not row[REST + 6]]
        again = await self._reread(stale) if stale else {}
        return [delivered(delivery, found[n], again) for n, delivery in enumerate(deliveries, 1)]

    async def _reread(self, run_ids: list[str]) -> dict[str, Row]:
        rows = await self._connector.fetch(self._sql.look, *as_json((run_id, 0) for run_id in run_ids), True)
        return {row[0]: row for row in rows}


def _decided(
    commit: Commit, seen: tuple[RunRecord, tuple[Mail, ...]] | None, *, applied: Row | None
) -> Committed | Undecided:
    run, mail = seen or (None, ())
    if applied is None:
        return outcome_of(commit, run, mail) or Again
    if run is None or run.fence != commit.fence or run.status in ENDED:
        return Committed(applied[1])  # it has moved on since then
    return Committed(applied[1], tuple(new for new in mail if new.seq not in commit.consumed))


def delivery_args(delivery: Delivery) -> tuple[Any, ...]:
    mail, lease = delivery.mail, delivery.lease
    claim = (None, None) if lease is None else (lease.owner, utc(lease.until))
    text = (encode(mail.name), encode(mail.payload), encode(mail.key))
    return (delivery.run_id, mail.kind, mail.id, *text, utc(delivery.now), *claim)


def delivered(delivery: Delivery, row: Row, again: dict[str, Row]) -> Delivered | Undecided:
    _, accepted, awaited, claims, locked, known, fresh, repeated = row[REST : REST + 8]
    if not locked:
        return Again if known else Delivered("not_found")
    run = run_record(row)
    if not accepted:
        if repeated or run.status not in ENDED:
            return Delivered("duplicate", run)
        # The mail might have come after the snapshot: then the run has changed since, too.
        return Delivered("ended", run) if fresh else Again
    if not claims:
        return Delivered("accepted", run, awaited)
    if fresh:
        log, mail = log_from_arrays(*row[LOG]), (*mail_from_arrays(row[MAIL]), _put(delivery, run))
    else:
        newer = again[run.run_id]
        log, mail = log_from_arrays(*newer[LOG]), mail_from_arrays(newer[MAIL])
    return Delivered("accepted", run, awaited, ClaimedRun(run, log, mail, "queued"))


def _put(delivery: Delivery, run: RunRecord) -> Mail:
    """The mail that this delivery has put in, which its own statement doesn't see."""
    mail = delivery.mail
    return Mail(mail.kind, mail.id, mail.name, mail.payload, run.mail_count, utc(delivery.now))
