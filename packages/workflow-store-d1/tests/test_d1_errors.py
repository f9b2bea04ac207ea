"""What D1's messages mean, and when it is asked again."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from workflow.core.errors import InvalidArgumentError, PayloadError, StoreError
from workflow.core.records import Commit, Lease, NewMail, NewRun
from workflow.runtime.contract import HeldLease
from workflow.store.d1 import D1Store, D1UnavailableError
from workflow.store.d1.errors import d1_error

NOW = datetime(2030, 1, 1, tzinfo=UTC)
LEASE = Lease("me", NOW + timedelta(seconds=30))


@pytest.mark.parametrize(
    ("message", "maybe_written"),
    [
        ("D1_ERROR: D1 DB is overloaded. Requests queued for too long.", False),
        ("D1_ERROR: D1 DB is overloaded. Too many requests queued.", False),
        ("D1_ERROR: Cannot resolve D1 DB due to transient issue on remote node.", False),
        ("D1_ERROR: Network connection lost.", True),
        ("D1_ERROR: D1 DB storage operation exceeded timeout which caused object to be reset.", True),
        ("D1_ERROR: internal error; reference = abc123", True),
        ("D1_ERROR: D1 DB reset because its code was updated.", True),
        ("D1_ERROR: D1 DB exceeded its CPU time limit and was reset.", True),
    ],
)
def test_what_may_be_asked_again(message: str, maybe_written: bool) -> None:
    """What passes is told apart from what doesn't, and whether something may have been written is known."""
    error = d1_error(message, "The database")
    assert isinstance(error, D1UnavailableError)
    assert error.maybe_written is maybe_written
    assert message in str(error)


@pytest.mark.parametrize(
    ("message", "kind", "hint"),
    [
        ("D1_ERROR: string or blob too big: SQLITE_TOOBIG", PayloadError, "2 MB"),
        ("D1_ERROR: Exceeded maximum DB size", StoreError, "Purge"),
        ("D1_ERROR: no such table: workflow_runs: SQLITE_ERROR", StoreError, "migrations apply"),
        ("D1_ERROR: UNIQUE constraint failed: network_timed out: SQLITE_CONSTRAINT", StoreError, "refused"),
        ("D1_ERROR: near 'x': syntax error: SQLITE_ERROR", StoreError, "refused"),
    ],
)
def test_what_is_refused_for_good(message: str, kind: type[Exception], hint: str) -> None:
    """What can't get better by itself is an error that says what to do."""
    error = d1_error(message, "The database")
    assert type(error) is kind
    assert hint in str(error)


# -- The REST API


class Api:
    """Cloudflare's API as a list of answers: each a response, or an exception to raise."""

    def __init__(self, *answers: httpx.Response | Exception) -> None:
        self.answers = list(answers)
        self.bodies: list[Any] = []
        self.pauses: list[float] = []

    def store(self) -> D1Store:
        client = httpx.AsyncClient(transport=httpx.MockTransport(self._answer))
        store = D1Store.from_http("account", "database", "token", client=client, retry_for=20)
        store._patient.sleep = self._sleep
        store._ready = True
        return store

    async def _sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)

    def _answer(self, request: httpx.Request) -> httpx.Response:
        self.bodies.append(request.read())
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def rows(*results: list[list[Any]]) -> httpx.Response:
    found = [{"success": True, "meta": {}, "results": {"columns": [], "rows": rows}} for rows in results]
    return httpx.Response(200, json={"success": True, "result": found, "errors": [], "messages": []})


def refusal(status: int, message: str, **headers: str) -> httpx.Response:
    body = {"success": False, "result": [], "errors": [{"code": 7500, "message": message}], "messages": []}
    return httpx.Response(status, json=body, headers=headers)


def new_run(input: str = "{}") -> NewRun:
    return NewRun("run", "w", None, input, NOW)


def test_a_read_is_repeated_until_it_is_answered() -> None:
    """A read goes on through lost connections, timeouts, outages and pages that are no JSON."""
    api = Api(
        httpx.ReadError("gone"),
        httpx.ReadTimeout("slow"),
        refusal(503, "internal error; reference = x"),
        httpx.Response(502, text="<html>Bad gateway</html>"),
        rows([]),
    )
    assert asyncio.run(api.store().get_run("run")) is None
    assert api.pauses == [0.1, 0.2, 0.5, 1.0]


