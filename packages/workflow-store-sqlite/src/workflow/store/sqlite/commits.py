"""How a commit moves a run.

One batch, of usually three statements. Each of them that writes carries the same guard: the run is `running`, with
this fence and with a log of the expected length. So either all of them find it or none does, and a stale owner writes
nothing.

    1. append the records                          where the guard holds
    2. empty the mail that they resolve            where the guard holds
    3. release the run, or prolong the lease       where the guard holds; from here on it doesn't hold any more
    4. read the row's progress and the later mail  always

A pause is two statements in step 3: the release, where in addition no unread mail is left after what the drive has
seen, and then the prolongation, whose guard holds only if the release has found such mail and done nothing.

The last statement alone decides what the commit answers. If the run has this fence, the log ends where this commit ends
it, and the status is one that this commit leaves, it has happened: now, or when it was sent before. Otherwise it has
not, and the same row says why.
"""

from __future__ import annotations

from functools import lru_cache

from workflow.core.errors import LeaseLostError, LogConflictError
from workflow.core.records import ENDED, Commit, Committed, LogRecord, RunStatus, Transition

from .executor import Row, SqlValue, Statement
from .rows import MAIL_COLUMNS, awaited_keys, mail_of, maybe_micros, micros, number_list, waits_text

__all__ = ["commit_result", "commit_statements"]

_GUARD = "run_id = ? AND fence = ? AND log_length = ? AND status = 'running'"

# The index spares a run that has had thousands of mails the reading of what it has consumed.
_CONSUME = f"""
UPDATE workflow_mail INDEXED BY workflow_mail_unread SET payload = NULL
WHERE run_id = ? AND payload IS NOT NULL AND seq IN (SELECT value FROM json_each(?))
  AND EXISTS (SELECT 1 FROM workflow_runs WHERE {_GUARD})
"""

_PROLONG = f"""
UPDATE workflow_runs SET log_length = ?, updated_at = ?, state = coalesce(?, state), due_at = ?
WHERE {_GUARD}
"""

_RELEASE = f"""
UPDATE workflow_runs SET log_length = ?, updated_at = ?, state = coalesce(?, state), status = ?, due_at = ?,
  waits = coalesce(?, waits), awaits = coalesce(?, awaits), output = ?, error = ?,
  recoveries = coalesce(?, recoveries), completed_at = ?, owner = NULL
WHERE {_GUARD}
"""

_PAUSE = f"""{_RELEASE}
  AND NOT EXISTS (
    SELECT 1 FROM workflow_mail AS news
    WHERE news.run_id = workflow_runs.run_id AND news.seq > ? AND news.payload IS NOT NULL)
"""

_ANSWER = f"""
SELECT run.fence, run.log_length, run.status, {MAIL_COLUMNS}
FROM workflow_runs AS run LEFT JOIN workflow_mail AS mail
  ON mail.run_id = run.run_id AND mail.seq > ? AND mail.payload IS NOT NULL
WHERE run.run_id = ?
ORDER BY mail.seq
"""

_RECORDS_PER_STATEMENT = 30
"""Three parameters each, and four for the guard and the run: below the hundred that D1 allows."""


def commit_statements(commit: Commit) -> list[Statement]:
    guard = (commit.run_id, commit.fence, commit.expected_index)
    statements = _append(commit.records, guard)
    if commit.consumed:
        statements.append((_CONSUME, (commit.run_id, number_list(commit.consumed), *guard)))
    length = commit.expected_index + len(commit.records)
    progress = (length, micros(commit.now), commit.state)
    transition = commit.transition
    if transition is not None:
        statements.append(_release(commit, transition, progress, guard))
    if transition is None or transition.status == "paused":
        statements.append((_PROLONG, (*progress, micros(commit.lease.until), *guard)))
    statements.append((_ANSWER, (commit.seen_mail, commit.run_id)))
    return statements


def commit_result(commit: Commit, rows: list[Row]) -> Committed:
    """Read the last answer of the batch; raises what `RunStore.commit` does."""
    if not rows or rows[0][0] != commit.fence:
        raise LeaseLostError(commit.run_id, commit.fence)
    _, length, status, *first_mail = rows[0]
    has_news = first_mail[0] is not None
    if length == commit.expected_index + len(commit.records) and _leaves(commit.transition, status, has_news):
        news = has_news and status not in ENDED
        return Committed(status != "running", mail_of([row[3:] for row in rows]) if news else ())
    if status != "running":
        raise LeaseLostError(commit.run_id, commit.fence)
    raise LogConflictError(commit.run_id, commit.expected_index, length)


def _leaves(transition: Transition | None, status: RunStatus, has_news: bool) -> bool:
    """Whether this transition, done, leaves a run in this status."""
    if transition is None:
        return status == "running"
    if transition.status != "paused":
        return status == transition.status
    # Awaited mail makes a paused run ready; unread mail has kept the run from pausing.
    return status in ("paused", "queued") or (status == "running" and has_news)


def _release(
    commit: Commit, transition: Transition, progress: tuple[SqlValue, ...], guard: tuple[SqlValue, ...]
) -> Statement:
    waits = transition.waits
    values: tuple[SqlValue, ...] = (
        *progress,
        transition.status,
        maybe_micros(transition.due_at),
        None if waits is None else waits_text(waits),
        None if waits is None else awaited_keys(waits),
        transition.output,
        transition.error,
        transition.recoveries,
        progress[1] if transition.status in ENDED else None,
        *guard,
    )
    return (_PAUSE, (*values, commit.seen_mail)) if transition.status == "paused" else (_RELEASE, values)


def _append(records: tuple[LogRecord, ...], guard: tuple[SqlValue, ...]) -> list[Statement]:
    if len(records) == 1:
        record = records[0]
        return [(_appending(1), (record.index, record.event, record.payload, *guard))]
    starts = range(0, len(records), _RECORDS_PER_STATEMENT)
    return [_append_some(records[start : start + _RECORDS_PER_STATEMENT], guard) for start in starts]


def _append_some(records: tuple[LogRecord, ...], guard: tuple[SqlValue, ...]) -> Statement:
    values = [value for record in records for value in (record.index, record.event, record.payload)]
    return _appending(len(records)), (*values, *guard)


@lru_cache(maxsize=_RECORDS_PER_STATEMENT)
def _appending(count: int) -> str:
    """Appends so many records. The one of a single record, by far the most frequent, needs no table of values."""
    insert = "INSERT INTO workflow_log (run_id, idx, event, payload)"
    if count == 1:
        return f"{insert} SELECT run_id, ?, ?, ? FROM workflow_runs WHERE {_GUARD}"
    rows = ", ".join(["(?, ?, ?)"] * count)
    return (
        f"WITH new (idx, event, payload) AS (VALUES {rows}) {insert} "
        f"SELECT run_id, new.idx, new.event, new.payload FROM workflow_runs, new WHERE {_GUARD}"
    )
