"""The programs in the guides run, and print what the guides say they print."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parent.parent / "docs"
_PROGRAM = re.compile(
    r"```python\n(?P<code>(?:(?!```).)*?asyncio\.run\(main\(\)\)\n)```\n\n```text\n(?P<says>.*?)```", re.S
)


def programs() -> list[tuple[str, str, str]]:
    found: list[tuple[str, str, str]] = []
    for page in sorted(DOCS.glob("*.md")):
        for match in _PROGRAM.finditer(page.read_text("utf-8")):
            found.append((page.name, match["code"], match["says"]))
    return found


PROGRAMS = programs()


def test_the_guides_have_programs() -> None:
    """The pages that are known to hold a whole program are found here, so that none is passed over unseen."""
    assert {"queues.md", "operations.md", "schedules.md", "http.md", "testing.md"} <= {page for page, _, _ in PROGRAMS}


@pytest.mark.parametrize(("page", "code", "says"), PROGRAMS, ids=[page for page, _, _ in PROGRAMS])
def test_a_program_of_a_guide(page: str, code: str, says: str, tmp_path: Path) -> None:
    """A program that is followed by its output runs as it stands, and prints just that."""
    program = tmp_path / "program.py"
    program.write_text(code, "utf-8")
    done = subprocess.run(
        [sys.executable, "-W", "error", program.name], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert (done.stderr, done.stdout) == ("", says)


def test_the_test_of_the_testing_guide(tmp_path: Path) -> None:
    """The test that the guide shows is one, and passes."""
    (code,) = re.findall(
        r"```python\n((?:(?!```).)*?def test_(?:(?!```).)*?)```", (DOCS / "testing.md").read_text("utf-8"), re.S
    )
    (tmp_path / "test_guide.py").write_text(code, "utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-c", os.devnull, "-p", "no:cacheprovider", "test_guide.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "1 passed" in done.stdout, done.stdout + done.stderr
