"""boto3, when it is needed: importing it takes longer than all the rest of a cold start."""

from __future__ import annotations

import importlib
from typing import Any

__all__ = ["make_client"]


def make_client(service: str, *, connect_timeout: float = 5, read_timeout: float = 10, attempts: int = 4) -> Any:
    """A client of boto3, in the region and with the rights of the function. Times are seconds, for each attempt."""
    try:
        boto3: Any = importlib.import_module("boto3")
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            'boto3 is needed here: pip install "workflow-aws-lambda[aws]"', name="boto3"
        ) from error
    config: Any = importlib.import_module("botocore.config").Config(
        connect_timeout=connect_timeout,
        read_timeout=read_timeout,
        retries={"mode": "standard", "total_max_attempts": attempts},
    )
    return boto3.client(service, config=config)
