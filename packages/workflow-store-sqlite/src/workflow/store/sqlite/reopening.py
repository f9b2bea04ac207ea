"""How a run that has ended goes on.

Each statement carries the same guard: the run has ended so, and its log has the expected length. The last makes
it queued, and from there on the guard doesn't hold any more.

    1. append the record                                              where the guard holds
    2. forget requests to cancel, read or not                         where the guard holds
    3. put the mail into the inbox, the same as before or new         where the guard holds
    4. queue the run, and answer its row                              where the guard holds
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from workflow.core.records import LogRecord, NewMail, RunRecord

from .executor import Row, Statement
from .rows import RUN_COLUMNS, maybe_micros, micros, run_record

__all__ = ["reopen_result", "reopen_statements"]

_GUARD = "run_id = ? AND log_length = ? AND status IN ('errored', 'cancelled')"
_HOLDS = f"EXISTS (SELECT 1 FROM workflow_runs WHERE {_GUARD})"

_RECORD = f"""
INSERT INTO workflow_log (run_id, idx, event, payload) SELECT run_id, ?, ?, ? FROM workflow_runs WHERE {_GUARD}
"""
_FORGET = f"DELETE FROM workflow_mail WHERE run_id = ? AND kind = 'cancel' AND {_HOLDS}"

_MAIL = f"""
INSERT INTO workflow_mail (run_id, kind, id, seq, name, payload, sent_at)
SELECT run_id, ?, ?, mail_count + ?, ?, ?, ? FROM workflow_runs WHERE {_GUARD}
ON CONFLICT (run_id, kind, id) DO UPDATE SET seq = excluded.seq, name = excluded.name, payload = excluded.payload,
  sent_at = excluded.sent_at
"""

_QUEUE = f"""
UPDATE workflow_runs SET status = 'queued', due_at = ?, updated_at = ?, completed_at = NULL, error = NULL,
  waits = '[]', awaits = '', recoveries = 0, expires_at = ?, log_length = log_length + 1, mail_count = mail_count + ?,
  fence = fence + (fence > 0)
WHERE {_GUARD}
RETURNING {RUN_COLUMNS}
"""


def reopen_statements(
    run_id: str,
    expected_index: int,
    record: LogRecord,
    mail: Sequence[NewMail],
    expires_at: datetime | None,
    now: datetime,
) -> list[Statement]:
    guard, at = (run_id, expected_index), micros(now)
    deliveries = [
        (_MAIL, (one.kind, one.id, number, one.name, one.payload, at, *guard)) for number, one in enumerate(mail, 1)
    ]
    return [
        (_RECORD, (record.index, record.event, record.payload, *guard)),
        (_FORGET, (run_id, *guard)),
        *deliveries,
        (_QUEUE, (at, at, maybe_micros(expires_at), len(mail), *guard)),
    ]


def reopen_result(results: list[list[Row]]) -> RunRecord | None:
    rows = results[-1]
    return run_record(rows[0]) if rows else None
