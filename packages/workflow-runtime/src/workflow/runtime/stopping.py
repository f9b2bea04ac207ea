"""How a worker is asked to stop: by the app, or by a signal to its process."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from typing import Any

__all__ = ["Stop"]

_SIGNALS = ("SIGTERM", "SIGINT")


class Stop:
    """`asked`: begin nothing more and finish. `urgent`: don't even wait for what is under way."""

    def __init__(self, asked: asyncio.Event | None = None) -> None:
        self.asked = asked or asyncio.Event()
        self.urgent = asyncio.Event()

    def ask(self) -> None:
        """Ask once to stop in good order, and once more to stop now."""
        if self.asked.is_set():
            self.urgent.set()
        self.asked.set()

    @contextmanager
    def on_signals(self) -> Generator[None]:
        """Let SIGTERM and SIGINT ask, where this thread may handle signals; put the handlers back at the end."""
        loop = asyncio.get_running_loop()
        with _handled(loop, [getattr(signal, name) for name in _SIGNALS if hasattr(signal, name)], self.ask):
            yield


@contextmanager
def _handled(
    loop: asyncio.AbstractEventLoop, signals: list[signal.Signals], act: Callable[[], None]
) -> Generator[None]:
    before: dict[signal.Signals, Any] = {}
    try:
        for number in signals:
            with suppress(ValueError, RuntimeError):  # not the main thread: somebody else has the signals
                handler = signal.getsignal(number)
                _handle(loop, number, act)
                before[number] = handler
        yield
    finally:
        for number, handler in before.items():
            _restore(loop, number, handler)


def _handle(loop: asyncio.AbstractEventLoop, number: signal.Signals, act: Callable[[], None]) -> None:
    try:
        loop.add_signal_handler(number, act)
    except NotImplementedError:  # Windows: the handler runs between two instructions of the main thread

        def handler(number: int, frame: object) -> None:
            loop.call_soon_threadsafe(act)

        signal.signal(number, handler)


def _restore(loop: asyncio.AbstractEventLoop, number: signal.Signals, handler: Any) -> None:
    with suppress(NotImplementedError):
        loop.remove_signal_handler(number)
    signal.signal(number, handler if handler is not None else signal.SIG_DFL)
