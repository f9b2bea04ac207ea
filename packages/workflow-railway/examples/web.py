"""The HTTP API of the same runs: a web service beside the cron service.

uvicorn web:app --host 0.0.0.0 --port 8000
"""

import os

from app import runtime

from workflow.runtime import WorkflowHTTP

app = WorkflowHTTP(runtime, token=os.environ.get("WORKFLOW_TOKEN"))
