"""boto3, when it is needed: importing it takes longer than all the rest of a cold start."""

from __future__ import annotations

import importlib
from typing import Any

__all__ = ["make_client"]


def make_client(service: str) -> Any:
    """A client of boto3, in the region and with the rights of the function."""
    try:
        boto3: Any = importlib.import_module("boto3")
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            'boto3 is needed here: pip install "workflow-aws-lambda[aws]"', name="boto3"
        ) from error
    return boto3.client(service)
