"""The command that a cron service runs."""

from __future__ import annotations

from collections.abc import Callable

from workflow.runtime.hosting import RuntimeLike, SweepLimits
from workflow.runtime.sweep_command import run_sweep_command

__all__ = ["DEFAULT_DURATION", "create_cron_command"]

DEFAULT_DURATION = 270.0
"""Seconds. Railway skips a firing while the last one still runs, and fires every five minutes at most."""


def create_cron_command(
    runtime: RuntimeLike,
    *,
    max_duration: float = DEFAULT_DURATION,
    limits: SweepLimits | None = None,
    include_sweep_result: bool = False,
    grace: float = 3.0,
) -> Callable[[], int]:
    """A command that sweeps until nothing is due or `max_duration` seconds are over, and returns the exit code.

    On SIGTERM, which Railway sends before a deploy replaces the service, runs yield; what has not after `grace`
    seconds is handed back. `include_sweep_result` adds the result of every run to the line that it prints, for
    debugging.
    """
    bounds = SweepLimits.of(limits, include_sweep_result=include_sweep_result)

    def command() -> int:
        return run_sweep_command(runtime, host="railway", max_duration=max_duration, limits=bounds, grace=grace)

    return command
