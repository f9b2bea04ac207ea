"""Errors as problem details (RFC 9457), and which error of ours is which."""

from __future__ import annotations

import logging
from typing import Any
from uuid import uuid4

from pydantic import BaseModel, Field, ValidationError

from workflow.core import (
    InvalidArgumentError,
    PayloadError,
    RunNotFoundError,
    StoreError,
    WorkflowError,
)
from workflow.runtime.hosting import is_temporary
from workflow.runtime.schedules.views import ScheduleNotFoundError

__all__ = ["Problem", "ProblemAnswer", "problem_of"]

logger = logging.getLogger("workflow.http")

_TITLES = {
    400: "Bad request",
    401: "Not authenticated",
    404: "Not found",
    405: "Method not allowed",
    409: "Conflict",
    413: "Body too large",
    415: "Unsupported media type",
    422: "Invalid request",
    500: "Internal error",
    503: "Temporarily unavailable",
}
_RETRY_AFTER = "5"
_MAX_ERRORS = 20


class FieldError(BaseModel):
    """One thing that is wrong with a request."""

    location: str
    message: str


class ProblemAnswer(BaseModel):
    """Problem details (RFC 9457). `code` is a stable word for the kind of error."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str | None = None
    code: str
    errors: list[FieldError] | None = None
    error_id: str | None = Field(default=None, description="Where to look in the log of the server.")


class Problem(Exception):  # noqa: N818 - the word of RFC 9457
    """An answer that is an error."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str | None = None,
        *,
        errors: list[FieldError] | None = None,
        headers: dict[str, str] | None = None,
        error_id: str | None = None,
    ) -> None:
        super().__init__(detail or code)
        self.status = status
        self.headers = headers or {}
        self.answer = ProblemAnswer(
            title=_TITLES[status], status=status, detail=detail, code=code, errors=errors, error_id=error_id
        )

    @classmethod
    def invalid(cls, error: ValidationError, where: str) -> Problem:
        """What pydantic found wrong. Values are not repeated: they may be secrets, or large."""
        found = error.errors(include_url=False, include_input=False, include_context=False)[:_MAX_ERRORS]
        if found and found[0]["type"] == "json_invalid":
            return cls(400, "invalid_json", _clean(found[0]["msg"]))
        errors = [
            FieldError(location=_clean("/".join([where, *map(str, item["loc"])])), message=_clean(item["msg"]))
            for item in found
        ]
        return cls(422, "invalid_request", f"The {where} does not fit.", errors=errors)


def problem_of(error: Exception) -> Problem:
    """The answer to an error of the runtime or the store. What is nobody's fault outside is logged, and not told."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, (RunNotFoundError, ScheduleNotFoundError)):
        return Problem(404, error.code, str(error))
    if isinstance(error, (InvalidArgumentError, PayloadError)):
        return Problem(422, error.code, _clean(str(error)))
    error_id = uuid4().hex
    logger.error("A request failed (error_id %s)", error_id, exc_info=error)
    if is_temporary(error):
        detail = "The store could not be reached. Try again."
        return Problem(503, "unavailable", detail, headers={"retry-after": _RETRY_AFTER}, error_id=error_id)
    if isinstance(error, StoreError):
        return Problem(500, error.code, "The store can't be used: the log of the server says why.", error_id=error_id)
    code = error.code if isinstance(error, WorkflowError) else "internal"
    return Problem(500, code, "The log of the server says why.", error_id=error_id)


def _clean(text: Any) -> str:
    """A text that JSON can hold, whatever the request held."""
    return str(text).encode("utf-8", "backslashreplace").decode()
