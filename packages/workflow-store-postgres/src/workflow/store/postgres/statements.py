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
same id; a group does them in the order of the ids, so no two groups wait for each other.

**Snapshots.** Under READ COMMITTED all parts of a statement see what was committed when it began. Except for the rows
that it locks: of those it sees the newest version, and the guard is evaluated on it again. So the row is the truth,
and what else was read may be older. Two things follow. Decisions are made by the row's own columns: a pause is
refused by `mail_count`, never by a look at the mail. And where the log or the mail is read, the answer says whether it
belongs to the row: `revision` grows with every change, so an old log shows as the snapshot's revision differing from
the locked row's. In that rare case the caller reads again.

**Plans.** The look-up of the row is LATERAL with a lock in it, which no planner can turn into anything but one probe of
the primary key for each row asked for: statistics, however old, don't matter. `wake_at` is what the index of due runs
holds; see the migration for why it isn't `due_at`.

**Notices.** What leaves a run queued says so with NOTIFY, in the same transaction, to whoever waits for work. Only
that: a transaction that notifies takes a lock of the whole database while it commits, so a run that goes on does not.

Statements exist in two forms made from one text: for one (scalar parameters, planned and run faster) and for many
(one array for each parameter). Each parameter has a cast: drivers differ in what they make of a Python value.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable

from .rows import RUN_COLUMNS

__all__ = ["Statements", "channel_of", "quoted", "with_schema"]

Columns = tuple[tuple[str, str], ...]
"""Names and types."""

LIVE = "('queued', 'running', 'paused')"


def quoted(name: str) -> str:
    """A name as a quoted identifier."""
    return '"' + name.replace('"', '""') + '"'


def with_schema(sql: str, schema: str) -> str:
    """Put the schema in for psql's notation `:"schema"`."""
    return re.sub(r':"schema"', lambda _: quoted(schema), sql)


def channel_of(schema: str) -> str:
    """The name under which stores on this schema notify each other."""
    return f"workflow_{hashlib.sha256(schema.encode()).hexdigest()[:16]}"


def _told(of: str) -> str:
    """A CTE that notifies, once for each workflow of the queued runs of another. Only who reads it makes it happen.

    Postgres takes no more than 8,000 bytes with a notice: a workflow whose id is that long is told of without its name.
    """
    return f"""told AS (
    SELECT pg_notify(:channel, d.workflow_id)::text AS done FROM (
        SELECT DISTINCT CASE WHEN octet_length(q.workflow_id) < 4000 THEN q.workflow_id ELSE '' END AS workflow_id
        FROM {of} q WHERE q.status = 'queued'
    ) d
)"""


_TELL = "(SELECT count(told.done) FROM told)"


def _columns(alias: str) -> str:
    return ", ".join(f"{alias}.{name}" for name in RUN_COLUMNS)


def _names(columns: Columns) -> str:
    return ", ".join(name for name, _ in columns)


def _arrays(columns: Columns, first: int) -> str:
    return ", ".join(f"${number}::{type_}[]" for number, (_, type_) in enumerate(columns, first))


def _scalars(columns: Columns, first: int) -> str:
    return ", ".join(f"${number}::{type_} AS {name}" for number, (name, type_) in enumerate(columns, first))


def _asked(columns: Columns, *, many: bool) -> str:
    """The parameters from $1 on as a relation."""
    if many:
        return f"SELECT * FROM unnest({_arrays(columns, 1)}) WITH ORDINALITY AS a({_names(columns)}, n)"
    return f"SELECT {_scalars(columns, 1)}, 1::bigint AS n"


# -- Parts of several statements. Each belongs to a relation `of` with a run_id, gives exactly one row, and has its
# -- condition inside, where a false one costs nothing: beside the join it would be evaluated after all rows were read.


def _log_of(of: str, condition: str = "true") -> str:
    """The whole log, as two arrays."""
    return f"""LATERAL (
    SELECT array_agg(l.event ORDER BY l.idx) AS events, array_agg(l.payload ORDER BY l.idx) AS payloads
    FROM :"schema".workflow_log l WHERE l.run_id = {of}.run_id AND {condition}
)"""


def _mail_of(of: str, condition: str = "true") -> str:
    """The unconsumed mail, as six arrays."""
    arrays = ", ".join(f"array_agg(l.{c} ORDER BY l.seq) AS {c}s" for c in _MAIL)
    return f"""LATERAL (
    SELECT {arrays}
    FROM :"schema".workflow_mail l WHERE l.run_id = {of}.run_id AND l.payload IS NOT NULL AND {condition}
)"""