def test_the_rate_limit_is_respected() -> None:
    """A 429 is waited out for as long as it asks, also for a write: nothing of it was done."""
    api = Api(refusal(429, "slow down", **{"Retry-After": "7"}), refusal(429, "slow down"), rows([]))
    assert asyncio.run(api.store().renew([HeldLease("run", 1)], until=NOW, now=NOW)) == []
    assert api.pauses == [7, 0.2]


def test_a_rate_limit_that_lasts_is_an_error() -> None:
    """A pause longer than the store's patience is not begun; the error says how long it would be."""
    api = Api(refusal(429, "slow down", **{"Retry-After": "280"}))
    with pytest.raises(D1UnavailableError, match="wait 280 s") as raised:
        asyncio.run(api.store().create_run(new_run(), lease=None, now=NOW))
    assert (api.pauses, raised.value.maybe_written, raised.value.retry_after) == ([], False, 280)


def test_a_date_to_wait_for() -> None:
    """Retry-After may be a date: one in the past means at once."""
    api = Api(refusal(429, "slow down", **{"Retry-After": "Fri, 31 Dec 1999 23:59:59 GMT"}), rows([]))
    assert asyncio.run(api.store().get_run("run")) is None
    assert api.pauses == [0.1]


@pytest.mark.parametrize(
    "error", [httpx.ReadError("gone"), httpx.ReadTimeout("slow"), httpx.RemoteProtocolError("cut")]
)
def test_a_write_that_may_have_happened_is_not_repeated(error: Exception) -> None:
    """A start or a delivery whose answer was lost raises: asked again it would say that somebody else had done it."""
    api = Api(error, error)
    store = api.store()
    with pytest.raises(D1UnavailableError) as raised:
        asyncio.run(store.create_run(new_run(), lease=None, now=NOW))
    assert raised.value.maybe_written
    with pytest.raises(D1UnavailableError):
        asyncio.run(store.deliver("run", NewMail("signal", "s", "n", "{}"), lease=None, now=NOW))
    assert api.pauses == []


def test_a_write_that_was_never_sent_is_repeated() -> None:
    """A write whose connection could not be opened has not happened, and goes on."""
    api = Api(httpx.ConnectError("refused"), httpx.ConnectTimeout("slow"), rows([[0]], [], [], []))
    assert asyncio.run(api.store().purge(NOW)) == 0
    assert api.pauses == [0.1, 0.2]


def test_a_commit_is_repeated() -> None:
    """A commit whose answer was lost is sent again as it was: it is idempotent."""
    api = Api(httpx.ReadError("gone"), rows([], [[1, 0, "running", None, None, None, None, None, None]]))
    answer = asyncio.run(api.store().commit(Commit("run", 1, 0, NOW, LEASE)))
    assert not answer.released
    assert api.bodies[0] == api.bodies[1]


def test_patience_ends() -> None:
    """An outage is an error in the end, and each try was counted."""
    api = Api(*[httpx.ConnectError("refused")] * 20)
    store = api.store()
    with pytest.raises(D1UnavailableError, match="can't be reached"):
        asyncio.run(store.get_run("run"))
    assert sum(api.pauses) <= 20 < sum(api.pauses) + api.pauses[-1]
    assert (store.usage.calls, store.usage.queries) == (len(api.bodies), len(api.bodies))


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (refusal(401, "Authentication error"), "D1:Edit"),
        (refusal(403, "not allowed"), "D1:Edit"),
        (refusal(404, "not found"), "ids of account and database"),
        (refusal(400, "near x: syntax error: SQLITE_ERROR"), "refused a statement"),
        (refusal(500, "datatype mismatch: SQLITE_MISMATCH"), "refused a statement"),
        (rows([], []), "2 results to 1"),
    ],
)
def test_what_is_wrong_is_said_at_once(answer: httpx.Response, hint: str) -> None:
    """What no repetition helps is not repeated, and never shows the token."""
    api = Api(answer)
    with pytest.raises(StoreError, match=hint) as raised:
        asyncio.run(api.store().get_run("run"))
    assert "token" not in str(raised.value).replace("API token", "")
    assert api.pauses == []


def test_ids_are_needed() -> None:
    """An id or a token that is empty, as from a variable that is not set, is an error that names it."""
    with pytest.raises(InvalidArgumentError, match="api_token is empty"):
        D1Store.from_http("account", "database", "")


def test_something_else_than_a_binding() -> None:
    """What is no binding is refused, with the way to do it outside of a Worker."""
    with pytest.raises(InvalidArgumentError, match="from_http"):
        D1Store("database-id")
