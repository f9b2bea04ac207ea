-- The first schema: runs, their logs, their inboxes. By hand: psql -v schema=public -f 0001_initial.sql
--
-- Ids compare by code point (COLLATE "C"): that is how Python compares them, and it is the faster index. There are no
-- foreign keys: every statement of the store holds the lock on the run's row while it touches the log or the inbox,
-- and a check of what is already certain would cost each append a second look-up.

-- One row for each migration. `works_from` is the oldest version of the schema whose code still works on this one: a
-- process refuses to run where that is newer than what it knows, or where the version is older.
CREATE TABLE :"schema".workflow_schema (
    version    integer NOT NULL PRIMARY KEY,
    works_from integer NOT NULL,
    name       text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
);
INSERT INTO :"schema".workflow_schema (version, works_from, name) VALUES (1, 1, 'initial');

CREATE TABLE :"schema".workflow_runs (
    run_id           text COLLATE "C" NOT NULL PRIMARY KEY,
    workflow_id      text COLLATE "C" NOT NULL,
    workflow_version text,
    status           text COLLATE "C" NOT NULL
        CHECK (status IN ('queued', 'running', 'paused', 'completed', 'errored', 'cancelled')),
    created_at       timestamptz NOT NULL,
    updated_at       timestamptz NOT NULL,
    started_at       timestamptz,
    completed_at     timestamptz,
    -- When the run is due: the time the queue, the timer or the lease says. Exact, and not indexed.
    due_at           timestamptz,
    -- What the index has instead: never later than due_at, and equal to it unless the run is running. A commit that
    -- goes on prolongs the lease and leaves this, so Postgres updates the row in place and no index is touched.
    wake_at          timestamptz,
    owner            text,
    fence            bigint NOT NULL DEFAULT 0,
    log_length       integer NOT NULL DEFAULT 0,
    mail_count       integer NOT NULL DEFAULT 0,
    recoveries       integer NOT NULL DEFAULT 0,
    -- Grows with every change of the log, the inbox or the ownership. A statement whose snapshot shows another
    -- revision than the row it has locked has seen an old log or inbox, and reads them again.
    revision         bigint NOT NULL DEFAULT 0,
    -- What the run waits for, as JSON, and the keys of the mail that would resolve it.
    waits            text,
    wait_keys        text[] NOT NULL DEFAULT '{}',
    input            text NOT NULL,
    state            text,
    output           text,
    error            text
) WITH (fillfactor = 70);

-- What is due: one short range for each workflow and status. Ended runs, and those that wait for mail alone, are not in it.
CREATE INDEX workflow_runs_due ON :"schema".workflow_runs (workflow_id, status, wake_at) WHERE wake_at IS NOT NULL;
-- Lists, newest first, by status, by workflow and status.
CREATE INDEX workflow_runs_listed ON :"schema".workflow_runs (status, created_at, run_id);
CREATE INDEX workflow_runs_listed_by_workflow
    ON :"schema".workflow_runs (workflow_id, status, created_at, run_id);
-- What a purge finds.
CREATE INDEX workflow_runs_ended ON :"schema".workflow_runs (completed_at, workflow_id) WHERE completed_at IS NOT NULL;

-- Append-only: a record is written once and read by whoever replays the run.
CREATE TABLE :"schema".workflow_log (
    run_id  text COLLATE "C" NOT NULL,
    idx     integer NOT NULL,
    event   text NOT NULL,
    payload text,
    PRIMARY KEY (run_id, idx)
);

-- The inboxes. Consumed mail stays as a mark without payload: it makes a repeated delivery a duplicate.
CREATE TABLE :"schema".workflow_mail (
    run_id  text COLLATE "C" NOT NULL,
    kind    text COLLATE "C" NOT NULL,
    id      text COLLATE "C" NOT NULL,
    seq     integer NOT NULL,
    name    text,
    payload text,
    sent_at timestamptz NOT NULL,
    PRIMARY KEY (run_id, kind, id)
);
-- What is not consumed, in order: however much a run has had in its life, its claim reads this only.
CREATE UNIQUE INDEX workflow_mail_unread ON :"schema".workflow_mail (run_id, seq) WHERE payload IS NOT NULL;