_MAIL = ("seq", "kind", "id", "name", "payload", "sent_at")
_MAIL_ARRAYS = ", ".join(f"news.{column}s" for column in _MAIL)

# -- Reading

_GET = f'SELECT {_columns("r")} FROM :"schema".workflow_runs r WHERE r.run_id = $1::text'

_READ_LOG = """
SELECT l.idx, l.event, l.payload FROM :"schema".workflow_log l
WHERE l.run_id = $1::text AND l.idx > $2::integer ORDER BY l.idx LIMIT $3::bigint"""

# Runs with the mail after what each asker has seen, and with their logs where wanted: all of one snapshot.
_LOOK = f"""
WITH asked AS MATERIALIZED (SELECT * FROM unnest($1::text[], $2::integer[]) AS a(run_id, seen))
SELECT {_columns("r")}, {_MAIL_ARRAYS}, log.events, log.payloads
FROM asked a
CROSS JOIN LATERAL (SELECT * FROM :"schema".workflow_runs r WHERE r.run_id = a.run_id LIMIT 1) r
CROSS JOIN {_mail_of("a", "l.seq > a.seen")} news
CROSS JOIN {_log_of("a", "$3::boolean")} log"""

_LIST = f"""
SELECT {_columns("r")}
FROM unnest($1::text[]) AS s(status)
CROSS JOIN LATERAL (
    SELECT * FROM :"schema".workflow_runs r
    WHERE r.status = s.status AND %s
        AND ($3::timestamptz IS NULL OR r.created_at >= $3) AND ($4::timestamptz IS NULL OR r.created_at < $4)
        AND ($5::timestamptz IS NULL OR (r.created_at, r.run_id) < ($5, $6::text))
    ORDER BY r.created_at DESC, r.run_id DESC LIMIT $2::bigint
) r
ORDER BY r.created_at DESC, r.run_id DESC LIMIT $2"""

# A queued or paused run has the same wake_at and due_at: one probe each. A running one may be due later than wake_at
# says, so all of them are asked; they are as few as what is going on at the moment.
_NEXT_DUE = """
SELECT min(due.at) FROM unnest($1::text[]) AS w(id) CROSS JOIN LATERAL (
    (SELECT r.due_at FROM :"schema".workflow_runs r
     WHERE r.workflow_id = w.id AND r.status = 'queued' AND r.wake_at IS NOT NULL ORDER BY r.wake_at LIMIT 1)
    UNION ALL
    (SELECT r.due_at FROM :"schema".workflow_runs r
     WHERE r.workflow_id = w.id AND r.status = 'paused' AND r.wake_at IS NOT NULL ORDER BY r.wake_at LIMIT 1)
    UNION ALL
    (SELECT min(r.due_at) FROM :"schema".workflow_runs r
     WHERE r.workflow_id = w.id AND r.status = 'running' AND r.wake_at IS NOT NULL)
) AS due(at)"""

# -- Creating: owner and until are null where the run is not claimed at once.

_NEW: Columns = (
    ("run_id", "text"),
    ("workflow_id", "text"),
    ("workflow_version", "text"),
    ("input", "text"),
    ("now", "timestamptz"),
    ("due_at", "timestamptz"),
    ("owner", "text"),
    ("until", "timestamptz"),
)


def _create(*, many: bool) -> str:
    once, order = ("MATERIALIZED", "ORDER BY a.run_id") if many else ("NOT MATERIALIZED", "")
    return f"""
WITH asked AS {once} ({_asked(_NEW, many=many)}),
created AS (
    INSERT INTO :"schema".workflow_runs AS r (
        run_id, workflow_id, workflow_version, input, created_at, updated_at,
        status, owner, fence, started_at, due_at, wake_at
    )
    SELECT a.run_id, a.workflow_id, a.workflow_version, a.input, a.now, a.now,
        CASE WHEN a.owner IS NULL THEN 'queued' ELSE 'running' END, a.owner,
        CASE WHEN a.owner IS NULL THEN 0 ELSE 1 END, CASE WHEN a.owner IS NOT NULL THEN a.now END,
        coalesce(a.until, a.due_at), coalesce(a.until, a.due_at)
    FROM asked a {order}
    ON CONFLICT (run_id) DO NOTHING
    RETURNING r.run_id, r.workflow_id, r.status
), {_told("created")}
SELECT a.n, c.run_id IS NOT NULL, {_columns("r")}, {_TELL}
FROM asked a
LEFT JOIN created c ON c.run_id = a.run_id
LEFT JOIN LATERAL (
    SELECT * FROM :"schema".workflow_runs r WHERE r.run_id = a.run_id AND c.run_id IS NULL LIMIT 1
) r ON true"""


