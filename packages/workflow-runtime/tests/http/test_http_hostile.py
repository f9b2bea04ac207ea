"""Who is kept out, and what malformed requests are answered with. Nothing from outside makes a 5xx."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from workflow.core import InvalidArgumentError, StoreError
from workflow.runtime import MemoryStore, WorkflowHTTP, WorkflowRuntime

JSON = {"content-type": "application/json"}


def raw_call(app: WorkflowHTTP, messages: list[dict[str, Any]], **scope: Any) -> tuple[int, dict[bytes, bytes]]:
    """A request as a server hands it over, which no client library would send: status and headers of its answer."""
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return messages.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    whole = {"type": "http", "method": "GET", "path": "/runs", "query_string": b"", "headers": [], **scope}
    asyncio.run(app(whole, receive, send))
    if not sent:
        return 0, {}
    return sent[0]["status"], dict(sent[0]["headers"])


# -- Authentication


@pytest.mark.parametrize(
    "token", [None, "", [], [""], b"", ["good", ""], "line\n", " space", "in side", "\x00", 5, [5]]
)
def test_without_a_usable_token_nothing_starts(site: Any, token: Any):
    """An app whose token is missing, empty, or could never be sent in a header is not made."""
    with pytest.raises((InvalidArgumentError, TypeError)):
        site.app(token=token)


def test_no_authentication_must_be_asked_for_in_as_many_words(site: Any):
    """The app is open to everybody only where it was told so by name; a sweep token still guards the sweep then."""
    app = site.app(token=WorkflowHTTP.NO_AUTHENTICATION, sweep_token="sweeper")
    assert site.call("GET", "/runs", app=app, token=None).status_code == 200
    assert site.call("POST", "/sweep", app=app, token=None).status_code == 401
    assert site.call("POST", "/sweep", app=app, token="sweeper").status_code == 200


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        "Bearer wrong",
        "Bearer a-token-for-test",
        "Bearer a-token-for-tests2",
        "Basic a-token-for-tests",
        "a-token-for-tests",
        "Bearer a-token-for-tests, Bearer x",
        b"Bearer \xff\xfe",
    ],
)
@pytest.mark.parametrize("path", ["/runs", "/runs/x", "/nowhere", "/openapi.json"])
def test_a_wrong_token_is_refused_everywhere(site: Any, header: Any, path: str):
    """Without the token a stranger gets one answer, at every path, whether there is something or not."""
    headers = {} if header is None else {"authorization": header}
    answer = site.call("GET", path, token=None, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")
    assert answer.headers["www-authenticate"] == "Bearer"


def test_two_authorization_headers_are_none(site: Any):
    """A request whose token depends on which header is read is refused."""
    headers = [(b"authorization", b"Bearer a-token-for-tests"), (b"authorization", b"Bearer x")]
    assert raw_call(site.app(), [], headers=headers)[0] == 401


def test_tokens_can_be_changed_without_an_interruption(site: Any):
    """Several tokens are good at once, so that callers can be changed one by one; non-ASCII ones too."""
    app = site.app(token=["new", b"old", "schlüssel"])
    assert [site.call("GET", "/runs", app=app, token=token).status_code for token in ("new", "old", "gone")] == [
        200,
        200,
        401,
    ]
    headers = {"authorization": "Bearer schlüssel".encode()}
    assert site.call("GET", "/runs", app=app, token=None, headers=headers).status_code == 200


def test_a_sweep_token_allows_sweeps_only(site: Any):
    """The secret that a cron service keeps opens the sweep and nothing else; the main token opens all."""
    app = site.app(sweep_token=["sweeper", "older"])
    for token, status in (("sweeper", 200), ("older", 200), (site.token, 200), ("x", 401)):
        assert site.call("POST", "/sweep", app=app, token=token).status_code == status
    assert site.call("GET", "/runs", app=app, token="sweeper").status_code == 401
    assert site.call("GET", "/sweep", app=app, token="sweeper").status_code == 401


def test_a_stranger_is_refused_before_the_body_is_read(site: Any):
    """No byte of a body is taken from who has no token."""
    assert raw_call(site.app(), [], method="POST")[0] == 401


# -- Bodies


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 415),
        (b"{", 400),
        (b"\xff\xfe", 400),
        (b"null", 422),
        (b"[]", 422),
        (b'"text"', 422),
        (b"{}", 422),
        (b'{"workflow_id": "echo", "extra": 1}', 422),
        (b'{"workflow_id": "unknown"}', 404),
        (b'{"workflow_id": ""}', 422),
        (b'{"workflow_id": 5}', 422),
        (b'{"workflow_id": "echo", "run_id": "a\\u0000b"}', 422),
        (b'{"workflow_id": "echo", "run_id": "\\ud800"}', 400),
        (b'{"workflow_id": "echo", "run_id": "%s"}' % (b"x" * 513), 422),
        (b'{"workflow_id": "echo", "drive": "yes"}', 422),
        (b'{"workflow_id": "echo", "drive": 1}', 422),
        (b'{"workflow_id": "echo", "delay": -1}', 422),
        (b'{"workflow_id": "echo", "delay": 1e300}', 422),
        (b'{"workflow_id": "echo", "delay": NaN}', 422),
        (b'{"workflow_id": "echo", "delay": Infinity}', 422),
        (b'{"workflow_id": "echo", "input": NaN}', 422),
        (b'{"workflow_id": "echo", "input": 1e999}', 422),
        (b'{"workflow_id": "order", "input": {"order_id": 5}}', 422),
        (b'{"workflow_id": "order", "input": {"nothing": "\\u0000"}}', 422),
        (b'{"workflow_id": "echo", "input": ' + b"[" * 5000 + b"]" * 5000 + b"}", 400),
    ],
)
def test_a_bad_start_is_refused(site: Any, body: bytes, status: int):
    """A body that is no JSON, or does not fit, is refused with its reasons, and starts nothing."""
    headers = JSON if body else {}
    answer = site.call("POST", "/runs", content=body, headers=headers)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert site.call("GET", "/runs").json()["runs"] == []


@pytest.mark.parametrize(
    "value",
    [2**53, 2**63, 2**64, -(2**63), 0.1, 1e308, "\x00", "\u2028", {"": None}, [[]] * 50, "x" * 100_000, True, None],
)
def test_unusual_values_come_back_unchanged(site: Any, value: Any):
    """Whatever JSON can hold comes back as it was sent."""
    answer = site.call("POST", "/runs", json={"workflow_id": "echo", "input": value}).json()
    assert answer["run"]["input"] == answer["run"]["output"] == value


@pytest.mark.parametrize(
    "kind",
    ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "", "application/jsonx"],
)
def test_only_json_is_taken(site: Any, kind: str):
    """A form of a foreign page can't call the app, even where it needs no token: its content type is no JSON."""
    app = site.app(token=WorkflowHTTP.NO_AUTHENTICATION)
    answer = site.call("POST", "/runs", content=b'{"workflow_id": "echo"}', headers={"content-type": kind}, app=app)
    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_media_type")


