"""The example Worker is one that can be deployed: its files fit this tree and each other."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

from workflow.store.d1.schema import wrangler_file
from workflow.store.sqlite.schema import migrations

ROOT = Path(__file__).parents[3]
EXAMPLE = Path(__file__).parents[1] / "examples" / "worker"
GUIDE = ROOT / "docs" / "deploy" / "cloudflare.md"


def read_toml(name: str) -> dict[str, Any]:
    return tomllib.loads((EXAMPLE / name).read_text("utf-8"))


def test_its_migrations_are_those_of_the_store() -> None:
    """What wrangler applies makes the schema that the store of this tree asks for."""
    files = {path.name: path.read_text("utf-8") for path in (EXAMPLE / "migrations").iterdir()}
    assert files == dict(wrangler_file(migration) for migration in migrations())


def test_its_packages_come_from_this_tree() -> None:
    """All that it needs of ours is taken from the wheels, never from the index, which has a foreign one."""
    project = read_toml("pyproject.toml")
    (index,) = [index for index in project["tool"]["uv"]["index"] if index["name"] == "workflow"]
    assert index["explicit"] is True
    names = set(project["project"]["dependencies"])
    assert project["tool"]["uv"]["sources"] == {name: {"index": "workflow"} for name in names}
    assert frozenset().union(*map(siblings, names)) <= names


def siblings(name: str) -> frozenset[str]:
    """What one of our distributions requires of the others."""
    project = tomllib.loads((ROOT / "packages" / name / "pyproject.toml").read_text("utf-8"))["project"]
    return frozenset(need.split("==")[0] for need in project["dependencies"] if need.startswith("workflow-"))


def test_its_configuration_fits_its_code() -> None:
    """The entry, the database, the trigger and the secret of the code are those of wrangler.toml and the guide."""
    wrangler = read_toml("wrangler.toml")
    code = "".join(path.read_text("utf-8") for path in (EXAMPLE / "src").iterdir() if path.suffix == ".py")
    bound = {database["binding"] for database in wrangler["d1_databases"]}
    assert (EXAMPLE / wrangler["main"]).is_file()
    assert {"python_workers", "python_workers_314"} <= set(wrangler["compatibility_flags"])
    assert wrangler["triggers"]["crons"] == ["* * * * *"]
    guide = GUIDE.read_text("utf-8")
    for name in re.findall(r"env\.([A-Z_]+)", code):
        assert name in bound or f"wrangler secret put {name}" in guide


def test_the_guide_names_what_there_is() -> None:
    """The database and the wheels of the guide's commands are those of the example."""
    guide = GUIDE.read_text("utf-8")
    (database,) = read_toml("wrangler.toml")["d1_databases"]
    assert f"wrangler d1 create {database['database_name']}" in guide
    (wheels,) = re.findall(r"cp dist/workflow_\{([\w,]+)\}", guide)
    names = {f"workflow-{name.replace('_', '-')}" for name in wheels.split(",")}
    assert names == set(read_toml("pyproject.toml")["project"]["dependencies"])