# -- Claiming: $1 owner, $2 until, $3 now; `picked` is a CTE that locks what is claimed.

_CLAIM = f"""
, claimed AS (
    UPDATE :"schema".workflow_runs r SET
        status = 'running', owner = $1::text, due_at = $2::timestamptz, wake_at = $2, fence = r.fence + 1,
        started_at = coalesce(r.started_at, $3::timestamptz), updated_at = $3,
        recoveries = r.recoveries + CASE WHEN r.status = 'running' THEN 1 ELSE 0 END, revision = r.revision + 1
    FROM picked p WHERE r.run_id = p.run_id
    RETURNING {_columns("r")}, p.status AS claimed_from, p.due_at AS was_due, p.revision AS locked_revision
)
SELECT {_columns("c")}, {_MAIL_ARRAYS}, log.events, log.payloads, c.claimed_from,
    c.locked_revision = (SELECT s.revision FROM :"schema".workflow_runs s WHERE s.run_id = c.run_id)
FROM claimed c CROSS JOIN {_log_of("c")} log CROSS JOIN {_mail_of("c")} news
ORDER BY c.was_due, c.run_id"""

_CLAIM_RUN = f"""
WITH picked AS (
    SELECT r.run_id, r.status, r.due_at, r.revision FROM :"schema".workflow_runs r
    WHERE r.run_id = $4::text AND r.status IN {LIVE} AND ($5::boolean OR r.due_at <= $3::timestamptz)
    FOR UPDATE SKIP LOCKED
){_CLAIM}"""


def _due(status: str, limit: str, candidates: str) -> str:
    """The longest due of a status, locked. More candidates than wanted are looked at: rivals hold some of them."""
    return f"""(
    SELECT r.run_id, r.status, r.due_at, r.revision
    FROM (
        SELECT c.run_id, c.due_at FROM unnest($4::text[]) AS w(id) CROSS JOIN LATERAL (
            SELECT r.run_id, r.due_at FROM :"schema".workflow_runs r
            WHERE r.workflow_id = w.id AND r.status = '{status}' AND r.wake_at <= $3::timestamptz AND r.due_at <= $3
            ORDER BY r.wake_at LIMIT {candidates}
        ) c ORDER BY c.due_at, c.run_id LIMIT {candidates}
    ) c CROSS JOIN LATERAL (
        SELECT * FROM :"schema".workflow_runs r
        WHERE r.run_id = c.run_id AND r.status = '{status}' AND r.due_at <= $3
        FOR UPDATE SKIP LOCKED
    ) r LIMIT {limit}
)"""


_CLAIM_DUE = f"""
WITH recovered AS MATERIALIZED {_due("running", "$5::bigint", "CASE WHEN $5 = 0 THEN 0 ELSE $5 * 4 + 64 END")},
ready AS MATERIALIZED {_due("queued", "$6::bigint", "$6 * 4")},
timers AS MATERIALIZED {_due("paused", "$7::bigint", "$7 * 4")},
picked AS (SELECT * FROM recovered UNION ALL SELECT * FROM ready UNION ALL SELECT * FROM timers){_CLAIM}"""

# -- Renewing: $1 run_ids, $2 fences, $3 until.

_STILL_HELD = "r.run_id = a.run_id AND r.fence = a.fence AND r.status = 'running'"

_RENEW = f"""
WITH held AS MATERIALIZED (
    SELECT r.run_id FROM unnest($1::text[], $2::bigint[]) AS a(run_id, fence) CROSS JOIN LATERAL (
        SELECT r.run_id FROM :"schema".workflow_runs r WHERE {_STILL_HELD} FOR UPDATE SKIP LOCKED
    ) r
)
UPDATE :"schema".workflow_runs r SET due_at = $3::timestamptz, wake_at = $3
FROM held h WHERE r.run_id = h.run_id
RETURNING r.run_id, r.fence, r.mail_count"""

_HELD = f"""
SELECT r.run_id, r.fence, r.mail_count
FROM unnest($1::text[], $2::bigint[]) AS a(run_id, fence) CROSS JOIN LATERAL (
    SELECT * FROM :"schema".workflow_runs r WHERE {_STILL_HELD} LIMIT 1
) r"""

# -- Committing

