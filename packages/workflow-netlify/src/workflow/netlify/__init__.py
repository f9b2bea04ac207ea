"""Durable workflows beside a Netlify site: its scheduled function wakes a Python app that runs elsewhere.

python -m workflow.netlify init
app = create_sweep_app(runtime, secret=os.environ["WORKFLOW_SWEEP_SECRET"])
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .app import create_sweep_app

__all__ = ["create_sweep_app"]


def __getattr__(name: str) -> Any:
    # Late: what writes files into a site needs no runtime.
    if name == "create_sweep_app":
        from .app import create_sweep_app

        return create_sweep_app
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
