-- The tables of a workflow store, version 1.
--
-- A run is one row of workflow_runs: its status, one due time, and how far its log and its inbox have got. Whatever is
-- due (a start, a timer, a delivered signal, a dead owner's lease) is found by one scan of one index on the due time.
-- What a run did is in workflow_log, append-only; what was sent to it is in workflow_mail.
--
-- Instants are INTEGER microseconds since 1970-01-01 UTC. Payloads (input, output, error, state, event, payload) are text
-- which no statement ever looks into. Columns are typed strictly, so that a number that arrives as REAL is an INTEGER.
--
-- Every commit of a run rewrites its row. That is cheap even where the input is large: SQLite overwrites a row whose
-- size has not changed in place, and writes only the pages that differ.
--
-- Statements of these files end with a semicolon at the end of a line, which occurs nowhere else. Comments have lines
-- of their own.

CREATE TABLE workflow_schema (
    version INTEGER NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    applied_at INTEGER NOT NULL
) STRICT;

CREATE TABLE workflow_runs (
    run_id TEXT NOT NULL PRIMARY KEY,
    workflow_id TEXT NOT NULL,
    workflow_version TEXT,
    status TEXT NOT NULL
        CHECK (status IN ('queued', 'running', 'paused', 'completed', 'errored', 'cancelled')),
    input TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    due_at INTEGER,
    started_at INTEGER,
    completed_at INTEGER,
    output TEXT,
    error TEXT,
    -- A JSON list of what a paused run waits for, for people.
    waits TEXT NOT NULL DEFAULT '[]',
    -- The keys of the mail among them, for deliveries: see `awaited_keys` in rows.py.
    awaits TEXT NOT NULL DEFAULT '',
    state TEXT,
    fence INTEGER NOT NULL DEFAULT 0,
    owner TEXT,
    log_length INTEGER NOT NULL DEFAULT 0,
    mail_count INTEGER NOT NULL DEFAULT 0,
    recoveries INTEGER NOT NULL DEFAULT 0
) STRICT;

-- What is due. Ended runs and runs that wait for mail alone are not in it, so it stays small however many there are.
CREATE INDEX workflow_runs_due ON workflow_runs (status, due_at, workflow_id)
    WHERE due_at IS NOT NULL;

-- Lists, newest first: of all runs, of those that have not ended, of those that went wrong.
CREATE INDEX workflow_runs_created ON workflow_runs (created_at, run_id, workflow_id);
CREATE INDEX workflow_runs_open ON workflow_runs (created_at, run_id)
    WHERE completed_at IS NULL;
CREATE INDEX workflow_runs_failed ON workflow_runs (created_at, run_id)
    WHERE status IN ('errored', 'cancelled');

-- What may be purged.
CREATE INDEX workflow_runs_ended ON workflow_runs (completed_at, workflow_id)
    WHERE completed_at IS NOT NULL;

CREATE TABLE workflow_log (
    run_id TEXT NOT NULL,
    idx INTEGER NOT NULL,
    event TEXT NOT NULL,
    payload TEXT,
    PRIMARY KEY (run_id, idx)
) STRICT, WITHOUT ROWID;

-- Mail has a payload until the commit that consumes it. Then the log has what it said, and what stays is its (kind, id),
-- which makes a repeated delivery a duplicate.
CREATE TABLE workflow_mail (
    run_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    id TEXT NOT NULL,
    seq INTEGER NOT NULL,
    name TEXT NOT NULL,
    payload TEXT,
    sent_at INTEGER NOT NULL,
    PRIMARY KEY (run_id, kind, id)
) STRICT, WITHOUT ROWID;

CREATE INDEX workflow_mail_unread ON workflow_mail (run_id, seq)
    WHERE payload IS NOT NULL;

INSERT INTO workflow_schema (version, name, applied_at)
VALUES (1, '0001_initial', CAST(strftime('%s', 'now') AS INTEGER) * 1000000);