_GUARD = "r.run_id = a.run_id AND r.fence = a.fence AND r.log_length = a.expected AND r.status = 'running'"

# A commit that consumes nothing, in the middle of a run or at its end: nearly all of them, when runs come one by one.
# So these two have texts of their own, little more than an UPDATE and an INSERT.


def _short(changes: str) -> str:
    """$1 run_id, $2 fence, $3 expected, $4 now, $5 state, $6 events, $7 payloads, and what the changes need."""
    return f"""
WITH moved AS (
    UPDATE :"schema".workflow_runs r SET
        log_length = r.log_length + cardinality($6::text[]), state = coalesce($5::text, r.state),
        updated_at = $4::timestamptz, revision = r.revision + 1, {changes}
    FROM (
        SELECT r.run_id FROM :"schema".workflow_runs r
        WHERE r.run_id = $1::text AND r.fence = $2::bigint AND r.log_length = $3::integer AND r.status = 'running'
        FOR UPDATE SKIP LOCKED
    ) h
    WHERE r.run_id = h.run_id
    RETURNING r.run_id, r.mail_count
), appended AS (
    INSERT INTO :"schema".workflow_log (run_id, idx, event, payload)
    SELECT m.run_id, $3 + x.n - 1, x.event, x.payload
    FROM moved m, unnest($6, $7::text[]) WITH ORDINALITY AS x(event, payload, n)
)
SELECT m.mail_count FROM moved m"""


_APPEND = _short("due_at = $8::timestamptz, wake_at = least(r.wake_at, $8)")
_FINISH = _short("""status = $8::text, completed_at = $4, due_at = NULL, wake_at = NULL, owner = NULL,
        waits = CASE WHEN $10::text IS NULL THEN r.waits ELSE $9::text END,
        wait_keys = CASE WHEN $10 IS NULL THEN r.wait_keys ELSE $10::text[] END,
        output = $11::text, error = $12::text, recoveries = coalesce($13::integer, r.recoveries)""")

_COMMIT: Columns = (
    ("run_id", "text"),
    ("fence", "bigint"),
    ("expected", "integer"),
    ("added", "integer"),
    ("now", "timestamptz"),
    ("until", "timestamptz"),
    ("seen", "integer"),
    ("consumed", "text"),
)
_STATE: Columns = (("n", "bigint"), ("state", "text"))
_TRANSITION: Columns = (
    ("n", "bigint"),
    ("status", "text"),
    ("due_at", "timestamptz"),
    ("waits", "text"),
    ("wait_keys", "text"),
    ("output", "text"),
    ("error", "text"),
    ("recoveries", "integer"),
)
_NEWS = """m.unread > 0 AND m.completed_at IS NULL
    AND l.seq > m.seen AND l.seq <> ALL (coalesce(m.consumed, '{}')::integer[])"""
_RECORD: Columns = (("n", "bigint"), ("idx", "integer"), ("event", "text"), ("payload", "text"))


