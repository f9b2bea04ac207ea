"""The programs in the guides run, and print what the guides say they print."""

from __future__ import annotations

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
    assert {"queues.md", "operations.md", "schedules.md"} <= {page for page, _, _ in PROGRAMS}


@pytest.mark.parametrize(("page", "code", "says"), PROGRAMS, ids=[page for page, _, _ in PROGRAMS])
def test_a_program_of_a_guide(page: str, code: str, says: str, tmp_path: Path) -> None:
    """A program that is followed by its output runs as it stands, and prints just that."""
    program = tmp_path / "program.py"
    program.write_text(code, "utf-8")
    done = subprocess.run(
        [sys.executable, "-W", "error", program.name], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert (done.stderr, done.stdout) == ("", says)
