"""What type checkers infer, checked by pyright on `typing/*.py`: no error where none is meant, one where one is."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

SAMPLES = sorted((Path(__file__).parent / "typing").glob("*.py"))


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("pyright") is None, reason="pyright is not installed (group `types`)")
def test_pyright_infers_what_the_samples_assert() -> None:
    """Each `assert_type` holds, and each line that is wrong on purpose is an error (an ignore too many is one too)."""
    assert len(SAMPLES) == 2
    command = [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable, *map(str, SAMPLES)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout.startswith("{"), done.stdout + done.stderr
    report = json.loads(done.stdout)
    wrong = [
        f"{Path(found['file']).name}:{found['range']['start']['line'] + 1}: {found['message']}"
        for found in report["generalDiagnostics"]
    ]
    assert report["summary"]["filesAnalyzed"] == 2
    assert wrong == []