def _commit(*, many: bool) -> str:
    """Commits of different runs, each for itself: what does not satisfy its guard is left out, the others go on.

    `unread` is how much mail there is after what the drive has seen, less what is consumed, by the row's own count.
    """
    state, transition, record = 9, 11, 19
    if many:
        extras = f"""
        LEFT JOIN unnest({_arrays(_STATE, state)}) AS s({_names(_STATE)}) ON s.n = h.n
        LEFT JOIN unnest({_arrays(_TRANSITION, transition)}) AS t({_names(_TRANSITION)}) ON t.n = h.n"""
    else:
        extras = f"""
        CROSS JOIN (SELECT {_scalars(_STATE, state)}) AS s
        CROSS JOIN (SELECT {_scalars(_TRANSITION, transition)}) AS t"""
    return f"""
WITH asked AS ({_asked(_COMMIT, many=many)}),
held AS MATERIALIZED (
    SELECT a.*, r.unread FROM asked a CROSS JOIN LATERAL (
        SELECT CASE WHEN r.mail_count <= a.seen THEN 0 ELSE r.mail_count - a.seen - (
            SELECT count(*) FROM :"schema".workflow_mail l WHERE l.run_id = a.run_id AND l.seq > a.seen
                AND (l.payload IS NULL OR l.seq = ANY (a.consumed::integer[]))
        ) END AS unread
        FROM :"schema".workflow_runs r WHERE {_GUARD} FOR UPDATE SKIP LOCKED
    ) r
),
moved AS (
    UPDATE :"schema".workflow_runs r SET
        log_length = r.log_length + h.added,
        updated_at = h.now,
        revision = r.revision + 1,
        state = coalesce(s.state, r.state),
        status = CASE WHEN k.stays THEN r.status ELSE t.status END,
        due_at = CASE WHEN k.stays THEN h.until ELSE t.due_at END,
        wake_at = CASE WHEN k.stays THEN least(r.wake_at, h.until) ELSE t.due_at END,
        owner = CASE WHEN k.stays THEN r.owner END,
        waits = CASE WHEN k.stays OR t.wait_keys IS NULL THEN r.waits ELSE t.waits END,
        wait_keys = CASE WHEN k.stays OR t.wait_keys IS NULL THEN r.wait_keys ELSE t.wait_keys::text[] END,
        output = CASE WHEN k.stays THEN r.output ELSE t.output END,
        error = CASE WHEN k.stays THEN r.error ELSE t.error END,
        recoveries = CASE WHEN k.stays THEN r.recoveries ELSE coalesce(t.recoveries, r.recoveries) END,
        completed_at = CASE WHEN t.status IN {LIVE} THEN NULL WHEN NOT k.stays THEN h.now END
    FROM held h {extras}
        CROSS JOIN LATERAL (SELECT t.status IS NULL OR (t.status = 'paused' AND h.unread > 0) AS stays) AS k
    WHERE r.run_id = h.run_id
    RETURNING h.n, r.run_id, r.workflow_id, r.status, r.completed_at, h.unread, h.seen, h.consumed
),
appended AS (
    INSERT INTO :"schema".workflow_log (run_id, idx, event, payload)
    SELECT m.run_id, x.idx, x.event, x.payload
    FROM unnest({_arrays(_RECORD, record)}) AS x({_names(_RECORD)}) JOIN moved m ON m.n = x.n
),
consumed AS (
    UPDATE :"schema".workflow_mail l SET payload = NULL, name = NULL
    FROM moved m
    WHERE m.consumed IS NOT NULL AND l.run_id = m.run_id AND l.seq = ANY (m.consumed::integer[])
        AND l.payload IS NOT NULL
), {_told("moved")}
SELECT m.n, m.status <> 'running', CASE WHEN m.completed_at IS NULL THEN m.unread ELSE 0 END, {_MAIL_ARRAYS}, {_TELL}
FROM moved m CROSS JOIN {_mail_of("m", _NEWS)} news"""


# -- Delivering: owner and until are null where the run is not to be claimed.

_SENT: Columns = (
    ("run_id", "text"),
    ("kind", "text"),
    ("id", "text"),
    ("name", "text"),
    ("payload", "text"),
    ("key", "text"),
    ("now", "timestamptz"),
    ("owner", "text"),
    ("until", "timestamptz"),
)


def _coalesced(first: str, second: str) -> str:
    return ", ".join(f"CASE WHEN {first}.n IS NULL THEN {second}.{c} ELSE {first}.{c} END" for c in RUN_COLUMNS)


