"""How a drive leaves a handler that has not ended."""

from __future__ import annotations

__all__ = ["Suspension"]


class Suspension(BaseException):
    """Thrown into a handler, and raised by `call_next` in middleware, when the run pauses here.

    Not an `Exception`, so that `except Exception` never sees it.
    """

    def __init__(self) -> None:
        super().__init__(
            "The run pauses here and goes on in a later drive; nothing has failed. Don't catch BaseException around "
            "ctx "
            "calls: write `except Exception` (or `except asyncio.CancelledError` for a cancelled run), or re-raise it. "
            "Clean up with `finally` or `async with`."
        )
