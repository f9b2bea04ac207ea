"""The OpenAPI 3.1 document of the app, from its routes and models."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from pydantic_core import to_json

from .problems import ProblemAnswer
from .routes import ROUTES, Route

__all__ = ["document"]

_REFERENCE = "#/components/schemas/{model}"
_PROBLEMS = {
    400: "The request is not HTTP or JSON.",
    401: "The bearer token is missing or wrong.",
    404: "There is no such run, workflow or schedule.",
    405: "The path has no such method.",
    409: "The run is in no state for this.",
    413: "The body is too large.",
    415: "The body is not JSON by its content type.",
    422: "The request does not fit.",
    500: "The server is at fault.",
    503: "The store can't be reached. Try again.",
}
_ID = {"type": "string", "minLength": 1, "maxLength": 512, "pattern": r"^[^\x00-\x1f\x7f]+$"}


def document(server: str) -> bytes:
    """The document, as JSON."""
    definitions = _schemas()
    paths: dict[str, dict[str, Any]] = {}
    for route in ROUTES:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, definitions)
    return to_json(
        {
            "openapi": "3.1.0",
            "info": {
                "title": "Workflows",
                "version": _version(),
                "description": "Start, look at and drive durable workflow runs.",
            },
            "servers": [{"url": server}],
            "security": [{"bearer": []}],
            "paths": paths,
            "components": {
                "schemas": definitions["$defs"],
                "securitySchemes": {
                    "bearer": {"type": "http", "scheme": "bearer"},
                    "sweep": {"type": "http", "scheme": "bearer", "description": "Allows sweeps, and nothing else."},
                },
            },
        }
    )


def _version() -> str:
    try:
        return version("workflow-runtime")
    except PackageNotFoundError:  # copied into a bundle without its metadata
        return "unknown"


def _schemas() -> dict[str, Any]:
    bodies: list[type[BaseModel]] = [route.body for route in ROUTES if route.body is not None]
    answers = [model for route in ROUTES for _, model in route.answers.values() if model is not None]
    models: list[tuple[type[BaseModel], Any]] = [(model, "validation") for model in dict.fromkeys(bodies)]
    models += [(model, "serialization") for model in dict.fromkeys([*answers, ProblemAnswer])]
    _, schemas = models_json_schema(models, ref_template=_REFERENCE)
    return schemas


def _operation(route: Route, definitions: dict[str, Any]) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": route.name,
        "summary": route.summary,
        "parameters": _parameters(route),
        "responses": _responses(route),
    }
    if route.body is not None:
        operation["requestBody"] = {"required": route.body_required, "content": _content(route.body)}
    if route.for_sweeps:
        operation["security"] = [{"bearer": []}, {"sweep": []}]
    return operation


def _parameters(route: Route) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    if route.id_name is not None:
        found.append({"name": route.id_name, "in": "path", "required": True, "schema": _ID})
    if route.query is not None:
        schema = route.query.model_json_schema()
        for name, field in schema["properties"].items():
            found.append({"name": name, "in": "query", "required": False, "schema": _not_null(field)})
    if route.name == "stream_events":
        last = {"type": "string", "description": "The id of the last event that was seen."}
        found.append({"name": "Last-Event-ID", "in": "header", "required": False, "schema": last})
    return found


def _not_null(field: dict[str, Any]) -> dict[str, Any]:
    """The schema of a parameter: one that is left out is left out, not null."""
    kinds = [kind for kind in field.get("anyOf", []) if kind != {"type": "null"}]
    return kinds[0] if len(kinds) == 1 else field


def _responses(route: Route) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for status, (description, model) in route.answers.items():
        found[str(status)] = {"description": description}
        if model is not None:
            found[str(status)]["content"] = _content(model)
        elif status == 200:
            kind = "text/event-stream" if route.name == "stream_events" else "application/json"
            found[str(status)]["content"] = {kind: {"schema": {}}}
    common = (400, 401, 413, 415, 422) if route.body is not None else (401, 422)
    for status in sorted({*common, *route.problems, 500, 503}):
        content = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/ProblemAnswer"}}}
        found[str(status)] = {"description": _PROBLEMS[status], "content": content}
    return found


def _content(model: type[BaseModel]) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{model.__name__}"}}}