def _deliver(*, many: bool) -> str:
    """Mail for different runs. For each: whether the row was found and locked, and what became of the mail.

    Whether it is a duplicate is decided by the primary key, under the lock on the run: a conflict is seen even where
    the snapshot does not show the other mail yet.
    """
    return f"""
WITH asked AS MATERIALIZED ({_asked(_SENT, many=many)}),
held AS MATERIALIZED (
    SELECT a.n, a.kind, a.id, a.name, a.payload, a.now, a.owner AS new_owner, a.until,
        r.*, r.status IN {LIVE} AS live, a.kind = 'cancel' OR a.key = ANY (r.wait_keys) AS awaited
    FROM asked a CROSS JOIN LATERAL (
        SELECT * FROM :"schema".workflow_runs r WHERE r.run_id = a.run_id FOR UPDATE SKIP LOCKED
    ) r
),
written AS (
    INSERT INTO :"schema".workflow_mail AS l (run_id, kind, id, seq, name, payload, sent_at)
    SELECT h.run_id, h.kind, h.id, h.mail_count + 1, h.name, h.payload, h.now FROM held h WHERE h.live
    ON CONFLICT (run_id, kind, id) DO NOTHING
    RETURNING l.run_id, l.seq
),
moved AS (
    UPDATE :"schema".workflow_runs r SET
        mail_count = k.seq,
        updated_at = k.now,
        revision = r.revision + 1,
        status = CASE WHEN k.claims THEN 'running' WHEN k.wakes THEN 'queued' ELSE r.status END,
        due_at = CASE WHEN k.claims THEN k.until WHEN k.wakes THEN k.now ELSE r.due_at END,
        wake_at = CASE WHEN k.claims THEN k.until WHEN k.wakes THEN k.now ELSE r.wake_at END,
        owner = CASE WHEN k.claims THEN k.new_owner ELSE r.owner END,
        fence = CASE WHEN k.claims THEN r.fence + 1 ELSE r.fence END,
        started_at = CASE WHEN k.claims THEN coalesce(r.started_at, k.now) ELSE r.started_at END
    FROM (
        SELECT h.n, h.run_id, h.now, h.until, h.new_owner, w.seq,
            h.awaited AND (h.status = 'paused' OR (h.status = 'queued' AND h.due_at > h.now)) AS wakes,
            h.new_owner IS NOT NULL AND (
                (h.status = 'paused' AND h.awaited)
                OR (h.status = 'queued' AND (h.awaited OR h.due_at <= h.now))
            ) AS claims
        FROM written w JOIN held h ON h.run_id = w.run_id
    ) k
    WHERE r.run_id = k.run_id
    RETURNING k.n, k.claims, k.wakes, {_columns("r")}
),
woken AS (SELECT m.workflow_id, m.status FROM moved m WHERE m.wakes),
{_told("woken")}
SELECT {_coalesced("m", "h")}, {_MAIL_ARRAYS}, log.events, log.payloads,
    a.n, m.n IS NOT NULL AS accepted, h.awaited, m.claims, h.n IS NOT NULL AS locked, s.revision IS NOT NULL AS known,
    h.revision = s.revision AS fresh,
    m.n IS NULL AND EXISTS (
        SELECT FROM :"schema".workflow_mail l WHERE l.run_id = a.run_id AND l.kind = a.kind AND l.id = a.id
    ) AS repeated, {_TELL}
FROM asked a
LEFT JOIN held h ON h.n = a.n
LEFT JOIN moved m ON m.n = a.n
LEFT JOIN LATERAL (SELECT s.revision FROM :"schema".workflow_runs s WHERE s.run_id = a.run_id LIMIT 1) s ON true
CROSS JOIN {_log_of("m", "m.claims")} log
CROSS JOIN {_mail_of("m", "m.claims")} news"""


# -- Purging

_PURGE = """
WITH doomed AS MATERIALIZED (
    SELECT r.run_id FROM :"schema".workflow_runs r
    WHERE r.completed_at < $1::timestamptz AND ($2::text IS NULL OR r.workflow_id = $2)
    ORDER BY r.completed_at LIMIT $3::bigint FOR UPDATE SKIP LOCKED
), logs AS (
    DELETE FROM :"schema".workflow_log l USING doomed d WHERE l.run_id = d.run_id
), mail AS (
    DELETE FROM :"schema".workflow_mail l USING doomed d WHERE l.run_id = d.run_id
), gone AS (
    DELETE FROM :"schema".workflow_runs r USING doomed d WHERE r.run_id = d.run_id RETURNING r.run_id
)
SELECT count(*) FROM gone"""

# -- The version of the schema

_VERSION = 'SELECT max(v.version), max(v.works_from) FROM :"schema".workflow_schema v'


class Statements:
    """All statements, for one schema."""

    def __init__(self, schema: str) -> None:
        def fill(sql: str) -> str:
            return with_schema(sql.strip(), schema).replace(":channel", f"'{channel_of(schema)}'")

        self.get = fill(_GET)
        self.look = fill(_LOOK)
        self.read_log = fill(_READ_LOG)
        self.list = fill(_LIST % "$7::text IS NULL")
        self.list_workflow = fill(_LIST % "r.workflow_id = $7::text")
        self.next_due = fill(_NEXT_DUE)
        self.create = fill(_create(many=False))
        self.create_many = fill(_create(many=True))
        self.claim_run = fill(_CLAIM_RUN)
        self.claim_due = fill(_CLAIM_DUE)
        self.renew = fill(_RENEW)
        self.held = fill(_HELD)
        self.append = fill(_APPEND)
        self.finish = fill(_FINISH)
        self.commit = fill(_commit(many=False))
        self.commit_many = fill(_commit(many=True))
        self.deliver = fill(_deliver(many=False))
        self.deliver_many = fill(_deliver(many=True))
        self.purge = fill(_PURGE)
        self.version = fill(_VERSION)

    def texts(self) -> Iterable[tuple[str, str]]:
        """Names and texts."""
        return vars(self).items()