def test_a_large_body_is_refused_early(site: Any):
    """A body over the limit is refused by its announced length, or as soon as it is over, and not read on."""
    app, auth = site.app(max_body=10), (b"authorization", b"Bearer a-token-for-tests")
    post = {"method": "POST", "headers": [auth, (b"content-type", b"application/json")]}
    announced = {**post, "headers": [*post["headers"], (b"content-length", b"11")]}
    assert raw_call(app, [], **announced)[0] == 413
    chunk = {"type": "http.request", "body": b"12345", "more_body": True}
    rest = [dict(chunk) for _ in range(9)]
    status, headers = raw_call(app, rest, **post)
    assert (status, headers[b"connection"], len(rest)) == (413, b"close", 6)


@pytest.mark.parametrize("length", [b"-1", b"x", b"1" * 5000, b"", b"1_0", "²".encode("latin-1")])
def test_a_strange_content_length_is_refused(site: Any, length: bytes):
    """A length that is no number is a bad request."""
    headers = [(b"authorization", b"Bearer a-token-for-tests"), (b"content-length", length)]
    assert raw_call(site.app(), [], method="POST", headers=headers)[0] in (400, 413)


def test_a_client_that_goes_away_gets_no_answer(site: Any):
    """A request whose client has gone before it was whole is forgotten."""
    headers = [(b"authorization", b"Bearer a-token-for-tests")]
    assert raw_call(site.app(), [{"type": "http.disconnect"}], method="POST", headers=headers)[0] == 0


