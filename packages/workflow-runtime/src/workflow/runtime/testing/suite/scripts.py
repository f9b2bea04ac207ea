"""How hypothesis draws lists of operations: on three runs of two workflows, within a minute, mostly to the point."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from workflow.core.records import NewMail, RunStatus
from workflow.runtime.queues import Queue, RateLimit

from .operations import (
    Claim,
    ClaimDue,
    ClaimQueue,
    Create,
    Deliver,
    List,
    Move,
    NextDue,
    Operation,
    Purge,
    Release,
    Renew,
    Reopen,
    Schedule,
    Script,
)

__all__ = ["scripts"]

RUN_IDS = st.sampled_from(["r1", "r1", "r1", "r1", "r2", "R1"])
WORKFLOW_IDS = st.sampled_from(["a", "b"])
QUEUES = st.sampled_from([None, "a", "q", "q"])
QUEUES_LEFT_OUT = st.sampled_from([frozenset[str](), frozenset[str](), frozenset("q"), frozenset("ab")])
KEYS = st.sampled_from([None, "k", "k", "l"])
SECONDS = st.integers(0, 3)
MOSTLY_RIGHT = st.sampled_from([*[0] * 10, -1, 1])
MOSTLY_ALL_SEEN = st.sampled_from([0, 0, 0, 1, 2])
PAUSED: list[RunStatus] = ["paused"]
OTHERS: list[RunStatus] = ["queued", "queued", "queued", "completed", "errored", "cancelled"]
STATUSES = st.sampled_from(PAUSED * 8 + OTHERS)
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=5)


def scripts() -> SearchStrategy[Script]:
    """Lists of operations. Each begins with a run under a lease, so that few of them are about nothing."""
    first = Create("r1", "a", leased=True, delay=0)
    entries = st.tuples(SECONDS, st.booleans(), operations())
    return st.lists(entries, min_size=12, max_size=24).map(lambda rest: [(0, False, first), *rest])


def operations() -> SearchStrategy[Operation]:
    """Every kind, the more often the more there is to it. `one_of` would count a strategy that is named twice once."""
    some_workflows = st.frozensets(WORKFLOW_IDS)
    some_runs = st.frozensets(RUN_IDS)
    kinds: dict[str, SearchStrategy[Operation]] = {
        "new": st.builds(Create, RUN_IDS, WORKFLOW_IDS, st.booleans(), SECONDS),
        "placed": placed_runs(),
        "queue": queue_claims(),
        "schedule": st.builds(Schedule, WORKFLOW_IDS, MOSTLY_RIGHT, some_runs, some_runs, some_runs),
        "reopen": st.builds(
            Reopen, RUN_IDS, MOSTLY_RIGHT, st.none() | mails().filter(lambda mail: mail.kind != "cancel")
        ),
        "move": moves(),
        "mail": st.builds(Deliver, RUN_IDS, mails(), st.booleans()),
        "claim": st.builds(Claim, RUN_IDS, st.booleans(), st.integers(1, 4)),
        "due": st.builds(ClaimDue, some_workflows, st.booleans(), st.booleans(), st.booleans(), QUEUES_LEFT_OUT),
        "renew": st.builds(Renew, st.frozensets(RUN_IDS), MOSTLY_RIGHT),
        "next": st.builds(NextDue, some_workflows, QUEUES_LEFT_OUT),
        "list": lists(),
        "purge": st.builds(Purge, SECONDS, st.none() | WORKFLOW_IDS),
    }
    often = ["move"] * 8 + ["mail"] * 5 + ["claim"] * 3 + ["queue"] * 3 + ["due"] * 2 + ["placed"] * 2
    seldom = ["new", "renew", "next", "list", "list", "purge", "schedule", "reopen", "reopen"]
    return st.sampled_from([*often, *seldom]).flatmap(kinds.__getitem__)


def placed_runs() -> SearchStrategy[Operation]:
    return st.builds(
        Create,
        run_id=st.sampled_from(["r1", "r2", "R1", "r3"]),
        workflow_id=WORKFLOW_IDS,
        leased=st.sampled_from([False, False, True]),
        delay=SECONDS,
        queue=QUEUES,
        key=KEYS,
        priority=st.integers(-1, 1),
        schedule_id=st.sampled_from([None, "s"]),
        records=st.sampled_from([0, 0, 2]),
        replaces=st.booleans(),
    )


def queue_claims() -> SearchStrategy[Operation]:
    return st.builds(
        ClaimQueue,
        queue=queues(),
        workflow_ids=st.sampled_from([frozenset("ab"), frozenset("ab"), frozenset("a")]),
        ready=st.sampled_from([True, True, False]),
        timers=st.booleans(),
        by_age=st.booleans(),
        run_id=st.sampled_from([None, None, "r1"]),
    )


def queues() -> SearchStrategy[Queue]:
    """Limits side by side only where the contract says which run is passed over: not a rate beside limits of keys."""
    limit = st.none() | st.integers(1, 2)
    rate = st.none() | st.builds(RateLimit, st.integers(1, 2), st.integers(1, 9))
    name, holds = st.sampled_from(["a", "q"]), st.sampled_from(["running", "started"])
    return st.one_of(
        st.builds(Queue, name, concurrency=limit, concurrency_per_key=limit, holds=holds),
        st.builds(Queue, name, concurrency=limit, rate_limit=rate, holds=holds),
        st.builds(Queue, name, concurrency_per_key=limit, rate_limit_per_key=rate, holds=holds),
    )


def moves() -> SearchStrategy[Operation]:
    return st.builds(
        Move,
        run_id=RUN_IDS,
        count=st.integers(0, 2),
        release=st.none() | releases(),
        fence_shift=MOSTLY_RIGHT,
        index_shift=MOSTLY_RIGHT,
        unseen=MOSTLY_ALL_SEEN,
        consumed=st.frozensets(st.integers(1, 3)),
        state=st.none() | TEXTS,
    )


def releases() -> SearchStrategy[Release]:
    waits = st.frozensets(st.sampled_from(["paid", "other", "a", "timer"]), min_size=1)
    return st.builds(Release, STATUSES, SECONDS, waits, st.sampled_from([0, 2, None]))


def mails() -> SearchStrategy[NewMail]:
    """Few ids, so that many are duplicates."""
    signal_names = st.sampled_from(["paid", "other"])
    return st.one_of(
        st.builds(NewMail, st.just("signal"), st.sampled_from("xyz"), signal_names, TEXTS),
        st.builds(NewMail, st.just("approval"), st.sampled_from("ax"), st.just("Ship it?"), TEXTS),
        st.builds(NewMail, st.just("cancel"), st.just("x"), st.just("cancel"), TEXTS),
    )


def lists() -> SearchStrategy[Operation]:
    return st.builds(
        List,
        workflow_id=st.none() | WORKFLOW_IDS,
        status=st.none() | st.frozensets(STATUSES),
        age=st.integers(1, 9),
        after=st.none() | RUN_IDS,
        limit=st.integers(1, 3),
    )
