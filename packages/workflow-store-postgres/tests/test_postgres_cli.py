"""The command line on PostgreSQL: the story of a new user, as on SQLite."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

pytest.importorskip("click", reason="the command line is an extra")

KIT = Path(__file__).parents[2] / "workflow-runtime" / "tests" / "cli_kit.py"


def load_kit() -> ModuleType:
    """The helpers of the runtime's own tests, which lie in a folder that is no package."""
    spec = importlib.util.spec_from_file_location("cli_kit_for_postgres", KIT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_every_verb_on_postgres(tmp_path: Path, postgres_url: str, schema: str) -> None:
    """From a schema that is not there to finished runs: each command does on PostgreSQL what it does on SQLite."""
    kit = load_kit()
    environment = {"CLI_APP_POSTGRES": postgres_url, "CLI_APP_SCHEMA": schema}
    kit.story(kit.Terminal(tmp_path, environment=environment))


def test_a_database_that_is_away_is_an_error(tmp_path: Path) -> None:
    """A database that can't be reached is said to be so, and the exit code is 3."""
    kit = load_kit()
    environment = {"CLI_APP_POSTGRES": "postgresql://nobody@127.0.0.1:1/none", "CLI_APP_SCHEMA": "public"}
    terminal = kit.Terminal(tmp_path, app="cli_app:make_runtime", environment=environment)
    answer = terminal("runs", "list", "--json")
    assert (answer.code, answer.document["error"]["code"]) == (3, "store_unavailable")
