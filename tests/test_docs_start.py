"""The guide for beginners can be followed line by line."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).resolve().parent.parent / "docs" / "start.md"
_BLOCK = re.compile(r"```(?P<kind>python|console)\n(?P<text>.*?)```", re.S)


def blocks(kind: str) -> list[str]:
    return [match["text"] for match in _BLOCK.finditer(PAGE.read_text("utf-8")) if match["kind"] == kind]


def commands() -> list[tuple[str, str]]:
    """Each command with what it says, from the first run to where a second terminal is needed."""
    text = "".join(block for block in blocks("console")).partition("$ export WORKFLOW_APP")[2]
    parts = text.partition("$ workflow worker")[0].split("\n$ ")[1:]
    return [(command, says.strip()) for command, _, says in (part.partition("\n") for part in parts)]


def alike(text: str) -> list[str]:
    """Without what differs from run to run: times, lengths of time, and the bars and gaps that they make."""
    text = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "TIME", text)
    text = re.sub(r"in [\d dhmins]+ \(", "in LENGTH (", text)
    text = re.sub(r"\b\d+(\.\d)? (ms|s)\b", "LENGTH", text)
    return [re.sub(r"[ ●━╺]+", " ", line).strip() for line in text.strip().splitlines()]


def test_the_guide_can_be_followed(tmp_path: Path) -> None:
    """The files and commands of docs/start.md do what the page says, up to times."""
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "__init__.py").touch()
    files = [block for block in blocks("python") if block.startswith("# app/")]
    for file in files:
        (tmp_path / file.split()[1]).write_text(file, "utf-8")
    assert len(files) == 2
    (tmp_path / "workflow").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m workflow.runtime "$@"\n')
    (tmp_path / "workflow").chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}",
        "WORKFLOW_APP": "app.runtime:runtime",
        "COLUMNS": "120",
        "PYTHONIOENCODING": "utf-8",
        "PYTHONUNBUFFERED": "1",
    }
    followed = commands()
    assert len(followed) == 7
    for command, says in followed:
        done = subprocess.run(
            ["sh", "-c", command], cwd=tmp_path, env=environment, capture_output=True, encoding="utf-8", timeout=60
        )
        assert (done.returncode, done.stderr) == (0, ""), command
        assert alike(done.stdout) == alike(says), command
