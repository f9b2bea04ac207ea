-- The indexes of what 0002 has added. Built CONCURRENTLY on a live system, statement by statement: nobody waits for them,
-- but they wait for the transactions that were open when they began. If it breaks off, migrate again: what was left
-- unfinished is dropped and built anew. In an empty database (and through a pooler, which can't do it otherwise) they are
-- built in the transaction of the migration.

-- What is due, of each queue of a workflow (null: its own). It takes the place of workflow_runs_due, and does its work for
-- the version of the package before this one as well: that passes over the column of the queue within the index, which
-- costs it some 20 ms a poll where 50,000 runs sleep, for as long as the deployment takes.
DROP INDEX CONCURRENTLY IF EXISTS :"schema".workflow_runs_lanes;
CREATE INDEX CONCURRENTLY workflow_runs_lanes
    ON :"schema".workflow_runs (workflow_id, status, queue, wake_at) WHERE wake_at IS NOT NULL;

-- The live runs of a queue in the order in which they are claimed. The expression is the run's stage: `new` until its
-- first claim (it needs room in the rates, too), then its status. Runs that are in no queue by name are in none of these.
DROP INDEX CONCURRENTLY IF EXISTS :"schema".workflow_runs_queue;
CREATE INDEX CONCURRENTLY workflow_runs_queue
    ON :"schema".workflow_runs (
        queue, (CASE WHEN started_at IS NULL THEN 'new' ELSE status END), priority DESC, wake_at, run_id
    ) WHERE queue IS NOT NULL AND completed_at IS NULL;
-- The same for each key: to count what a key holds, and to find those that a flood of another key hides.
DROP INDEX CONCURRENTLY IF EXISTS :"schema".workflow_runs_keys;
CREATE INDEX CONCURRENTLY workflow_runs_keys
    ON :"schema".workflow_runs (
        queue, key, (CASE WHEN started_at IS NULL THEN 'new' ELSE status END), priority DESC, wake_at, run_id
    ) WHERE queue IS NOT NULL AND completed_at IS NULL;

-- What a queue, and a key, has started lately.
DROP INDEX CONCURRENTLY IF EXISTS :"schema".workflow_runs_started;
CREATE INDEX CONCURRENTLY workflow_runs_started
    ON :"schema".workflow_runs (queue, started_at) WHERE queue IS NOT NULL AND started_at IS NOT NULL;
DROP INDEX CONCURRENTLY IF EXISTS :"schema".workflow_runs_started_by_key;
CREATE INDEX CONCURRENTLY workflow_runs_started_by_key
    ON :"schema".workflow_runs (queue, key, started_at)
    WHERE queue IS NOT NULL AND key IS NOT NULL AND started_at IS NOT NULL;

-- The runs of a schedule that have not ended.
DROP INDEX CONCURRENTLY IF EXISTS :"schema".workflow_runs_scheduled;
CREATE INDEX CONCURRENTLY workflow_runs_scheduled
    ON :"schema".workflow_runs (workflow_id, schedule_id, created_at, run_id)
    WHERE schedule_id IS NOT NULL AND completed_at IS NULL;

DROP INDEX CONCURRENTLY IF EXISTS :"schema".workflow_runs_due;

INSERT INTO :"schema".workflow_schema (version, works_from, name) VALUES (3, 1, 'queue indexes');
