"""Reading rows and logs, and deleting what is old.

Lists go by creation, newest first, and continue after a key, so that a page costs the same wherever it is. Each walks
the smallest of three indexes which holds all that it may find. A purge names its victims by the same subselect in each
statement, logs and inboxes first: the rows, which say who the victims are, go last.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from workflow.core.records import ENDED, RunStatus
from workflow.runtime.contract import RunFilter

from .executor import SqlValue, Statement
from .rows import RUN_COLUMNS, micros

__all__ = ["list_statement", "purge_statements", "read_log_statement"]

_FAILED: frozenset[RunStatus] = frozenset({"errored", "cancelled"})

_READ_LOG = "SELECT idx, event, payload FROM workflow_log WHERE run_id = ? AND idx > ? ORDER BY idx LIMIT ?"
_NO_LIMIT = -1


def read_log_statement(run_id: str, after: int, limit: int | None) -> Statement:
    return _READ_LOG, (run_id, after, _NO_LIMIT if limit is None else limit)


def list_statement(query: RunFilter) -> Statement:
    index, extent = _extent(query.status)
    terms: list[str] = [extent]
    values: list[SqlValue] = []
    for term, *bound in _terms(query):
        terms.append(str(term))
        values += bound
    sql = (
        f"SELECT {RUN_COLUMNS} FROM workflow_runs INDEXED BY {index} WHERE {' AND '.join(terms)} "
        "ORDER BY workflow_runs.created_at DESC, run_id DESC LIMIT ?"
    )
    return sql, (*values, query.limit)


def _extent(statuses: frozenset[RunStatus] | None) -> tuple[str, str]:
    """The smallest index that has all runs of these statuses, and the term that lets SQLite use it."""
    if statuses is not None and not statuses & ENDED:
        return "workflow_runs_open", "completed_at IS NULL"
    if statuses is not None and statuses <= _FAILED:
        return "workflow_runs_failed", "status IN ('errored', 'cancelled')"
    return "workflow_runs_created", "created_at IS NOT NULL"


def _terms(query: RunFilter) -> Iterator[tuple[SqlValue, ...]]:
    """Terms of the WHERE clause, each followed by what is bound in it."""
    if query.status is not None:
        yield f"status IN ({', '.join('?' * len(query.status))})", *sorted(query.status)
    if query.workflow_id is not None:
        yield "workflow_id = ?", query.workflow_id
    if query.created_from is not None:
        yield "created_at >= ?", micros(query.created_from)
    if query.created_until is not None:
        yield "created_at < ?", micros(query.created_until)
    if query.before is not None:
        created_at, run_id = query.before
        yield "(created_at, run_id) < (?, ?)", micros(created_at), run_id


def purge_statements(older_than: datetime, workflow_id: str | None, limit: int) -> list[Statement]:
    """The first answers how many runs go."""
    of_workflow = "" if workflow_id is None else " AND workflow_id = ?"
    victims = (
        "SELECT run_id FROM workflow_runs INDEXED BY workflow_runs_ended "
        f"WHERE completed_at < ?{of_workflow} ORDER BY completed_at, workflow_id, rowid LIMIT ?"
    )
    bound = (micros(older_than), *(() if workflow_id is None else (workflow_id,)), limit)
    deletions = [
        (f"DELETE FROM {table} WHERE run_id IN ({victims})", bound)
        for table in ("workflow_log", "workflow_mail", "workflow_runs")
    ]
    return [(f"SELECT count(*) AS victims FROM ({victims})", bound), *deletions]