# -- Addresses


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=501",
        "limit=x",
        "limit=1.0",
        "limit=1_0",
        "limit=1&limit=2",
        "limit=" + "9" * 5000,
        "status=",
        "status=gone",
        "unknown=1",
        "cursor=x",
        "cursor=" + "A" * 3000,
        "cursor=WyIwMDAxLTAxLTAxVDAwOjAwOjAwKzE0OjAwIiwgImEiXQ",
        "cursor=WyIyMDIwLTAxLTAxVDAwOjAwOjAwKzAwOjAwIiwgIlx1MDAwMCJd",
        "created_from=yesterday",
        "created_from=2026-01-01T00:00:00",
        "created_from=0001-01-01T00:00:00%2B14:00",
        "created_until=9999-12-31T23:59:59-14:00",
        "workflow_id=%00",
        "workflow_id=%ff",
        "workflow_id=" + "x" * 20000,
        "&".join(f"a{number}=1" for number in range(60)),
        "\xff",
    ],
)
def test_a_bad_query_is_refused(site: Any, query: str):
    """Query parameters that don't fit are refused with 422."""
    answer = site.call("GET", f"/runs?{query}")
    assert answer.status_code == 422, answer.text


@pytest.mark.parametrize("query", ["after=-2", "after=2147483648", "after=x", "limit=0", "limit=1001", "before=1"])
def test_a_bad_place_in_a_log_is_refused(site: Any, query: str):
    """A place in a log that can't be is refused, before anything is looked up."""
    assert site.call("GET", f"/runs/x/timeline?{query}").status_code == 422


@pytest.mark.parametrize("run_id", ["%00", "%0a", "%7f", "x" * 513])
def test_a_run_id_that_no_run_can_have_is_refused(site: Any, run_id: str):
    """Ids with control characters never reach a store."""
    assert site.call("GET", f"/runs/{run_id}").status_code == 422


@pytest.mark.parametrize(
    ("method", "path", "status", "allow"),
    [
        ("GET", "/", 404, None),
        ("GET", "/runs/a/b", 404, None),
        ("GET", "/runs/a/timeline/b", 404, None),
        ("GET", "//runs", 404, None),
        ("GET", "/runs/%ff", 404, None),
        ("PUT", "/runs", 405, "GET, POST"),
        ("DELETE", "/runs/a", 405, "GET"),
        ("GET", "/sweep", 405, "POST"),
        ("OPTIONS", "/runs", 405, "GET, POST"),
        ("BREW", "/openapi.json", 405, "GET"),
    ],
)
def test_what_is_not_there_is_told(site: Any, method: str, path: str, status: int, allow: str | None):
    """An unknown path is 404, an unknown method of a known one 405 with those that there are."""
    answer = site.call(method, path)
    assert (answer.status_code, answer.headers.get("allow")) == (status, allow)


def test_head_answers_without_a_body(site: Any):
    """HEAD is GET without the body."""
    answer = site.call("HEAD", "/runs")
    assert (answer.status_code, answer.content) == (200, b"")


def test_a_websocket_is_turned_away(site: Any):
    """A websocket is closed, and no error of the server."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(site.app()({"type": "websocket"}, None, send))
    assert [message["type"] for message in sent] == ["websocket.close"]


# -- The other side


class BrokenStore(MemoryStore):
    """A store that fails as it is told."""

    error: Exception

    async def get_run(self, run_id: str) -> Any:
        raise self.error


class OperationalError(Exception):
    """Named as drivers of databases name it."""


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (ConnectionRefusedError("at 10.0.0.1"), 503, "unavailable"),
        (TimeoutError("after 5 s"), 503, "unavailable"),
        (OperationalError("password=secret"), 503, "unavailable"),
        (StoreError("The schema is old: run workflow migrate"), 500, "store"),
        (RuntimeError("secret"), 500, "internal"),
    ],
)
def test_an_error_of_the_server_is_logged_and_not_told(
    site: Any, caplog: pytest.LogCaptureFixture, error: Exception, status: int, code: str
):
    """Where a retry helps it is 503 and says when, else 500; what happened is in the log, under an id that is told."""
    store = BrokenStore()
    store.error = error
    app = site.app(runtime=WorkflowRuntime(store, []))
    with caplog.at_level(logging.ERROR):
        answer = site.call("GET", "/runs/x", app=app)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert ("retry-after" in answer.headers) == (status == 503)
    assert str(error) not in answer.text
    assert answer.json()["error_id"] in caplog.text and str(error) in caplog.text
