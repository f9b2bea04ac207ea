-- Version 2: queues with limits, schedules, and the runs that belong to them.
--
-- A queue is nothing but a name that runs carry; `queue` is NULL for runs that are in their workflow's own queue.

ALTER TABLE workflow_runs ADD COLUMN queue TEXT;

-- What limits per key go by: '' for no key, and else '=' and the key. Never NULL, so that keys have an order.
ALTER TABLE workflow_runs ADD COLUMN queue_key TEXT NOT NULL DEFAULT '';

ALTER TABLE workflow_runs ADD COLUMN priority INTEGER NOT NULL DEFAULT 0;
ALTER TABLE workflow_runs ADD COLUMN expires_at INTEGER;
ALTER TABLE workflow_runs ADD COLUMN schedule_id TEXT;

-- Columns that are the same in all of an index (as `queue` is here) are in it so that SQLite needn't look at the rows for them.
--
-- What is due, of runs that are in no queue by name. So a flood in a queue that has no room costs their claims nothing.
DROP INDEX workflow_runs_due;
CREATE INDEX workflow_runs_due ON workflow_runs (queue, status, due_at, workflow_id)
    WHERE due_at IS NOT NULL AND queue IS NULL;

-- The runs of queues that have not ended: those that were never claimed, which are all queued, and the others. Runs of
-- one key and priority stand together, the longest due first, so that the first of each key are found by one step for
-- each key. See queueing.py.
CREATE INDEX workflow_runs_fresh ON workflow_runs
    (queue, queue_key, priority, due_at, run_id, workflow_id, fence, completed_at)
    WHERE queue IS NOT NULL AND fence = 0 AND completed_at IS NULL;
CREATE INDEX workflow_runs_going ON workflow_runs
    (queue, status, queue_key, priority, due_at, run_id, workflow_id, fence, completed_at)
    WHERE queue IS NOT NULL AND fence > 0 AND completed_at IS NULL;

-- The starts of a queue's runs, ended ones included, for limits of their rate.
CREATE INDEX workflow_runs_starts ON workflow_runs (queue, started_at, queue_key)
    WHERE queue IS NOT NULL AND started_at IS NOT NULL;

-- The runs of a schedule that have not ended.
CREATE INDEX workflow_runs_scheduled ON workflow_runs (workflow_id, schedule_id, created_at, run_id)
    WHERE schedule_id IS NOT NULL AND completed_at IS NULL;

CREATE TABLE workflow_schedules (
    workflow_id TEXT NOT NULL,
    schedule_id TEXT NOT NULL,
    revision INTEGER NOT NULL,
    due_at INTEGER,
    paused INTEGER NOT NULL,
    data TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    PRIMARY KEY (workflow_id, schedule_id)
) STRICT, WITHOUT ROWID;

-- What became of the ticks of each schedule. `number` counts within the revision that wrote them.
CREATE TABLE workflow_ticks (
    workflow_id TEXT NOT NULL,
    schedule_id TEXT NOT NULL,
    revision INTEGER NOT NULL,
    number INTEGER NOT NULL,
    tick_at INTEGER NOT NULL,
    outcome TEXT NOT NULL,
    at INTEGER NOT NULL,
    run_id TEXT,
    until INTEGER,
    detail TEXT,
    PRIMARY KEY (workflow_id, schedule_id, revision, number)
) STRICT, WITHOUT ROWID;

INSERT INTO workflow_schema (version, name, applied_at)
VALUES (2, '0002_queues_and_schedules', CAST(strftime('%s', 'now') AS INTEGER) * 1000000);
