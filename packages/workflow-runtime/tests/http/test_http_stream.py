"""Events as server-sent events."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

AUTH = [(b"authorization", b"Bearer a-token-for-tests")]


class Reader:
    """Reads a stream message by message, as a server would, and can go away."""

    def __init__(self, app: Any, path: str, **headers: str) -> None:
        self.messages: asyncio.Queue[Any] = asyncio.Queue()
        self.gone = asyncio.Event()
        more = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
        path, _, query = path.partition("?")
        self._scope = {
            "type": "http",
            "method": "GET",
            "path": path,
            "query_string": query.encode(),
            "headers": [*AUTH, *more],
        }
        self.task = asyncio.ensure_future(app(self._scope, self._receive, self.messages.put))

    async def _receive(self) -> dict[str, Any]:
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def next(self) -> Any:
        async with asyncio.timeout(5):
            return await self.messages.get()

    async def text(self) -> str:
        """Everything until the end."""
        async with asyncio.timeout(5):
            await self.task
        found = [self.messages.get_nowait() for _ in range(self.messages.qsize())]
        return b"".join(message.get("body", b"") for message in found).decode()


def events_of(text: str) -> list[tuple[str, str]]:
    """The id and type of each event."""
    blocks = [block.splitlines() for block in text.split("\n\n") if block.startswith("id: ")]
    return [(lines[0].removeprefix("id: "), lines[1].removeprefix("event: ")) for lines in blocks]


def test_a_stream_follows_a_run_to_its_end(site: Any):
    """A stream gives what is in the log, then each event as it is committed, and ends with the run."""

    async def scenario() -> None:
        await site.runtime.start_run("order", run_id="o", input={"order_id": "1"})
        reader = Reader(site.app(), "/runs/o/stream")
        start = await reader.next()
        assert (start["status"], dict(start["headers"])[b"content-type"]) == (200, b"text/event-stream; charset=utf-8")
        seen = "".join([(await reader.next())["body"].decode() for _ in range(3)])
        assert events_of(seen) == [("0", "STEP_FINISHED"), ("1", "SIGNAL_AWAITED")]
        await site.runtime.deliver_signal(run_id="o", signal_id="s", name="paid", payload={"payment_id": "p"})
        assert events_of(await reader.text()) == [("2", "SIGNAL_RESOLVED"), ("3", "RUN_FINISHED")]

    asyncio.run(scenario())


def test_a_reader_goes_on_where_it_was(site: Any):
    """With the id of the last event, or after an index, only what comes later is sent; at the end 204 says so."""

    async def scenario() -> None:
        await site.runtime.start_run("echo", run_id="e", input=1)
        assert events_of(await Reader(site.app(), "/runs/e/stream").text()) == [("0", "RUN_FINISHED")]
        late = Reader(site.app(), "/runs/e/stream", last_event_id="0")
        assert (await late.next())["status"] == 204
        after = Reader(site.app(), "/runs/e/stream?after=0")
        assert (await after.next())["status"] == 204
        strange = await Reader(site.app(), "/runs/e/stream", last_event_id="-1;x").text()
        assert events_of(strange) == [("0", "RUN_FINISHED")]

    asyncio.run(scenario())


def test_a_stream_ends_when_its_reader_goes(site: Any):
    """A reader that goes away leaves nothing running."""

    async def scenario() -> None:
        await site.runtime.start_run("nap", run_id="n")
        reader = Reader(site.app(), "/runs/n/stream")
        await reader.next()
        reader.gone.set()
        await reader.text()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(scenario())


def test_a_quiet_stream_shows_that_it_is_alive(site: Any):
    """While nothing happens a comment comes now and then, so that nothing on the way closes the connection."""

    async def scenario() -> None:
        await site.runtime.start_run("nap", run_id="n")
        reader = Reader(site.app(heartbeat=0.001), "/runs/n/stream?after=0")
        await reader.next()
        bodies = [(await reader.next())["body"] for _ in range(3)]
        assert bodies == [b"retry: 1000\n\n", b": still there\n\n", b": still there\n\n"]
        reader.gone.set()
        await reader.text()

    asyncio.run(scenario())


@pytest.mark.parametrize("options", [{"max_stream": 0.0}, {"remaining": lambda: 0.0}])
def test_a_stream_ends_when_its_time_is_up(site: Any, options: dict[str, Any]):
    """Where an answer must end, a stream ends in good order, and its reader comes back for the rest."""

    async def scenario() -> None:
        await site.runtime.start_run("nap", run_id="n")
        assert (await Reader(site.app(**options), "/runs/n/stream").text()).startswith("retry: 1000")

    asyncio.run(scenario())


def test_a_stream_that_fails_ends(site: Any, caplog: pytest.LogCaptureFixture):
    """A store that is lost in the middle of a stream ends it; the log says why."""

    async def scenario() -> None:
        await site.runtime.start_run("nap", run_id="n")
        reader = Reader(site.app(), "/runs/n/stream")
        await reader.next()

        async def lost(*args: Any, **kwargs: Any) -> None:
            raise ConnectionError("lost")

        site.runtime.store.read_log = lost
        await reader.text()

    asyncio.run(scenario())
    assert "ended early" in caplog.text
