"""Durable workflows on Vercel: a cron route that sweeps, and an HTTP API beside it.

app = create_sweep_app(runtime, cron_secret=os.environ["CRON_SECRET"])
"""

from .apps import create_app, create_sweep_app

__all__ = ["create_app", "create_sweep_app"]
