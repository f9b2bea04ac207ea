"""How mail is delivered.

The mail is inserted with the run's next number, unless the run has ended, is unknown, or had this mail before. Right
after that, and only then, the inbox holds a mail with the number after the last one that the row knows of, which is
`mail_count`. That is how the later statements of the batch know that this very delivery was accepted:

    1. insert the mail                                   where the run has not ended and the mail is new
    2. read the row, and whether the mail is in the inbox
    3. claim the run (four statements, see claims.py)    with a lease, where 1. inserted and the run is or gets ready
    4. count the mail, and make a waiting run ready      where 1. inserted
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from workflow.core.records import ClaimedRun, Delivered, Lease, NewMail, RunRecord

from .claims import claim_one, claimed_run
from .executor import Row, Statement
from .rows import RUN_COLUMNS, mail_key, micros, run_record

__all__ = ["AWAITED", "deliver_result", "deliver_statements"]

_INSERT = """
INSERT INTO workflow_mail (run_id, kind, id, seq, name, payload, sent_at)
SELECT run_id, ?, ?, mail_count + 1, ?, ?, ? FROM workflow_runs WHERE run_id = ? AND completed_at IS NULL
ON CONFLICT (run_id, kind, id) DO NOTHING
RETURNING seq
"""

_READ = f"""
SELECT {RUN_COLUMNS}, EXISTS (
    SELECT 1 FROM workflow_mail AS mail
    WHERE mail.run_id = workflow_runs.run_id AND mail.kind = ? AND mail.id = ?) AS known
FROM workflow_runs WHERE run_id = ?
"""

_ACCEPTED = """
run_id = ? AND EXISTS (
  SELECT 1 FROM workflow_mail AS mail WHERE mail.run_id = workflow_runs.run_id AND mail.kind = ? AND mail.id = ?
    AND mail.seq = workflow_runs.mail_count + 1)
"""

AWAITED = "(? = 'cancel' OR instr(awaits, ?) > 0)"

# A run that sleeps, or is queued for later, and waits for this mail.
_WOKEN = f"((status = 'paused' OR (status = 'queued' AND due_at > ?)) AND {AWAITED})"

_READY = f"{_ACCEPTED} AND ({_WOKEN} OR (status = 'queued' AND due_at <= ?))"

_COUNT = f"""
UPDATE workflow_runs SET mail_count = mail_count + 1, updated_at = ?,
  due_at = CASE WHEN {_WOKEN} THEN ? ELSE due_at END,
  status = CASE WHEN {_WOKEN} THEN 'queued' ELSE status END
WHERE {_ACCEPTED}
"""


def deliver_statements(run_id: str, mail: NewMail, lease: Lease | None, now: datetime) -> list[Statement]:
    at = micros(now)
    accepted = (run_id, mail.kind, mail.id)
    woken = (at, mail.kind, mail_key(mail.key))
    claim = [] if lease is None else claim_one(_READY, (*accepted, *woken, at), lease, now)
    return [
        (_INSERT, (mail.kind, mail.id, mail.name, mail.payload, at, run_id)),
        (_READ, (mail.kind, mail.id, run_id)),
        *claim,
        (_COUNT, (at, *woken, at, *woken, *accepted)),
    ]


def deliver_result(results: list[list[Row]], mail: NewMail, lease: Lease | None, now: datetime) -> Delivered:
    inserted, rows, *claim = results
    if not rows:
        return Delivered("not_found")
    *columns, known = rows[0]
    before = run_record(columns)
    if not inserted:
        return Delivered("duplicate" if known else "ended", before)
    awaited = mail.kind == "cancel" or any(wait.mail_key == mail.key for wait in before.waits)
    claimed = None if lease is None else _claimed(claim, lease, now)
    run = _after(before, awaited, now) if claimed is None else claimed.run
    return Delivered("accepted", run, awaited, claimed)


def _after(before: RunRecord, awaited: bool, now: datetime) -> RunRecord:
    """The row after the last statement, which has changed it in just this way."""
    run = replace(before, mail_count=before.mail_count + 1, updated_at=now)
    later = run.status == "queued" and run.due_at is not None and run.due_at > now
    return replace(run, status="queued", due_at=now) if awaited and (run.status == "paused" or later) else run


def _claimed(results: list[list[Row]], lease: Lease, now: datetime) -> ClaimedRun | None:
    """The claim's answer. It found the run queued by the mail, which the last statement has counted."""
    claimed = claimed_run(results, lease, now)
    if claimed is None:
        return None
    run = replace(claimed.run, mail_count=claimed.run.mail_count + 1)
    return replace(claimed, run=run, claimed_from="queued")
