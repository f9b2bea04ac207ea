-- Queues, schedules, limits of time. By hand: python -m workflow.store.postgres migrate --sql --after 1 | psql
--
-- On a live system: every statement here takes a moment, however large the tables are. The columns have no default, or a
-- constant one, so no row is written; the tables are new. The lock on workflow_runs is asked for with a short time-out,
-- again and again, so that nobody queues behind a migration which itself waits for a long transaction of the app.
--
-- The version of the package before this one works on this schema as it did (`works_from` stays 1): it names its columns,
-- and the new ones may be left out. What it does not know it does not do: it claims without looking at queues, so their
-- limits hold from when the last old process is gone. The runs that it creates are in no queue but their workflow's own.

ALTER TABLE :"schema".workflow_runs
    -- The queue, where the run was created in one; otherwise its queue is the workflow's own, and named like it.
    ADD COLUMN queue       text COLLATE "C",
    ADD COLUMN key         text COLLATE "C",
    ADD COLUMN priority    integer NOT NULL DEFAULT 0,
    -- When the run is to be asked to cancel. The runtime sees to that; nothing here is decided by it.
    ADD COLUMN expires_at  timestamptz,
    ADD COLUMN schedule_id text COLLATE "C";

CREATE TABLE :"schema".workflow_schedules (
    workflow_id text COLLATE "C" NOT NULL,
    schedule_id text COLLATE "C" NOT NULL,
    -- Whoever moves a schedule says which revision it has seen: of several, one succeeds.
    revision    bigint NOT NULL,
    due_at      timestamptz,
    paused      boolean NOT NULL,
    data        text NOT NULL,
    created_at  timestamptz NOT NULL,
    updated_at  timestamptz NOT NULL,
    PRIMARY KEY (workflow_id, schedule_id)
);

-- What became of the ticks of a schedule: those of its last revisions.
CREATE TABLE :"schema".workflow_ticks (
    workflow_id text COLLATE "C" NOT NULL,
    schedule_id text COLLATE "C" NOT NULL,
    revision    bigint NOT NULL,
    n           integer NOT NULL,
    tick_at     timestamptz NOT NULL,
    until       timestamptz,
    outcome     text NOT NULL,
    at          timestamptz NOT NULL,
    run_id      text,
    detail      text,
    PRIMARY KEY (workflow_id, schedule_id, revision, n)
);

INSERT INTO :"schema".workflow_schema (version, works_from, name) VALUES (2, 1, 'queues and schedules');
