"""The Worker: what Cloudflare calls."""

from app import make_runtime
from workers import WorkerEntrypoint  # pyright: ignore[reportMissingImports]

from workflow.cloudflare import create_fetch_handler, create_scheduled_handler

sweep = create_scheduled_handler(make_runtime)
serve = create_fetch_handler(make_runtime, token=lambda env: env.WORKFLOW_TOKEN)


class Default(WorkerEntrypoint):
    async def scheduled(self, controller, env, ctx):
        await sweep(controller, self.env, self.ctx)

    async def fetch(self, request):
        return await serve(request, self.env, self.ctx)
