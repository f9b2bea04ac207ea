"""The OpenAPI document, and the app held to it by thousands of generated requests."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import ignored_auth, positive_data_acceptance

import workflow.runtime
from workflow.runtime.http.routes import ROUTES

QUICK = settings(
    max_examples=15,
    deadline=None,
    database=None,
    derandomize=True,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),  # pyright: ignore[reportArgumentType]
)
# That a workflow has a run of its id, or a cursor is one, no schema can say.
# And who has the token is no stranger, as the check on strangers (which we test elsewhere) takes it.
NOT_CHECKED = [positive_data_acceptance, ignored_auth]


def test_the_document_describes_every_route(site: Any):
    """Each route, its bodies and its answers are in the document, which says where the app is."""
    document = site.call("GET", "/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    operations = {operation["operationId"] for path in document["paths"].values() for operation in path.values()}
    assert operations == {route.name for route in ROUTES}
    assert document["servers"] == [{"url": "/"}]
    mounted = site.call("GET", "/api/openapi.json", app=site.app(prefix="/api")).json()
    assert mounted["servers"] == [{"url": "/api"}]


def test_the_references_of_the_document_lead_somewhere(site: Any):
    """Every schema that the document refers to is in it."""
    document = site.call("GET", "/openapi.json").json()

    def references(value: Any) -> set[str]:
        if isinstance(value, dict):
            own = {value["$ref"]} if isinstance(value.get("$ref"), str) else set[str]()
            return own.union(*(references(item) for item in value.values()))
        return set[str]().union(*(references(item) for item in value)) if isinstance(value, list) else set[str]()

    schemas = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    assert references(document) <= schemas


def test_a_run_in_the_store_does_not_import_the_http_api():
    """Who only runs workflows does not wait for the models of the HTTP API."""
    program = "import sys, workflow.runtime as r; print('workflow.runtime.http' in sys.modules); r.WorkflowHTTP"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
    with pytest.raises(AttributeError, match="WorkflowHTTQ"):
        getattr(workflow.runtime, "WorkflowHTTQ")  # noqa: B009


@pytest.mark.parametrize("mode", ["positive", "negative"])
@pytest.mark.slow
def test_generated_requests_never_break_the_app(site: Any, mode: str):
    """Whatever fits the document, and whatever does not, is answered as the document says, and never with a 5xx."""
    app = site.app(max_stream=0.0)
    document = site.call("GET", "/openapi.json", app=app).json()
    for run_id, workflow_id in (("a", "nap"), ("0", "echo"), ("b", "decision"), ("c", "nap")):
        site.call("POST", "/runs", json={"workflow_id": workflow_id, "run_id": run_id})
    for path in document["paths"].values():
        for operation in path.values():
            for parameter in operation["parameters"]:
                if parameter["name"] == "run_id" and mode == "positive":
                    parameter["schema"] = {"enum": ["a", "0", "b", "c", "none"]}  # few made-up ids would be runs
                if parameter["name"] == "schedule_id" and mode == "positive":
                    parameter["schema"] = {"enum": ["nightly", "none"]}
    schema = schemathesis.openapi.from_dict(document)
    schema.app = app
    seen: Counter[int] = Counter()
    generation = schemathesis.GenerationMode(mode)
    for found in schema.get_all_operations():
        assert isinstance(found, Ok)
        strategy = found.ok().as_strategy(generation_mode=generation)

        @QUICK
        @given(case=strategy)
        def check(case: Any) -> None:
            response = case.call(headers={"authorization": f"Bearer {site.token}"})
            seen[response.status_code] += 1
            case.validate_response(response, excluded_checks=NOT_CHECKED)

        check()
    assert sum(seen.values()) >= 15 * len(ROUTES) and {200, 404, 422} <= seen.keys()
