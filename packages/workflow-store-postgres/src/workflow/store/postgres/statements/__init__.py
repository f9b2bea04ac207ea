"""The SQL of the store, and how it works.

A run is one row of `workflow_runs`. Whoever changes its log or its inbox holds the lock on that row, in the same
statement, so the row is the run's mutex and its counters (`log_length`, `mail_count`, `fence`) are always exact.

**One operation, one statement.** Each is a chain of CTEs that runs by itself, outside of any transaction block: it is
its own transaction and costs one round trip. Read a chain from its top:

    asked       what the caller wants, as a relation; `n` numbers what was asked
    held        the rows that satisfy the guard, locked
    moved       these rows, changed; RETURNING says what became of them
    appended, consumed, written     what hangs on it, driven by the rows of `moved` or `held` only

A row that does not satisfy its guard is not in `held`, so nothing at all happens for it, and the caller looks why.

**No statement waits for the lock of a row.** It passes over what another transaction holds (SKIP LOCKED) and the store
asks again a moment later. So a statement that moves hundreds of runs can't be held up by one of them, say, by a
transaction of the app that has delivered a signal and now takes its time; and as nobody waits for a row while holding
another, there is no deadlock, in whatever order rows are locked. Inserts of runs can wait, for a rival insert of the
same id; a group does them in the order of the ids, so no two groups wait for each other, and a rival that takes its
time (a transaction of the app that has created a run) makes the statement fail after a moment, and the store ask again.

**Several statements.** A claim from a queue with limits, and a schedule that stops runs with a tick, are transactions:
see `queueing` and `scheduling`. They, too, wait for no row of a run.

**Transactions of others.** `create_within`, `deliver_within` and `commit_within` are parts of a longer transaction, of
the app's or of a database step's. They wait for what they need, as that transaction's own statements do.

**Snapshots.** Under READ COMMITTED all parts of a statement see what was committed when it began. Except for the rows
that it locks: of those it sees the newest version, and the guard is evaluated on it again. So the row is the truth,
and what else was read may be older. Two things follow. Decisions are made by the row's own columns: a pause is
refused by `mail_count`, never by a look at the mail. And where the log or the mail is read, `revision`, which grows
with every change, tells whether they belong to the row: the snapshot's differs from the locked row's where they don't.
In that rare case a claim leaves the run alone, and is asked for again; a delivery, which has happened, reads again.

**Plans.** The look-up of the row is LATERAL with a lock in it, and asks for nothing that another index has (see
`STATUS` in `parts`). No planner can turn that into anything but one probe of the primary key for each row asked for:
statistics, however old, don't matter. `wake_at` is what the index of due runs holds; see the migration for why it isn't
`due_at`.

**Notices.** What leaves a run queued says so with NOTIFY, in the same transaction, to whoever waits for work. Only
that: a transaction that notifies takes a lock of the whole database while it commits, so a run that goes on does not.

Statements exist in two forms made from one text: for one (scalar parameters, planned and run faster) and for many.
Those for many take one JSON text for all: a driver looks at the type of each element of an array, which on the client
costs more than all the rest of a group commit. (Large payloads would be cheaper as arrays, but most are small.) Each
parameter has a cast: drivers differ in what they make of a Python value.
"""

from __future__ import annotations

from collections.abc import Iterable

from . import claiming, committing, creating, delivering, queueing, reading, scheduling
from .parts import channel_of, quoted, waiting, with_schema

__all__ = ["Statements", "channel_of", "quoted", "with_schema"]


class Statements:
    """All statements, for one schema."""

    def __init__(self, schema: str) -> None:
        def fill(sql: str) -> str:
            return with_schema(sql.strip(), schema).replace(":channel", f"'{channel_of(schema)}'")

        self.get = fill(reading.GET)
        self.look = fill(reading.LOOK)
        self.read_log = fill(reading.READ_LOG)
        self.list = fill(reading.LIST % "$7::text IS NULL")
        self.list_workflow = fill(reading.LIST % "r.workflow_id = $7::text")
        self.next_due = fill(reading.NEXT_DUE)
        self.create = fill(creating.create(many=False))
        self.create_many = fill(creating.create(many=True))
        self.create_whole = fill(creating.create_whole())
        self.claim_run = fill(claiming.CLAIM_RUN)
        self.claim_due = fill(claiming.CLAIM_DUE)
        self.queue_lock = queueing.LOCK_QUEUE
        self.queue_by_order = fill(queueing.by_order())
        self.queue_by_keys = fill(queueing.by_keys(by_age=False))
        self.queue_by_keys_and_age = fill(queueing.by_keys(by_age=True))
        self.queue_by_run = fill(queueing.by_run())
        self.claim_chosen = fill(queueing.CLAIM_CHOSEN)
        self.renew = fill(claiming.RENEW)
        self.held = fill(claiming.HELD)
        self.append_one, self.append_two = fill(committing.append(1)), fill(committing.append(2))
        self.finish_one, self.finish_two = fill(committing.finish(1)), fill(committing.finish(2))
        self.commit = fill(committing.commit(many=False))
        self.commit_many = fill(committing.commit(many=True))
        self.deliver = fill(delivering.deliver(many=False))
        self.deliver_many = fill(delivering.deliver(many=True))
        # In a transaction of the app's, and in one of a step's: see `waiting`.
        self.create_within = fill(creating.create(many=False, patient=True))
        self.create_whole_within = waiting(fill(creating.create_whole(patient=True)))
        self.deliver_within = waiting(self.deliver)
        self.commit_within = waiting(self.commit)
        self.move_schedule = fill(scheduling.move_schedule())
        self.schedules = fill(scheduling.READ_SCHEDULES % scheduling.ALL_SCHEDULES)
        self.these_schedules = fill(scheduling.READ_SCHEDULES % scheduling.THESE_SCHEDULES)
        self.list_ticks = fill(scheduling.LIST_TICKS)
        self.lock_runs = fill(scheduling.LOCK_RUNS)
        self.terminate = fill(scheduling.TERMINATE)
        self.reopen = fill(scheduling.REOPEN)
        self.purge = fill(creating.PURGE)
        self.version = fill(reading.VERSION)

    def texts(self) -> Iterable[tuple[str, str]]:
        """Names and texts."""
        return vars(self).items()
