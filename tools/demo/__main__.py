"""The fulfilment demo: a durable run is killed with `kill -9` in the middle, and ends well in another process.

    python tools/dev.py demo

Exits with 0 only if what the outside world saw is what the workflow promises.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
RUN_ID = "fulfillment:order-1"


class Process:
    """A worker process, and what it says."""

    def __init__(self, name: str, screen: Any) -> None:
        self.name = name
        self._screen = screen

    async def start(self) -> None:
        self._child = await asyncio.create_subprocess_exec(
            sys.executable, str(HERE / "worker.py"), RUN_ID, stdout=asyncio.subprocess.PIPE
        )
        self._screen.line(self.name, "starts", f"pid {self._child.pid}")

    async def show(self, *, until: tuple[str, str] | None = None) -> bool:
        """Print its events until one of this type and id has come (true), or the process has ended (false)."""
        assert self._child.stdout is not None
        while line := await self._child.stdout.readline():
            event = json.loads(line)
            self._screen.event(self.name, event)
            if (event["type"], event.get("id")) == until:
                return True
        return False

    async def kill(self) -> None:
        self._screen.line(self.name, "kill -9", f"pid {self._child.pid}", style="bold red")
        self._child.send_signal(signal.SIGKILL)
        await self._child.wait()

    async def ended(self) -> int:
        return await self._child.wait()


async def tell(screen: Any) -> bool:
    """The story, act by act: whether it ended as promised."""
    from app import make_runtime

    async with make_runtime() as app:
        screen.say("1. The app enqueues a run, and a first process drives it until it sleeps.")
        started = await app.start_run(
            "fulfillment", run_id=RUN_ID, input={"order_id": "order-1", "delay_ms": 1500}, drive=False
        )
        screen.line("the app", "start_run", f"{RUN_ID}: {started.kind}")
        again = await app.start_run("fulfillment", run_id=RUN_ID, input={"order_id": "order-1", "delay_ms": 1500})
        screen.line("the app", "start_run, once more", f"{again.kind}, created={again.created}: a run id is used once")
        first = Process("process one", screen)
        await first.start()
        await first.show(until=("TIMER_STARTED", "$sleep#1"))

        screen.say("2. The payment comes early: nobody waits for it yet. And it comes twice, as webhooks do.")
        for _ in range(2):
            result = await app.deliver_signal(
                run_id=RUN_ID, signal_id="evt_1", name="payment-received", payload={"payment_id": "pay_1"}, drive=False
            )
            screen.line("the app", "deliver_signal evt_1", result.kind)

        screen.say("3. The timer fires, the payment is there, shipping begins - and the process is killed.")
        await first.show(until=("STEP_STARTED", "ship-order"))
        await asyncio.sleep(0.3)
        await first.kill()
        run = await app.get_run(RUN_ID)
        assert run is not None
        assert run.due_at is not None
        screen.line("the store", f"status {run.status}", f"the dead owner's lease ends at {run.due_at:%H:%M:%S.%f}")

        screen.say("4. A second process takes the run over when the lease has ended. It replays, and goes on.")
        second = Process("process two", screen)
        await second.start()
        await second.show()
        await second.ended()
        return await show_what_happened(app, screen)


async def show_what_happened(app: Any, screen: Any) -> bool:
    from app import FOLDER

    run = await app.get_run(RUN_ID)
    timeline = await app.get_timeline(RUN_ID)
    rows = [[str(event.index), f"{event.at:%H:%M:%S.%f}", event.type, getattr(event, "id", "")] for event in timeline]
    screen.table(f"The log of {RUN_ID}", ["index", "at", "event", "operation"], rows)

    effects = [json.loads(line) for line in (FOLDER / "outside-world.jsonl").read_text().splitlines()]
    rows = [[effect["effect"], effect["key"], str(effect["pid"])] for effect in effects]
    screen.table("What the outside world saw", ["effect", "idempotency key", "pid"], rows)

    signals = [event.signal_id for event in timeline if event.type == "SIGNAL_RESOLVED"]
    recorded = [event.id for event in timeline if event.type == "STEP_FINISHED"]
    checks = {
        f"the run is {run.status}, with output {run.output!r}": run.status == "completed" and run.output.shipped,
        "each step took effect once": [e["effect"] for e in effects] == ["inventory reserved", "order shipped"],
        "each step is recorded once": recorded == ["reserve-inventory", "ship-order"],
        "the signal arrived once": signals == ["evt_1"],
    }
    screen.console.print()
    for promise, kept in checks.items():
        screen.console.print(f"{'[green]yes[/green]' if kept else '[red]NO [/red]'}  {promise}", soft_wrap=True)
    return all(checks.values())


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="workflow-demo-") as folder:
        os.environ["DEMO_FOLDER"] = folder
        from screen import Screen

        return 0 if asyncio.run(tell(Screen())) else 1


if __name__ == "__main__":
    sys.exit(main())
