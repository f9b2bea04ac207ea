"""Durable workflows on Railway: a cron service that sweeps until nothing is due, and exits.

    python -m workflow.railway app:runtime

or, in a script of one's own: `sys.exit(create_cron_command(runtime)())`.
"""

from .command import DEFAULT_DURATION, create_cron_command

__all__ = ["DEFAULT_DURATION", "create_cron_command"]
