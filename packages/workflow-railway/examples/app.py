"""Reminders: a run sleeps, a cron service on Railway wakes it.

railway up        # with the railway.toml beside this file
"""

import asyncio
import os
from datetime import timedelta

from pydantic import BaseModel

from workflow.core import Context, create_workflow
from workflow.runtime import WorkflowRuntime
from workflow.runtime.contract import ExecutionStore


class Reminder(BaseModel):
    text: str
    after_seconds: float = 0.0
    rounds: int = 1


async def send(text: str, seconds: float) -> str:
    await asyncio.sleep(seconds)
    return f"sent: {text}"


@create_workflow(id="reminder")
async def reminder(ctx: Context[Reminder]) -> int:
    await ctx.sleep(timedelta(seconds=ctx.input.after_seconds))
    for number in range(ctx.input.rounds):
        await ctx.step(f"send-{number}", send, ctx.input.text, 0.1 if ctx.input.rounds > 1 else 0.0)
    return ctx.input.rounds


def make_store() -> ExecutionStore:
    url = os.environ["DATABASE_URL"]
    if url.startswith("sqlite:"):  # to try it at home: Railway keeps no files between firings
        from workflow.store.sqlite import SQLiteStore

        return SQLiteStore(url.removeprefix("sqlite:"))
    from workflow.store.postgres import PostgresStore

    return PostgresStore(url, retry_for=float(os.environ.get("DATABASE_RETRY_SECONDS", "5")))


def runtime() -> WorkflowRuntime:
    return WorkflowRuntime(make_store(), [reminder])
