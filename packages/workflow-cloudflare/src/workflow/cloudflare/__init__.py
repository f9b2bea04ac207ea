"""Durable workflows in Cloudflare's Python Workers: `scheduled()` sweeps, `fetch()` starts, signals and shows runs.

    sweep = create_scheduled_handler(make_runtime)
    serve = create_fetch_handler(make_runtime, token=lambda env: env.WORKFLOW_TOKEN)

    class Default(WorkerEntrypoint):
        async def scheduled(self, controller, env, ctx):
            await sweep(controller, self.env, self.ctx)

        async def fetch(self, request):
            return await serve(request, self.env, self.ctx)

`make_runtime(env)` makes a `WorkflowRuntime`, with a `D1Store(env.DB)`, for one invocation.
"""

from .fetch import create_fetch_handler
from .invocation import FREE_PLAN, PAID_PLAN, MakeRuntime
from .scheduled import create_scheduled_handler

__all__ = ["FREE_PLAN", "PAID_PLAN", "MakeRuntime", "create_fetch_handler", "create_scheduled_handler"]
